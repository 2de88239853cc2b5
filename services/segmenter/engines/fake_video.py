"""A deterministic video engine without a model: color words, and tracks by overlap.

A phrase's color word finds connected areas of it, as the image's fake does; an object is the area
of its color that overlaps its last mask most, or has its color and lies nearest where none does.
Frames are seen at their own size. Numpy only.
"""

import json
import time
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.segmenter.engines import Embedding, Pair
from services.segmenter.engines.fake import FakeSegmenterEngine, Rgb, areas_of_color, color_of
from services.segmenter.video.engine import (
    Clicks,
    ObjectMask,
    ObjectRecall,
    ObjectStart,
    Observation,
    TrackingPolicy,
    VideoTraits,
)
from services.segmenter.video.settings import VideoSettings

_SURE = np.float32(8.0)
# Larger frames are seen through every second, third, ... pixel.
_MAX_SIDE = 256
# How far an object may have moved that is not where it was, in its own greatest extents.
_REACH = 2.0


class RememberedArea(NamedTuple):
    """A mask packed in bits, and its size."""

    bits: NDArray[np.uint8]
    shape: tuple[int, int]


class FakeVideoEngine(FakeSegmenterEngine):
    """See `services.segmenter.video.engine.VideoEngine`; a step takes `settings.fake_delay_s`."""

    def __init__(self, settings: VideoSettings) -> None:
        super().__init__(settings)
        self._follow_motion = bool(settings.follow_motion)
        self._track_s = chain([0.0], repeat(settings.fake_delay_s))

    def describe(self) -> VideoTraits:
        traits = super().describe()
        return VideoTraits(
            model=traits.model,
            image_size=None,
            max_tokens=traits.max_tokens,
            count_tokens=traits.count_tokens,
            policy=TrackingPolicy(fill_area=0, follow_motion=self._follow_motion),
            recent_memories=6,
            conditioning_memories=4,
            pointers=16,
            frame_bytes=0,
            memory_bytes=64 * 1024,
            pointer_bytes=6,
        )

    def encode_frames(self, images: Sequence[Any]) -> list[Embedding]:
        steps = [-(-max(image.shape[1:]) // _MAX_SIDE) for image in images]
        return self.encode_images(
            [image[:, ::step, ::step] for image, step in zip(images, steps, strict=True)]
        )

    def encode_exemplars(self, pairs: Sequence[Pair]) -> list[Embedding]:
        return [Embedding(_named(color_of(pair)), 3) for pair in pairs]

    def track(self, recalls: Sequence[ObjectRecall]) -> list[ObjectMask]:
        time.sleep(next(self._track_s))
        return [_found(recall) for recall in recalls]

    def prompt(self, prompts: Sequence[ObjectStart]) -> list[ObjectMask]:
        return [_begun(prompt) for prompt in prompts]

    def memorize(self, observations: Sequence[Observation]) -> list[Embedding]:
        memories = []
        for observation in observations:
            mask = observation.logits > 0
            bits = np.packbits(mask)
            height, width = mask.shape
            memories.append(Embedding(RememberedArea(bits, (height, width)), bits.nbytes))
        return memories

    def dump(self, embedding: Embedding) -> bytes:
        match embedding.data:
            case RememberedArea(bits, shape):
                written = {"bits": bits.tolist(), "shape": shape}
            case str() as text:
                written = {"text": text}
            case color:
                written = {"color": color.tolist()}
        return json.dumps(written).encode()

    def restore(self, content: bytes) -> Embedding:
        match json.loads(content):
            case {"bits": bits, "shape": [int() as height, int() as width]}:
                packed = np.array(bits, np.uint8)
                return Embedding(RememberedArea(packed, (height, width)), packed.nbytes)
            case {"text": str() as text}:
                return Embedding(text, len(text.encode()))
            case {"color": color}:
                return Embedding(np.array(color, np.int16), 6)
        raise ValueError("these are no embedding")


def _found(recall: ObjectRecall) -> ObjectMask:
    rgb: Rgb = recall.frame.data
    if recall.clicks is not None:
        return _begun(ObjectStart(recall.frame, clicks=recall.clicks))
    color = min(recall.pointers, key=lambda entry: entry[0])[1]
    areas = areas_of_color(rgb, color.data)
    for _, memory in reversed(recall.memories):
        before = _unpacked(memory.data, rgb.shape[:2])
        if before.any():
            return _answer(_nearest(before, areas), rgb.shape[:2], color)
    return _answer(None, rgb.shape[:2], color)


def _nearest(before: NDArray[np.bool_], areas: list[NDArray[np.bool_]]) -> NDArray[np.bool_] | None:
    """The area that overlaps `before` most, else the nearest in reach."""
    overlaps = [int((area & before).sum()) for area in areas]
    if any(overlaps):
        return areas[int(np.argmax(overlaps))]
    center, extent = _center(before)
    distances = [float(np.abs(_center(area)[0] - center).max()) for area in areas]
    if distances and min(distances) <= _REACH * extent:
        return areas[int(np.argmin(distances))]
    return None


def _center(mask: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """The mean (y, x) of a mask's pixels, and its greater extent."""
    at = np.argwhere(mask)
    return at.mean(0), float((at.max(0) - at.min(0) + 1).max())


def _begun(prompt: ObjectStart) -> ObjectMask:
    rgb: Rgb = prompt.frame.data
    given = None if prompt.mask is None else _stretched(prompt.mask > 0.5, rgb.shape[:2])
    mask = _clicked(prompt.clicks, rgb) if given is None else given
    if mask is None or not mask.any():
        return _answer(None, rgb.shape[:2], Embedding(np.zeros(3, np.int16), 6))
    color = np.median(rgb[mask], axis=0).astype(np.int16)
    return _answer(mask, rgb.shape[:2], Embedding(color, color.nbytes))


def _clicked(clicks: Clicks | None, rgb: Rgb) -> NDArray[np.bool_] | None:
    """The area of one color around the first positive point, or around a box's middle."""
    if clicks is None:
        return None
    corners = clicks.points[clicks.labels >= 2]
    point = corners.mean(0) if len(corners) else clicks.points[clicks.labels == 1][0]
    height, width = rgb.shape[:2]
    row = min(height - 1, int(point[1] * height))
    column = min(width - 1, int(point[0] * width))
    areas = areas_of_color(rgb, rgb[row, column])
    return next((area for area in areas if area[row, column]), None)


def _answer(
    mask: NDArray[np.bool_] | None, shape: tuple[int, int], pointer: Embedding
) -> ObjectMask:
    if mask is None:
        return ObjectMask(np.full(shape, -_SURE, np.float32), -float(_SURE), pointer)
    return ObjectMask(np.where(mask, _SURE, -_SURE).astype(np.float32), float(_SURE), pointer)


def _unpacked(memory: RememberedArea, shape: tuple[int, int]) -> NDArray[np.bool_]:
    height, width = memory.shape
    bits = np.unpackbits(memory.bits, count=height * width).astype(np.bool_)
    return _stretched(bits.reshape(height, width), shape)


def _stretched(mask: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """`mask` seen at another size, by the nearest pixel."""
    if mask.shape == shape:
        return mask
    rows = np.arange(shape[0]) * mask.shape[0] // shape[0]
    columns = np.arange(shape[1]) * mask.shape[1] // shape[1]
    stretched: NDArray[np.bool_] = mask[rows[:, None], columns]
    return stretched


def _named(color: Rgb | None) -> str | Rgb:
    return "visual" if color is None else color
