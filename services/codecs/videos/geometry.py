"""How a decoded frame is shown: turned, mirrored, its pixels made square.

Orientations are Exif's, 1 to 8, as in `services.codecs.images`.
"""

import struct
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

# The 2x2 part (a, b, c, d) of a display matrix, in signs: x' = a x + c y, y' = b x + d y.
_ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
# Clockwise degrees, and whether it is mirrored left to right before.
_TURNS = {
    1: (0, False), 2: (0, True), 3: (180, False), 4: (180, True),
    5: (270, True), 6: (90, False), 7: (90, True), 8: (270, False),
}  # fmt: skip


def orientation_of(matrix: bytes) -> int:
    """The orientation that a display matrix asks for (libavutil's layout: nine native int32).

    A matrix that is not of right angles, or no matrix at all, means 1.
    """
    if len(matrix) != 36:
        return 1
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    signs = tuple((value > 0) - (value < 0) for value in (a, b, c, d))
    return _ORIENTATIONS.get(signs, 1)


def turn_of(orientation: int) -> tuple[int, bool]:
    """Clockwise degrees of `orientation`, and whether it mirrors left to right before."""
    return _TURNS[orientation]


def squared(width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
    """The size of a frame with its pixels square: the shorter side of a pixel is stretched."""
    if pixel_aspect > 1:
        width = round(width * pixel_aspect)
    elif 0 < pixel_aspect < 1:
        height = round(height / pixel_aspect)
    return width, height


def turned(width: int, height: int, orientation: int) -> tuple[int, int]:
    """The size of a frame in `orientation`."""
    return (height, width) if orientation >= 5 else (width, height)


def fitted(width: int, height: int, max_side: int) -> tuple[int, int]:
    """The size scaled so that no side is over `max_side`; 0 keeps it, and nothing is enlarged."""
    long = max(width, height)
    if max_side == 0 or long <= max_side:
        return width, height
    return max(1, round(width * max_side / long)), max(1, round(height * max_side / long))


def oriented(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """`pixels`, (H, W, C), turned and mirrored as `orientation` asks; C-contiguous."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
