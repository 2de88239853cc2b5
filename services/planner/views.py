"""The pictures that prompts hold, made from what callers sent; for a pool's threads.

Flow: image bytes (and candidates) -> `decode` -> shrunk, marked (`marks`) -> `PromptImage`s.
The engine resizes once more, to what its model sees; what is done here keeps that step, which all
callers wait for, small.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limelight.masks import decode_rle
from limelight.paths import FieldPath
from limelight.values import RLE
from services.codecs.images import content_hash
from services.deadline import Deadline
from services.domain import Candidate
from services.errors import InvalidRequest, Reason
from services.planner.engines import PromptImage
from services.planner.marks import numbered_overview, zoomed_candidate
from services.replica.decoding import ImageDecoder

CANDIDATES = FieldPath(("candidates",))

# The largest image a Gemma 4 can be shown: 1120 soft tokens of 48 x 48 pixels.
MODEL_PIXELS = 1120 * 48 * 48


@dataclass(frozen=True, slots=True)
class Views:
    """The pictures of a review: all candidates numbered, and each close up, in their order."""

    overview: PromptImage
    closeups: tuple[PromptImage, ...]


def whole_picture(
    content: bytes, decoder: ImageDecoder, deadline: Deadline, key: str
) -> PromptImage:
    """The encoded image `content` as a picture of `key`.

    Raises:
        InvalidMedia, TooLarge: it cannot be decoded.
        DeadlinePassed: before it was.
    """
    rgb = decoder.decode(content, deadline)
    return PromptImage(shrunk_image(rgb, _factor(rgb)), key)


def draw_views(
    content: bytes, candidates: Sequence[Candidate], decoder: ImageDecoder, deadline: Deadline
) -> Views:
    """The pictures for a review of `candidates` of the encoded image `content`.

    Raises:
        InvalidMedia, TooLarge: the image cannot be decoded.
        InvalidRequest: a mask cannot be, is empty, or is not of the image's size.
        DeadlinePassed: it did, before the image was decoded or between two candidates.
    """
    rgb = decoder.decode(content, deadline)
    key = _key(content, [candidate.mask for candidate in candidates])
    factor = _factor(rgb)
    closeups: list[PromptImage] = []
    masks: list[NDArray[np.bool_]] = []
    # One full-size mask at a time: 64 of them of a large image would be gigabytes.
    for index, candidate in enumerate(candidates):
        deadline.check()
        mask = _mask(candidate.mask, rgb.shape[:2], CANDIDATES / index / "mask")
        closeup = zoomed_candidate(rgb, mask)
        closeups.append(PromptImage(shrunk_image(closeup, _factor(closeup)), f"{key}/{index}"))
        masks.append(shrunk_mask(mask, factor))
    overview = numbered_overview(shrunk_image(rgb, factor), masks)
    return Views(PromptImage(overview, key), tuple(closeups))


def shrunk_image(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """`rgb` with both sides divided by `factor`, rounded up; each pixel the mean of its block."""
    return rgb if factor == 1 else np.asarray(Image.fromarray(rgb).reduce(factor))


def shrunk_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """As `shrunk_image`, true where any pixel of the block is, so that no mask vanishes."""
    if factor == 1:
        return mask
    height, width = (-(-side // factor) for side in mask.shape)
    padded = np.zeros((height * factor, width * factor), np.bool_)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    blocks = padded.reshape(height, factor, width, factor)
    shrunk: NDArray[np.bool_] = np.logical_or.reduce(blocks, axis=(1, 3))
    return shrunk


def _factor(rgb: NDArray[np.uint8]) -> int:
    """How far `rgb` can be shrunk and still have all the pixels that any Gemma 4 sees."""
    return max(1, math.isqrt(rgb.shape[0] * rgb.shape[1] // MODEL_PIXELS))


def _mask(rle: RLE, shape: tuple[int, ...], field: FieldPath) -> NDArray[np.bool_]:
    if rle.size != shape:
        raise _invalid(
            f"the mask is {rle.size[1]} x {rle.size[0]} pixels, the image {shape[1]} x {shape[0]}",
            field,
        )
    mask = decode_rle(rle, field=field)
    if not mask.any():
        raise _invalid("the mask is empty", field)
    return mask


def _key(content: bytes, masks: Sequence[RLE]) -> str:
    """Names the pictures of a review; run lengths never hold a blank, so it separates them."""
    return content_hash(b" ".join([content_hash(content).encode(), *(m.counts for m in masks)]))


def _invalid(message: str, field: FieldPath) -> InvalidRequest:
    return InvalidRequest(Reason.CANDIDATE_INVALID, message, field=field)
