"""The stickers themselves: the sheet cut into sprites, scaled, turned and mirrored.

Sits between the vocabulary and the scene renderer. Sprites are kept premultiplied by their
alpha, so that scaling and rotating bleed no color from transparent pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Self

import numpy as np
from PIL import Image

from training.world.vocabulary import Vocabulary

CELL = 128  # side of a sheet cell, pixels
COLUMNS = 8

# Smaller copies, so that a small sticker is not resampled from the full sprite each time.
_LEVELS = (32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Sprite:
    """A posed sticker, ready to be laid on a scene.

    Attributes:
        color: float32 ``[h, w, 3]``, 0 to 255, premultiplied by alpha.
        alpha: float32 ``[h, w]``, 0 to 1.
    """

    color: np.ndarray
    alpha: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.alpha.shape[1], self.alpha.shape[0]


class SpriteSheet:
    """The shipped sheet. Poses sprites; holds no state but the images."""

    def __init__(self, levels: Mapping[tuple[int, int], Image.Image]) -> None:
        self._levels = levels

    @classmethod
    @cache
    def load(cls) -> Self:
        """The sheet that ships with the package; read and cut once a process."""
        file = resources.files("training.world") / "data" / "sprites.png"
        with file.open("rb") as stream, Image.open(stream) as opened:
            sheet = opened.convert("RGBA")
        levels = {}
        for index in range(len(Vocabulary.load().concepts)):
            row, column = divmod(index, COLUMNS)
            left, top = column * CELL, row * CELL
            cell = sheet.crop((left, top, left + CELL, top + CELL))
            sprite = cell.crop(cell.getchannel("A").getbbox()).convert("RGBa")
            for level in _LEVELS:
                levels[index, level] = _resized(sprite, level)
        return cls(levels)

    def pose(
        self, concept: int, longer_side: float, degrees: float = 0.0, mirrored: bool = False
    ) -> Sprite:
        """One sprite at a size and angle.

        Args:
            concept: index in the vocabulary.
            longer_side: pixels, of the upright sprite.
            degrees: counter-clockwise; the result's box grows with it.
            mirrored: left and right exchanged before it is turned.
        """
        image = _resized(self._level(concept, longer_side), longer_side)
        if mirrored:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if degrees:
            image = image.rotate(degrees, Image.Resampling.BILINEAR, expand=True)
        pixels = np.asarray(image).astype(np.float32)
        alpha = pixels[..., 3] / 255.0
        rows, columns = np.flatnonzero(alpha.max(1)), np.flatnonzero(alpha.max(0))
        tight = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        return Sprite(pixels[..., :3][tight], alpha[tight])

    def pose_at(
        self,
        concept: int,
        center: tuple[float, float],
        longer_side: float,
        degrees: float = 0.0,
        mirrored: bool = False,
    ) -> tuple[Sprite, tuple[int, int]]:
        """One sprite around a point between pixels, for motion without jumps of a whole pixel.

        Args:
            concept: index in the vocabulary.
            center: x and y of the sprite's center in the frame, pixels.
            longer_side: pixels, of the upright sprite.
            degrees: counter-clockwise.
            mirrored: left and right exchanged before it is turned.

        Returns:
            The sprite and the x and y of its upper left pixel in the frame; its rim may be empty.
        """
        image = self._level(concept, longer_side)
        scale = max(image.size) / longer_side
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        half = 0.5 / scale * np.array(image.size)
        reach = np.abs([[cosine, sine], [sine, cosine]]) @ half + 1.0
        left, top = (int(np.floor(c - r)) for c, r in zip(center, reach, strict=True))
        right, bottom = (int(np.ceil(c + r)) for c, r in zip(center, reach, strict=True))
        # From a pixel of the result to one of the sprite; image rows point down.
        across, down = scale * np.array([cosine, -sine]), scale * np.array([sine, cosine])
        if mirrored:
            across = -across
        middle = np.array([left - center[0], top - center[1]])
        offsets = 0.5 * np.array(image.size) + (across @ middle, down @ middle)
        coefficients = (*across, offsets[0], *down, offsets[1])
        resampling = Image.Resampling.BILINEAR if scale > 1 else Image.Resampling.BICUBIC
        pixels = np.asarray(
            image.transform(
                (right - left, bottom - top), Image.Transform.AFFINE, coefficients, resampling
            )
        ).astype(np.float32)
        return Sprite(pixels[..., :3], pixels[..., 3] / np.float32(255.0)), (left, top)

    def _level(self, concept: int, longer_side: float) -> Image.Image:
        """The smallest copy that need not be enlarged, or else the largest there is."""
        level = next((level for level in _LEVELS if level >= longer_side), _LEVELS[-1])
        return self._levels[concept, level]


def _resized(image: Image.Image, longer_side: float) -> Image.Image:
    scale = longer_side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
