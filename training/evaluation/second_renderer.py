"""A second renderer of sticker world, written independently to test what was trained on the first.

The two share the world's bounds, the sheet of sprites and the dataclasses of a scene, and nothing
else: sampling, scaling, turning, compositing, backgrounds, truth and files are written anew. A
model that learned the first one's habits does worse here.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from training.evaluation.second_backgrounds import BackgroundKind, paint
from training.world.scenes import Scene, SceneInstance
from training.world.vocabulary import Concept, Vocabulary

# The sheet: square cells in rows of eight, in the vocabulary's order.
_CELL, _COLUMNS = 128, 8

# The world's bounds.
_SIDES = (256, 1600)
_ASPECT = 2.0
_MOST_STICKERS, _MOST_CONCEPTS = 8, 5
_LONGER_SIDE = (0.14, 0.50)
_DEGREES = 25.0
_OPAQUE = 0.5
_LEAST_VISIBLE, _LEAST_OF_IMAGE = 0.4, 0.0015
_QUALITY = (60, 95)

# Sprites are turned at twice their size: the scaling that follows hides the turn's own blur.
_TURNED_AT = 2

# Streams of a seed, so that more of one thing drawn leaves the others as they are.
_FRAME, _BACKGROUND, _STICKERS, _LIGHT, _FILE = range(1, 6)


@dataclass(frozen=True)
class Sticker:
    """One sticker as it will lie.

    Attributes:
        concept: what it shows.
        color: float32 ``[h, w, 3]``, 0 to 255, premultiplied by alpha.
        alpha: float32 ``[h, w]``, 0 to 1.
        left, top: of its box in the frame, pixels; may lie outside.
    """

    concept: Concept
    color: NDArray[np.float32]
    alpha: NDArray[np.float32]
    left: int
    top: int

    def within(self, size: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The part of a frame of `size` that its box covers, and the part of it that is there."""
        height, width = self.alpha.shape
        x0, x1 = max(0, self.left), min(size[0], self.left + width)
        y0, y1 = max(0, self.top), min(size[1], self.top + height)
        x1, y1 = max(x0, x1), max(y0, y1)
        own = np.s_[y0 - self.top : y1 - self.top, x0 - self.left : x1 - self.left]
        return np.s_[y0:y1, x0:x1], own


