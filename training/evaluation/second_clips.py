"""A second renderer of clips, written apart to test what was trained on the first one's.

The two share the world's bounds, the sheet of sprites and the dataclasses of the truth. Motion
(`second_motion.py`), backgrounds, shots, compositing and light are written anew; nothing is trained
on it. Seeds are `SECOND_HELD_OUT`'s.

Identity stays decidable here too: of several stickers of one concept at most one leaves the frame,
and of what a cut leads to nothing looks like what was there before. A clip in three with a cut
returns to its first scene, which has gone on meanwhile, if that has no two stickers alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.evaluation.second_backgrounds import BackgroundKind, paint
from training.evaluation.second_motion import (
    Motion,
    bounce,
    lane,
    lane_pace,
    orbit,
    rest,
    visit,
    wave,
)
from training.evaluation.second_renderer import SecondRenderer, Sticker
from training.world.clips import ClipFrame, ClipObject
from training.world.vocabulary import Concept

_OPAQUE = 0.5
_FRAMES, _MOST_STICKERS = (12, 90), 6
_SIDES = (256, 640)
_LONGER_SIDE = (0.14, 0.46)
_PLAN, _BACKGROUND = 31, 32

_ALIKE, _CUT, _PANNED = 0.6, 0.12, 0.35


@dataclass(frozen=True, slots=True, eq=False)
class MovingSticker:
    """One sticker; arrays are by the frame of the clip.

    Attributes:
        id: of the object.
        concept: what it shows.
        centers: x and y in the frame, pixels, ``[n, 2]``.
        longer: side of the upright sprite, pixels, ``[n]``.
        degrees: counter-clockwise, ``[n]``.
        brightness: factor on its colors, ``[n]``.
        mirrored: left and right exchanged.
    """

    id: int
    concept: Concept
    centers: NDArray[np.float64]
    longer: NDArray[np.float64]
    degrees: NDArray[np.float64]
    brightness: NDArray[np.float64]
    mirrored: bool


@dataclass(frozen=True, slots=True, eq=False)
class Scenery:
    """What is in front of the camera: a background and stickers, bottom to top.

    Attributes:
        number: among the clip's backgrounds.
        window: left and top of the frame on the background, whole pixels, ``[n, 2]``.
        light: factor on the finished picture, ``[n]``.
        stickers: that move there.
    """

    number: int
    window: NDArray[np.int64]
    light: NDArray[np.float64]
    stickers: tuple[MovingSticker, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SecondClip:
    """A clip of the second renderer; attributes as of `training.world.clips.Clip`.

    Attributes:
        sceneries: that appear in it.
        shown: which of them each frame shows.
    """

    seed: int
    width: int
    height: int
    rate: float
    frame_count: int
    objects: tuple[ClipObject, ...]
    cuts: tuple[int, ...]
    sceneries: tuple[Scenery, ...] = field(repr=False)
    shown: tuple[int, ...] = field(repr=False)

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[ClipFrame]:
        """Draw the clip, or those of its frames, in this order; always the same.

        Raises:
            IndexError: an index is not a frame of the clip.
        """
        backgrounds: dict[int, NDArray[np.uint8]] = {}
        for index in range(self.frame_count) if indices is None else indices:
            if not 0 <= index < self.frame_count:
                raise IndexError(f"frame {index} of a clip of {self.frame_count}")
            scenery = self.sceneries[self.shown[index]]
            if scenery.number not in backgrounds:
                backgrounds[scenery.number] = self.background(scenery)
            yield self._drawn(index, scenery, backgrounds[scenery.number])

    def background(self, scenery: Scenery) -> NDArray[np.uint8]:
        """All of a scenery's background that the camera ever shows, uint8 ``[h, w, 3]``."""
        rng = np.random.default_rng([self.seed, _BACKGROUND, scenery.number])
        kinds = tuple(BackgroundKind)
        beyond = scenery.window.max(axis=0)
        size = self.width + int(beyond[0]), self.height + int(beyond[1])
        return paint(rng, size, kinds[(self.seed + 5 * scenery.number) % len(kinds)])

    def stickers(self, index: int) -> list[tuple[int, Sticker]]:
        """Ids and stickers of a frame as they will lie, bottom to top."""
        renderer = SecondRenderer.load()
        laid = []
        for moving in self.sceneries[self.shown[index]].stickers:
            color, alpha = renderer.posed(
                moving.concept,
                float(moving.longer[index]),
                float(moving.degrees[index]),
                moving.mirrored,
            )
            x, y = moving.centers[index]
            left, top = round(x - alpha.shape[1] / 2), round(y - alpha.shape[0] / 2)
            bright = np.minimum(color * moving.brightness[index], 255.0 * alpha[..., None])
            laid.append(
                (moving.id, Sticker(moving.concept, bright.astype(np.float32), alpha, left, top))
            )
        return laid

    def _drawn(self, index: int, scenery: Scenery, background: NDArray[np.uint8]) -> ClipFrame:
        left, top = (int(value) for value in scenery.window[index])
        size = self.width, self.height
        canvas = background[top : top + size[1], left : left + size[0]].astype(np.float32)
        laid = self.stickers(index)
        for _, sticker in laid:
            frame, own = sticker.within(size)
            canvas[frame] *= 1.0 - sticker.alpha[own][..., None]
            canvas[frame] += sticker.color[own]
        free = np.ones(size[::-1], bool)
        masks, shares = {}, {o.id: 0.0 for o in self.objects}
        for number, sticker in reversed(laid):
            frame, own = sticker.within(size)
            opaque = sticker.alpha[own] > _OPAQUE
            mask = np.zeros(size[::-1], bool)
            mask[frame] = opaque & free[frame]
            free[frame] &= ~opaque
            if mask.any():
                masks[number] = mask
                shares[number] = float(mask.sum() / (sticker.alpha > _OPAQUE).sum())
        image = np.clip(np.rint(canvas * scenery.light[index]), 0, 255).astype(np.uint8)
        ordered = {number: masks[number] for number in sorted(masks)}
        return ClipFrame(index, index / self.rate, image, ordered, shares)


