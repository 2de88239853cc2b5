"""Scenes: stickers laid on a background, with the exact truth of what is visible.

The renderer of sticker world. `random_scene` follows the world's definition; `compose` lays
out a deliberate picture (the demo's girl and three dogs). Trainers, instructions and the
evaluator take scenes from here.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.world.backgrounds import PLAIN, Kind, draw_background
from training.world.sprites import Sprite, SpriteSheet
from training.world.vocabulary import Concept, Vocabulary

MIN_VISIBLE_FRACTION = 0.4
MIN_IMAGE_FRACTION = 0.0015
_OPAQUE = 0.5


@dataclass(frozen=True)
class Placement:
    """Where and how one sticker lies.

    Attributes:
        concept: what it shows.
        center: x and y of the center of its box, as fractions of width and height.
        longer_side: of the upright sprite, as a fraction of the image's shorter side.
        degrees: rotation, counter-clockwise.
        mirrored: left and right exchanged.
        brightness: factor on its colors.
    """

    concept: Concept
    center: tuple[float, float]
    longer_side: float
    degrees: float = 0.0
    mirrored: bool = False
    brightness: float = 1.0


@dataclass(frozen=True)
class SceneInstance:
    """One sticker of a scene, as far as it can be seen.

    Attributes:
        concept: what it shows.
        visible: bool, the visible pixels inside `box`.
        box: tight box of the visible pixels, x0 y0 x1 y1 half-open, pixels; all zero where
            nothing is visible.
        frame: width and height of the image.
        area: number of visible pixels.
        visible_fraction: visible pixels over the whole sticker's opaque pixels.
        dont_care: too hidden or too small to be wanted or counted against.
    """

    concept: Concept
    visible: np.ndarray
    box: tuple[int, int, int, int]
    frame: tuple[int, int]
    area: int
    visible_fraction: float
    dont_care: bool

    @property
    def mask(self) -> np.ndarray:
        """The visible pixels in the whole image, bool ``[h, w]``; made anew on each call."""
        width, height = self.frame
        mask = np.zeros((height, width), bool)
        x0, y0, x1, y1 = self.box
        mask[y0:y1, x0:x1] = self.visible
        return mask

    @property
    def centroid(self) -> tuple[float, float]:
        """Mean x and y of the visible pixels' centers, in pixels.

        Raises:
            ValueError: nothing is visible.
        """
        if not self.area:
            raise ValueError(f"nothing of this {self.concept.name} is visible")
        rows, columns = np.nonzero(self.visible)
        return self.box[0] + float(columns.mean()) + 0.5, self.box[1] + float(rows.mean()) + 0.5


@dataclass(frozen=True)
class Scene:
    """A picture and its truth.

    Attributes:
        image: uint8 ``[h, w, 3]``, RGB.
        instances: in the order they were laid down; later ones cover earlier ones.
    """

    image: np.ndarray
    instances: tuple[SceneInstance, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]

    @property
    def wanted(self) -> tuple[SceneInstance, ...]:
        """The instances that count: all but the "don't care" ones."""
        return tuple(instance for instance in self.instances if not instance.dont_care)


def random_scene(
    rng: np.random.Generator,
    *,
    concepts: Sequence[Concept] | None = None,
    size: tuple[int, int] | None = None,
    backgrounds: Sequence[Kind] = PLAIN,
) -> Scene:
    """A scene after the world's definition.

    Args:
        rng: source of all choices; the same state gives the same scene.
        concepts: draw only from these; by default from the whole vocabulary.
        size: width and height in pixels; by default 256 to 1600 a side, aspect 1:2 to 2:1.
        backgrounds: kinds of background to draw from.
    """
    pool = Vocabulary.load().concepts if concepts is None else tuple(concepts)
    frame = random_size(rng) if size is None else size
    return compose(random_placements(rng, pool, frame), draw_background(rng, frame, backgrounds))


def random_size(rng: np.random.Generator, low: int = 256, high: int = 1600) -> tuple[int, int]:
    """Width and height between `low` and `high` pixels with an aspect of 1:2 to 2:1."""
    aspect = 2.0 ** rng.uniform(-1, 1)
    shorter = np.exp(rng.uniform(np.log(low), np.log(high / max(aspect, 1 / aspect))))
    width = shorter * max(aspect, 1.0)
    height = shorter * max(1 / aspect, 1.0)
    return min(high, max(low, round(width))), min(high, max(low, round(height)))


def random_placements(
    rng: np.random.Generator,
    concepts: Sequence[Concept],
    size: tuple[int, int],
    *,
    most_kinds: int = 5,
    longest_side: float = 0.5,
    outside: float = 0.0,
) -> tuple[Placement, ...]:
    """1 to 8 stickers of 1 to 5 of the given concepts; by default after the world's definition.

    Args:
        rng: source of all choices.
        concepts: to draw from.
        size: width and height in pixels.
        most_kinds: concepts at most; fewer give more stickers of one concept.
        longest_side: a sticker's longer side at most, as a share of the shorter side of `size`.
        outside: how far centers may lie beyond where a sticker is wholly inside, as a share of
            its longer side; 0.5 lets the edge of the frame cut it in half.
    """
    count = int(rng.integers(1, 9))
    kinds = int(rng.integers(1, min(most_kinds, count, len(concepts)) + 1))
    chosen = rng.choice(len(concepts), kinds, replace=False)
    drawn = np.concatenate([chosen, rng.choice(chosen, count - kinds)])
    rng.shuffle(drawn)
    # Half of the scenes are laid with some care for what lies there already: independent
    # places alone would hide most of a full scene.
    tries = 6 if rng.random() < 0.5 else 1
    placements: list[Placement] = []
    for index in drawn:
        longer_side = float(rng.uniform(0.14, longest_side))
        candidates = [_random_center(rng, longer_side, size, outside) for _ in range(tries)]
        placements.append(
            Placement(
                concept=concepts[index],
                center=min(candidates, key=lambda at: _crowding(at, longer_side, placements, size)),
                longer_side=longer_side,
                degrees=float(rng.uniform(-25, 25)),
                mirrored=bool(rng.random() < 0.5),
                brightness=float(rng.uniform(0.88, 1.12)),
            )
        )
    return tuple(placements)


def compose(placements: Sequence[Placement], background: np.ndarray) -> Scene:
    """Lay stickers on a background, in order, and work out what stays visible.

    Args:
        placements: bottom to top; a sticker may reach over the edge of the frame.
        background: uint8 ``[h, w, 3]``; it is not changed.
    """
    canvas = background.copy()
    height, width = canvas.shape[:2]
    sheet = SpriteSheet.load()
    laid: list[tuple[Concept, np.ndarray, tuple[int, int], int]] = []
    for placement in placements:
        sprite = sheet.pose(
            placement.concept.index,
            placement.longer_side * min(width, height),
            placement.degrees,
            placement.mirrored,
        )
        left = round(placement.center[0] * width - sprite.size[0] / 2)
        top = round(placement.center[1] * height - sprite.size[1] / 2)
        opaque = sprite.alpha > _OPAQUE
        whole_area = int(opaque.sum())
        sprite, left, top = _clipped(sprite, left, top, (width, height))
        opaque = sprite.alpha > _OPAQUE
        for _, below, (x, y), _ in laid:
            _uncover(below, (x, y), opaque, (left, top))
        _blend(canvas, sprite, (left, top), placement.brightness)
        laid.append((placement.concept, opaque, (left, top), whole_area))
    return Scene(canvas, tuple(_instance(*entry, (width, height)) for entry in laid))


def save(scene: Scene, path: Path, quality: int = 90) -> None:
    """Write the picture as PNG or, for ``.jpg`` and ``.jpeg``, as JPEG of that quality."""
    image = Image.fromarray(scene.image)
    if path.suffix.lower() in {".jpg", ".jpeg"}:
        image.save(path, "JPEG", quality=quality)
    else:
        image.save(path, "PNG")


def recompressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after one pass through JPEG: what a decoder of the saved file sees."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as opened:
        return np.asarray(opened.convert("RGB"))


def _random_center(
    rng: np.random.Generator, longer_side: float, size: tuple[int, int], outside: float
) -> tuple[float, float]:
    # A turned sprite's box is at most sqrt(2) larger, at 25 degrees at most 1.33 times.
    reach = (0.5 * 1.15 - outside) * longer_side * min(size)
    x = rng.uniform(reach, size[0] - reach) / size[0]
    y = rng.uniform(reach, size[1] - reach) / size[1]
    return float(x), float(y)


def _crowding(
    center: tuple[float, float],
    longer_side: float,
    placements: Sequence[Placement],
    size: tuple[int, int],
) -> float:
    """Share of the smaller sticker that the worst overlap could take, both seen as squares."""
    worst = 0.0
    for other in placements:
        reach = 0.5 * (longer_side + other.longer_side) * min(size)
        smaller = min(longer_side, other.longer_side) * min(size)
        overlaps = [
            min(smaller, max(0.0, reach - abs(a - b) * side)) / smaller
            for a, b, side in zip(center, other.center, size, strict=True)
        ]
        worst = max(worst, overlaps[0] * overlaps[1])
    return worst


def _clipped(sprite: Sprite, left: int, top: int, size: tuple[int, int]) -> tuple[Sprite, int, int]:
    width, height = size
    window = np.s_[
        max(0, -top) : max(0, min(sprite.size[1], height - top)),
        max(0, -left) : max(0, min(sprite.size[0], width - left)),
    ]
    return Sprite(sprite.color[window], sprite.alpha[window]), max(0, left), max(0, top)


def _uncover(
    below: np.ndarray, below_at: tuple[int, int], above: np.ndarray, above_at: tuple[int, int]
) -> None:
    """Clear the pixels of `below` (in place) that `above` covers; both bool, both placed."""
    x0, y0 = max(below_at[0], above_at[0]), max(below_at[1], above_at[1])
    x1 = min(below_at[0] + below.shape[1], above_at[0] + above.shape[1])
    y1 = min(below_at[1] + below.shape[0], above_at[1] + above.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    cover = above[y0 - above_at[1] : y1 - above_at[1], x0 - above_at[0] : x1 - above_at[0]]
    below[y0 - below_at[1] : y1 - below_at[1], x0 - below_at[0] : x1 - below_at[0]] &= ~cover


def _blend(canvas: np.ndarray, sprite: Sprite, at: tuple[int, int], brightness: float) -> None:
    height, width = sprite.alpha.shape
    window = canvas[at[1] : at[1] + height, at[0] : at[0] + width]
    light = np.minimum(sprite.color * brightness, 255.0 * sprite.alpha[..., None])
    blended = window * (1.0 - sprite.alpha[..., None]) + light
    window[:] = np.minimum(blended + 0.5, 255.0).astype(np.uint8)


def _instance(
    concept: Concept,
    visible: np.ndarray,
    at: tuple[int, int],
    whole_area: int,
    frame: tuple[int, int],
) -> SceneInstance:
    area = int(visible.sum())
    fraction = area / whole_area if whole_area else 0.0
    box, crop = (0, 0, 0, 0), np.zeros((0, 0), bool)
    if area:
        rows, columns = np.flatnonzero(visible.any(1)), np.flatnonzero(visible.any(0))
        crop = visible[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        x0, y0 = at[0] + int(columns[0]), at[1] + int(rows[0])
        box = (x0, y0, x0 + crop.shape[1], y0 + crop.shape[0])
    return SceneInstance(
        concept=concept,
        visible=crop,
        box=box,
        frame=frame,
        area=area,
        visible_fraction=fraction,
        dont_care=is_dont_care(area, fraction, frame),
    )


def is_dont_care(area: int, visible_fraction: float, frame: tuple[int, int]) -> bool:
    """Whether so little of an instance can be seen that it is neither wanted nor counted against.

    Args:
        area: its visible pixels.
        visible_fraction: of its whole area, 0 to 1.
        frame: width and height of the image.
    """
    small = area < MIN_IMAGE_FRACTION * frame[0] * frame[1]
    return small or visible_fraction < MIN_VISIBLE_FRACTION