@dataclass(frozen=True)
class SecondRenderer:
    """Draws scenes, each from one seed.

    Attributes:
        vocabulary: the concepts, in the order of the sheet.
        sprites: the concepts' sprites, upright and trimmed, premultiplied (mode "RGBa").
    """

    vocabulary: Vocabulary
    sprites: Sequence[Image.Image]

    @classmethod
    @cache
    def load(cls) -> Self:
        """With the vocabulary and the sheet that ship with the package."""
        vocabulary = Vocabulary.load()
        file = resources.files("training.world") / "data" / "sprites.png"
        with file.open("rb") as stream, Image.open(stream) as opened:
            sheet = opened.convert("RGBA")
        return cls(vocabulary, [_cut(sheet, concept.index) for concept in vocabulary.concepts])

    def background(self, seed: int) -> NDArray[np.uint8]:
        """The scene of a seed without its stickers, uint8 ``[h, w, 3]``, RGB."""
        return paint(
            np.random.default_rng([seed, _BACKGROUND]), _frame(seed), background_kind(seed)
        )

    def stickers(self, seed: int) -> list[Sticker]:
        """What lies in the scene of a seed, in the order it is laid down."""
        rng = np.random.default_rng([seed, _STICKERS])
        # Any place in a crowded scene, else the emptiest of a few.
        tries = 1 if rng.random() < 0.4 else 12
        laid: list[Sticker] = []
        for concept in self._cast(rng):
            laid.append(self._sticker(concept, rng, _frame(seed), laid, tries))
        return laid

    def scene(self, seed: int) -> Scene:
        """The scene of a seed, always the same."""
        light = np.random.default_rng([seed, _LIGHT])
        canvas = self.background(seed).astype(np.float32)
        stickers = self.stickers(seed)
        for sticker in stickers:
            frame, own = sticker.within(_frame(seed))
            alpha, brightness = sticker.alpha[own][..., None], light.uniform(0.85, 1.15)
            color = np.minimum(sticker.color[own] * np.float32(brightness), 255.0 * alpha)
            canvas[frame] = canvas[frame] * (1.0 - alpha) + color
        image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
        return Scene(image, _truth(stickers, _frame(seed)))

    def posed(
        self, concept: Concept, longer: float, degrees: float, mirrored: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Premultiplied color and alpha of a sprite, as of `Sticker`; `longer` is in pixels."""
        return _posed(self.sprites[concept.index], longer, degrees, mirrored)

    def file(self, scene: Scene, seed: int) -> bytes:
        """The scene of that seed saved as PNG, or as JPEG of quality 60 to 95."""
        rng = np.random.default_rng([seed, _FILE])
        buffer = io.BytesIO()
        image = Image.fromarray(scene.image)
        if rng.random() < 0.4:
            image.save(buffer, "PNG", compress_level=1)
        else:
            image.save(
                buffer,
                "JPEG",
                quality=int(rng.integers(_QUALITY[0], _QUALITY[1] + 1)),
                subsampling=int(rng.choice([0, 1, 2])),
                progressive=bool(rng.random() < 0.3),
            )
        return buffer.getvalue()

    def _cast(self, rng: np.random.Generator) -> list[Concept]:
        """What is shown, one entry a sticker; in one scene of four all of one category."""
        pool = self.vocabulary.concepts
        if rng.random() < 0.25:
            pool = self.vocabulary.by_category[pool[int(rng.integers(len(pool)))].category]
        kinds = int(rng.integers(1, min(_MOST_CONCEPTS, len(pool)) + 1))
        chosen = rng.choice(len(pool), kinds, replace=False)
        total = int(rng.integers(kinds, _MOST_STICKERS + 1))
        more = rng.choice(chosen, total - kinds)
        return [pool[int(index)] for index in rng.permutation(np.concatenate([chosen, more]))]

    def _sticker(
        self,
        concept: Concept,
        rng: np.random.Generator,
        size: tuple[int, int],
        others: Sequence[Sticker],
        tries: int,
    ) -> Sticker:
        # Small ones are as frequent as large ones on a scale of ratios.
        low, high = np.log(_LONGER_SIDE)
        longer = float(np.exp(rng.uniform(low, high))) * min(size)
        degrees, mirrored = rng.uniform(-_DEGREES, _DEGREES), bool(rng.random() < 0.5)
        color, alpha = _posed(self.sprites[concept.index], longer, degrees, mirrored)
        height, width = alpha.shape
        places = [_place(rng, size, (width, height)) for _ in range(tries)]
        left, top = min(places, key=lambda at: _shared(at, (width, height), others))
        return Sticker(concept, color, alpha, left, top)


def background_kind(seed: int) -> BackgroundKind:
    """What lies behind the stickers of a seed's scene; the kinds take turns."""
    kinds = tuple(BackgroundKind)
    return kinds[seed % len(kinds)]


def _cut(sheet: Image.Image, index: int) -> Image.Image:
    """A sprite without the empty rim of its cell."""
    row, column = divmod(index, _COLUMNS)
    left, top = column * _CELL, row * _CELL
    cell = sheet.crop((left, top, left + _CELL, top + _CELL))
    return cell.crop(cell.getchannel("A").getbbox()).convert("RGBa")


@cache
def _frame(seed: int) -> tuple[int, int]:
    """Width and height: sides of 256 to 1600, no more than twice one another."""
    rng = np.random.default_rng([seed, _FRAME])
    low, high = _SIDES
    aspect = float(np.exp(rng.uniform(0.0, np.log(_ASPECT))))
    shorter = round(float(np.exp(rng.uniform(np.log(low), np.log(high / aspect)))))
    longer = min(high, int(shorter * aspect))
    return (longer, shorter) if rng.random() < 0.6 else (shorter, longer)


def _posed(
    sprite: Image.Image, longer: float, degrees: float, mirrored: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Premultiplied color and alpha of a sprite whose longer side, upright, is `longer` pixels."""
    scale = longer / max(sprite.size)
    if mirrored:
        sprite = sprite.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    large = sprite.resize(
        (sprite.width * _TURNED_AT, sprite.height * _TURNED_AT), Image.Resampling.BICUBIC
    ).rotate(degrees, Image.Resampling.BICUBIC, expand=True)
    width, height = (max(1, round(side * scale / _TURNED_AT)) for side in large.size)
    resized = large.resize((width, height), Image.Resampling.LANCZOS)
    pixels = np.asarray(resized).astype(np.float32)
    alpha = pixels[..., 3]
    # Lanczos overshoots at edges; no premultiplied color is brighter than its alpha.
    return np.minimum(pixels[..., :3], alpha[..., None]), alpha / np.float32(255.0)


def _place(
    rng: np.random.Generator, size: tuple[int, int], sticker: tuple[int, int]
) -> tuple[int, int]:
    """Left and top of a sticker's box, by draw: inside the frame, or over one of its edges."""
    corner = rng.uniform(0.0, 1.0, 2) * (np.array(size) - np.array(sticker))
    if rng.random() < 0.2:
        axis, over = int(rng.integers(2)), rng.uniform(0.05, 0.65)
        outside = (-over * sticker[axis], size[axis] - (1 - over) * sticker[axis])
        corner[axis] = outside[int(rng.integers(2))]
    return round(float(corner[0])), round(float(corner[1]))


def _shared(at: tuple[int, int], sticker: tuple[int, int], others: Sequence[Sticker]) -> float:
    """How much of the boxes lies on one another, as shares of the smaller box, summed."""
    total = 0.0
    for other in others:
        height, width = other.alpha.shape
        across = min(at[0] + sticker[0], other.left + width) - max(at[0], other.left)
        down = min(at[1] + sticker[1], other.top + height) - max(at[1], other.top)
        if across > 0 and down > 0:
            total += across * down / min(sticker[0] * sticker[1], width * height)
    return total


def _truth(stickers: Sequence[Sticker], size: tuple[int, int]) -> tuple[SceneInstance, ...]:
    """What can be seen of each, those on top counted first."""
    free = np.ones(size[::-1], bool)
    instances: list[SceneInstance] = []
    for sticker in reversed(stickers):
        frame, own = sticker.within(size)
        opaque = sticker.alpha[own] > _OPAQUE
        seen = opaque & free[frame]
        free[frame] &= ~opaque
        area, whole = int(seen.sum()), int((sticker.alpha > _OPAQUE).sum())
        fraction = area / whole if whole else 0.0
        box, visible = (0, 0, 0, 0), np.zeros((0, 0), bool)
        if area:
            rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
            y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
            visible = seen[y0:y1, x0:x1].copy()
            left, top = frame[1].start, frame[0].start
            box = (int(left + x0), int(top + y0), int(left + x1), int(top + y1))
        instances.append(
            SceneInstance(
                concept=sticker.concept,
                visible=visible,
                box=box,
                frame=size,
                area=area,
                visible_fraction=fraction,
                dont_care=fraction < _LEAST_VISIBLE or area < _LEAST_OF_IMAGE * size[0] * size[1],
            )
        )
    return tuple(reversed(instances))