@dataclass(frozen=True, slots=True)
class SecondClipWorld:
    """Makes clips, each from one seed."""

    renderer: SecondRenderer = field(default_factory=SecondRenderer.load, repr=False)

    def clip(
        self, seed: int, *, size: tuple[int, int] | None = None, frame_count: int | None = None
    ) -> SecondClip:
        """The clip of a seed, always the same.

        Args:
            seed: of `training.world.splits.SECOND_HELD_OUT`.
            size: width and height in pixels; by default 256 to 640 a side, aspect 1:2 to 2:1.
            frame_count: how many; by default 12 to 90.
        """
        rng = np.random.default_rng([seed, _PLAN])
        own_size, own_count = _size(rng), int(rng.integers(_FRAMES[0], _FRAMES[1] + 1))
        width, height = size or own_size
        count = frame_count or own_count
        rate = float(rng.choice([10.0, 12.0, 12.5, 15.0, 20.0, 24.0]))
        times = np.arange(count) / rate
        cast = self._cast(rng, self.renderer.vocabulary.concepts)
        sceneries = [_scenery(rng, 0, cast, 1, times, (width, height))]
        shown = np.zeros(count, int)
        if count >= 24 and rng.random() < _CUT:
            alike = len(set(cast)) < len(cast)
            others = [c for c in self.renderer.vocabulary.concepts if c not in cast]
            more = self._cast(rng, others)[: max(1, _MOST_STICKERS - len(cast))]
            sceneries.append(_scenery(rng, 1, more, 1 + len(cast), times, (width, height)))
            at = round(rng.uniform(0.3, 0.6) * count)
            shown[at:] = 1
            if not alike and rng.random() < 0.5:
                shown[at + round(0.25 * count) :] = 0
        members = {s.id: s.concept.name for place in sceneries for s in place.stickers}
        return SecondClip(
            seed=seed,
            width=width,
            height=height,
            rate=rate,
            frame_count=count,
            objects=tuple(ClipObject(number, members[number]) for number in sorted(members)),
            cuts=tuple((np.flatnonzero(np.diff(shown)) + 1).tolist()),
            sceneries=tuple(sceneries),
            shown=tuple(shown.tolist()),
        )

    def _cast(self, rng: np.random.Generator, pool: Sequence[Concept]) -> list[Concept]:
        """What is shown, one entry a sticker, those that look alike first."""
        total = int(rng.integers(1, _MOST_STICKERS + 1))
        order = [pool[int(index)] for index in rng.permutation(len(pool))[:total]]
        if rng.random() >= _ALIKE:
            return order
        total = max(total, 2)
        alike = int(rng.integers(2, total + 1))
        return [order[0]] * alike + order[1 : 1 + total - alike]


