"""What tracked objects look like, to tell two of one kind apart: a small upright picture of each.

A template of colors inside the object's mask, stretched from its box to a square and followed
slowly, as correlation trackers keep one. It is compared with a new sighting where both are seen, at
the best of some places nearby, so that a box that is off by a pixel costs nothing. Coarse on
purpose: it must only tell one of two equal dogs from the other, by how it stands, faces and is lit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.codecs.images import Rgb
from services.segmenter.video.motion import Placing

_FRAME = 160  # side of a frame of which looks are taken
_SIDE = 16  # of a look
LOOK_SHAPE = (_SIDE, _SIDE, 3)
# Of a look, the share that a new sighting replaces.
_RATE = 0.2
# A sighting that differs by more than this, of 0 to 1, teaches nothing: something is before it.
_STRANGE = 0.2
# The least share of a look that must be seen to say anything.
_LEAST = 0.08
# Places at which a look is tried: a step of its own grid to each side.
_SHIFTS = np.array([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]) / _SIDE
_GRID = (np.arange(_SIDE) + 0.5) / _SIDE - 0.5


@dataclass(frozen=True, slots=True, eq=False)
class ObjectLook:
    """What one object looks like.

    Attributes:
        colors: RGB of 0 to 1, float32 (16, 16, 3), over the object's box.
        solid: the share of sightings in which a pixel was the object's, float32 (16, 16).
    """

    colors: NDArray[np.float32]
    solid: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.colors.nbytes + self.solid.nbytes


def small_frame(image: NDArray[np.uint8]) -> Rgb:
    """What looks are taken from, uint8 (h, w, 3), of a frame as the model is given it, uint8
    (3, H, W): each side shrunk by a whole factor to 160 pixels or a little more.
    """
    down, across = (max(1, side // _FRAME) for side in image.shape[1:])
    height, width = image.shape[1] // down, image.shape[2] // across
    cells = image[:, : height * down, : width * across].reshape(3, height, down, width, across)
    if down * across > 1:
        cells = np.rint(cells.mean((2, 4), dtype=np.float32)).astype(np.uint8)
    return np.ascontiguousarray(cells.reshape(3, height, width).transpose(1, 2, 0))


def looked(
    look: ObjectLook | None, frame: Rgb, mask: NDArray[np.bool_], placing: Placing
) -> ObjectLook:
    """`look` after its object was seen as `mask`, (h, w), in `frame`, a `small_frame`; a first one
    where there is none. What hides a part of the object, or all, is not learned.
    """
    if look is not None and placing.hidden:
        return look
    sampled, inside = _sampled(frame, mask, placing, np.zeros((1, 2)))
    colors, solid = sampled[0], inside[0].astype(np.float32)
    if look is None:
        return ObjectLook(colors, solid)
    differs = difference(look, frame, mask, placing)
    if differs is not None and differs > _STRANGE:
        return look
    share = _RATE * solid[..., None]
    return ObjectLook(
        (1 - share) * look.colors + share * colors, (1 - _RATE) * look.solid + _RATE * solid
    )


def difference(
    look: ObjectLook, frame: Rgb, mask: NDArray[np.bool_], placing: Placing
) -> float | None:
    """How much `mask` in `frame` differs from `look`: the mean absolute difference of colors of 0
    to 1, less the mean difference, so that light counts for nothing. None where too little of both
    is seen.
    """
    colors, solid = _sampled(frame, mask, placing, _SHIFTS)
    both = solid & (look.solid > 0.5)
    count = both.sum((1, 2))
    enough = count >= _LEAST * _SIDE**2
    if not enough.any():
        return None
    count, both, colors = count[enough], both[enough, :, :, None], colors[enough]
    gap = colors - look.colors
    mean = (gap * both).sum((1, 2)) / count[:, None]
    apart = np.abs(gap - mean[:, None, None]) * both
    return float((apart.sum((1, 2, 3)) / (3 * count)).min())


def _sampled(
    frame: Rgb, mask: NDArray[np.bool_], placing: Placing, shifts: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Colors of 0 to 1, float32 (k, 16, 16, 3), and mask, bool (k, 16, 16), in the box of `placing`
    moved by each of `shifts`, (k, 2), in sizes of it.
    """
    (x, y), (width, height) = placing.center, placing.size
    columns = x + (_GRID[None] + shifts[:, :1]) * width
    rows = y + (_GRID[None] + shifts[:, 1:]) * height
    inside = ((rows >= 0) & (rows < 1))[:, :, None] & ((columns >= 0) & (columns < 1))[:, None]
    columns, rows = np.clip(columns, 0, 1 - 1e-9), np.clip(rows, 0, 1 - 1e-9)
    of_frame = _cells(rows, columns, frame.shape[:2])
    of_mask = _cells(rows, columns, mask.shape)
    colors: NDArray[np.float32] = frame[of_frame].astype(np.float32) / np.float32(255)
    return colors, mask[of_mask] & inside


def _cells(
    rows: NDArray[np.float64], columns: NDArray[np.float64], shape: tuple[int, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of a grid of `shape` (h, w) at shares of its height and width."""
    height, width = shape
    return (rows * height).astype(np.int64)[:, :, None], (columns * width).astype(np.int64)[:, None]
