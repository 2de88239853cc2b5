"""A deterministic engine without a model: a phrase's color word finds connected areas of it.

"the red thing" finds every connected area of red pixels, "visual" those of the color within the
first positive exemplar box; negative ones change nothing. It sees images at their own size, so
shapes drawn by a test are found exactly. A phrase without a color is absent. Numpy only.
"""

import re
import time
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limelight.values import ModelInfo
from services.segmenter.engines import Embedding, Pair, RawDetections, SegmenterTraits
from services.segmenter.settings import SegmenterSettings

_COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "orange": (255, 128, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "grey": (128, 128, 128),
}
# Greatest difference a channel may have from its color; leaves room for JPEG.
_TOLERANCE = 60
# Areas of fewer pixels are noise.
_MIN_AREA = 16
_MAX_OBJECTS = 64
_SURE = 8.0

Rgb = NDArray[np.int16]
Mask = NDArray[np.bool_]


class FakeSegmenterEngine:
    """See `services.segmenter.engines.Engine`. `settings.fake_delay_s` is the time of a step."""

    def __init__(self, settings: SegmenterSettings) -> None:
        # The first step of each kind is the warm-up's.
        self._encode_s = chain([0.0], repeat(settings.fake_delay_s))
        self._detect_s = chain([0.0], repeat(settings.fake_delay_s))

    def load(self) -> None:
        """There is nothing to read."""

    def close(self) -> None:
        """There is nothing to let go of."""

    def describe(self) -> SegmenterTraits:
        return SegmenterTraits(
            model=ModelInfo(role="segmenter", name="colors", revision="1", engine="fake"),
            image_size=None,
            max_tokens=32,
            count_tokens=lambda phrase: len(phrase.split()) + 2,
        )

    def encode_images(self, images: Sequence[Any]) -> list[Embedding]:
        time.sleep(next(self._encode_s))
        return [_embedding(np.asarray(image)) for image in images]

    def encode_texts(self, phrases: Sequence[str]) -> list[Embedding]:
        return [Embedding(phrase, len(phrase.encode())) for phrase in phrases]

    def detect(self, pairs: Sequence[Pair]) -> list[RawDetections]:
        time.sleep(next(self._detect_s))
        return [_detect(pair) for pair in pairs]


def _embedding(image: NDArray[np.uint8]) -> Embedding:
    rgb = image.astype(np.int16).transpose(1, 2, 0)
    return Embedding(rgb, rgb.nbytes)


def _detect(pair: Pair) -> RawDetections:
    rgb: Rgb = pair.image.data
    height, width = rgb.shape[:2]
    color = color_of(pair)
    found = [] if color is None else areas_of_color(rgb, color)
    masks = np.where(np.stack(found), _SURE, -_SURE) if found else np.zeros((0, height, width))
    return RawDetections(
        # Larger areas first, so that the order of the answer is known.
        logits=np.float32(4.0) - np.float32(0.01) * np.arange(len(found), dtype=np.float32),
        presence=np.float32(_SURE if found else -_SURE),
        boxes=np.array([_box(mask) for mask in found], np.float32).reshape(-1, 4),
        masks=masks.astype(np.float32),
    )


def areas_of_color(rgb: Rgb, color: Rgb) -> list[Mask]:
    """The connected areas of about `color`, (3,), in `rgb`, (h, w, 3), largest first."""
    return _areas(np.abs(rgb - color).max(2) <= _TOLERANCE)


def color_of(pair: Pair) -> Rgb | None:
    """The color that the pair's phrase names, else that in its first exemplar; (3,)."""
    rgb: Rgb = pair.image.data
    if not isinstance(pair.text.data, str):
        color: Rgb = pair.text.data
        return color
    for word in re.findall(r"[a-z]+", pair.text.data.lower()):
        if word in _COLORS:
            return np.array(_COLORS[word], np.int16)
    for box, label in zip(pair.boxes, pair.labels, strict=True):
        if label:
            rows, columns = _pixels(box, rgb)
            middle: Rgb = np.median(rgb[rows, columns].reshape(-1, 3), axis=0).astype(np.int16)
            return middle
    return None


def _pixels(box: NDArray[np.float32], rgb: Rgb) -> tuple[slice, slice]:
    """The rows and columns of an exemplar, at least one of each."""
    height, width = rgb.shape[:2]
    cx, cy, w, h = box
    y0, x0 = int((cy - h / 2) * height), int((cx - w / 2) * width)
    return (
        slice(y0, max(y0 + 1, round(float(cy + h / 2) * height))),
        slice(x0, max(x0 + 1, round(float(cx + w / 2) * width))),
    )


def _box(mask: Mask) -> list[float]:
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [
        columns[0] / width,
        rows[0] / height,
        (columns[-1] + 1) / width,
        (rows[-1] + 1) / height,
    ]


def _areas(mask: Mask) -> list[Mask]:
    """The 4-connected areas of `mask`, largest first.

    Runs of each row are joined with the runs they touch in the row above (union-find).
    """
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    parent = np.arange(rows.size)

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = int(parent[run])
        return run

    first_of_row = np.searchsorted(rows, np.arange(mask.shape[0] + 1))
    for row in range(1, mask.shape[0]):
        above, below = int(first_of_row[row - 1]), int(first_of_row[row])
        above_end, below_end = below, int(first_of_row[row + 1])
        while above < above_end and below < below_end:
            if starts[above] < ends[below] and starts[below] < ends[above]:
                parent[root(below)] = root(above)
            if ends[above] < ends[below]:
                above += 1
            else:
                below += 1
    roots = np.array([root(run) for run in range(rows.size)], int)
    sizes = np.bincount(roots, weights=ends - starts, minlength=rows.size)
    order = np.argsort(-sizes, kind="stable")[:_MAX_OBJECTS]
    areas = []
    for area in order[sizes[order] >= _MIN_AREA]:
        drawn = np.zeros_like(mask)
        for run in np.flatnonzero(roots == area):
            drawn[rows[run], starts[run] : ends[run]] = True
        areas.append(drawn)
    return areas
