"""Photograph-like JPEGs that all differ, made faster than a model can ask for them."""

import io
import itertools
from collections.abc import Iterator

import numpy as np
from PIL import Image

from loadtest.pictures import Picture


def jpeg(width: int, height: int, seed: int = 0) -> bytes:
    """A picture with gradients, shapes and grain, of quality 90."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([rows / height, columns / width, (rows + columns) / (height + width)], 2)
    for _ in range(12):
        x, y, radius = random.uniform(0, width), random.uniform(0, height), random.uniform(50, 300)
        inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
        image[inside] = random.uniform(0, 1, 3)
    grain = random.normal(0, 4, (height, width, 1))
    pixels = np.clip(255 * image + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def distinct(picture: bytes) -> Iterator[bytes]:
    """Endlessly the same pixels in files that differ by a comment, so that no cache knows them."""
    original = Picture(picture, ())
    return (original.copy(number).content for number in itertools.count())
