"""Frames that the fake engine understands: filled boxes of plain colors on white."""

import numpy as np
from numpy.typing import NDArray

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
WIDTH, HEIGHT = 80, 60

Frame = NDArray[np.uint8]
Patch = tuple[int, int, int, int, tuple[int, int, int]]


def picture(*patches: Patch, width: int = WIDTH, height: int = HEIGHT) -> Frame:
    """Boxes (x0, y0, x1, y1, rgb) on white."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    for x0, y0, x1, y1, color in patches:
        pixels[y0:y1, x0:x1] = color
    return pixels


def moving(at: int) -> Frame:
    """A red box that goes right and a blue one that goes left below it."""
    return picture((2 + at, 5, 14 + at, 20, RED), (60 - at, 35, 72 - at, 50, BLUE))