def _size(rng: np.random.Generator) -> tuple[int, int]:
    aspect = float(rng.choice([1.0, 4 / 3, 3 / 2, 16 / 9, 2.0]))
    shorter = rng.uniform(_SIDES[0], _SIDES[1] / aspect)
    # Even, as video files ask for.
    sides = 2 * round(0.5 * shorter * aspect), 2 * round(0.5 * shorter)
    return sides if rng.random() < 0.7 else sides[::-1]


def _scenery(
    rng: np.random.Generator,
    number: int,
    cast: Sequence[Concept],
    first_id: int,
    times: NDArray[np.float64],
    size: tuple[int, int],
) -> Scenery:
    window = np.zeros((len(times), 2))
    if rng.random() < _PANNED:
        swing = rng.uniform(0.03, 0.22) * np.array(size) * (1.0, rng.uniform(0, 0.5))
        speed, turned = rng.uniform(0.3, 1.0, 2), rng.uniform(0, 2 * np.pi, 2)
        window = swing * np.sin(speed * times[:, None] + turned)
    motions = _motions(rng, cast)
    level, upright = float(rng.uniform(0.3, 0.7)), bool(rng.random() < 0.3)
    common = float(np.exp(rng.uniform(np.log(0.16), np.log(0.36))))
    pace, phases = lane_pace(rng), rng.uniform(0, 2 * np.pi)
    in_lane = [place for place, motion in enumerate(motions) if motion is Motion.LANE]
    moving = []
    for place, (concept, motion) in enumerate(zip(cast, motions, strict=True)):
        alike = list(cast).count(concept) > 1
        base = common * rng.uniform(0.85, 1.2) if alike else rng.uniform(*_LONGER_SIDE)
        growth = np.exp(wave(rng, times, rng.uniform(0.0, 0.3)))
        longer = np.clip(base * growth, 0.12, 0.55) * min(size)
        reach = 0.68 * longer.max() / np.array(size)
        match motion:
            case Motion.ORBIT:
                shift = rng.normal(0, 0.06 if alike else 0.15, 2)
                path = orbit(rng, times, np.clip(0.5 + shift, 0.3, 0.7))
            case Motion.LANE:
                phase = phases + 2 * np.pi * in_lane.index(place) / len(in_lane)
                path = lane(rng, times, level + rng.normal(0, 0.04), upright, phase, pace)
            case Motion.BOUNCE:
                path = bounce(rng, times)
            case Motion.VISIT:
                path = visit(rng, times, reach)
            case Motion.REST:
                path = rest(rng, times)
        moving.append(
            MovingSticker(
                id=first_id + place,
                concept=concept,
                centers=path * size - window,
                longer=longer,
                degrees=np.clip(
                    rng.uniform(-12, 12) + wave(rng, times, rng.uniform(0, 16)), -25, 25
                ),
                brightness=rng.uniform(0.92, 1.08) + wave(rng, times, rng.uniform(0, 0.12)),
                mirrored=bool(rng.random() < 0.5),
            )
        )
    nearer = np.argsort([sticker.longer.mean() for sticker in moving])
    order = nearer if rng.random() < 0.5 else rng.permutation(len(moving))
    corner = np.rint(window).astype(np.int64)
    light = np.ones(len(times))
    if rng.random() < 0.3:
        light = 1.0 + wave(rng, times, rng.uniform(0.03, 0.15))
    return Scenery(
        number, corner - corner.min(axis=0), light, tuple(moving[int(index)] for index in order)
    )


def _motions(rng: np.random.Generator, cast: Sequence[Concept]) -> list[Motion]:
    """Those alike share a lane or circle one point; of each concept one at most leaves."""
    together = Motion.LANE if rng.random() < 0.5 else Motion.ORBIT
    kinds, shares = list(Motion), (0.25, 0.2, 0.15, 0.3, 0.1)
    left: set[Concept] = set()
    motions = []
    for concept in cast:
        motion = kinds[int(rng.choice(len(kinds), p=shares))]
        if list(cast).count(concept) > 1 and rng.random() < 0.7:
            motion = together
        if motion is Motion.VISIT:
            motion = Motion.ORBIT if concept in left else motion
            left.add(concept)
        motions.append(motion)
    return motions
