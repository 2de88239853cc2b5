"""Clips: stickers that move over a background, with the exact truth of every frame.

The video renderer of sticker world. `ClipWorld.clip` plans a clip from one seed (`casting.py`
decides who appears and `paths.py` how they move), and `Clip.frames` draws it. Trainers, the
evaluator and the writer of video files take clips from here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.world.backgrounds import PLAIN, Kind, draw_background
from training.world.casting import MAX_FRAMES, MIN_FRAMES, ShotPlan, Track, plan_shots
from training.world.scenes import Scene, SceneInstance, is_dont_care
from training.world.sprites import Sprite, SpriteSheet
from training.world.vocabulary import Concept, Vocabulary

# The sides of a clip where none are asked for, pixels.
_SIDES = (256, 640)

_OPAQUE = 0.5
_PLAN, _BACKGROUND = 11, 12


@dataclass(frozen=True, slots=True, eq=False)
class ClipFrame:
    """One frame and its truth.

    Attributes:
        index: from 0.
        time_s: seconds from the first frame.
        image: uint8 ``[h, w, 3]``, RGB.
        masks: the visible pixels, bool ``[h, w]``, by object id; only of objects that have one.
        visibility: the share of an object's whole area that can be seen, 0 to 1, by object id,
            for all objects of the clip; what lies outside the frame counts as hidden.
    """

    index: int
    time_s: float
    image: NDArray[np.uint8]
    masks: Mapping[int, NDArray[np.bool_]]
    visibility: Mapping[int, float]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.image.shape[1], self.image.shape[0]

    @property
    def wanted(self) -> tuple[int, ...]:
        """Ids of the objects that must be found in this frame, in order."""
        return tuple(number for number in self.masks if not self._little(number))

    @property
    def dont_care(self) -> tuple[int, ...]:
        """Ids of the objects that show too little to be wanted or counted against."""
        return tuple(number for number in self.masks if self._little(number))

    def _little(self, number: int) -> bool:
        return is_dont_care(int(self.masks[number].sum()), self.visibility[number], self.size)


@dataclass(frozen=True, slots=True)
class ClipObject:
    """One sticker of a clip.

    Attributes:
        id: from 1; the same through the whole clip, however long it is unseen.
        concept: its name in the vocabulary.
    """

    id: int
    concept: str


class AnyClip(Protocol):
    """A clip of any renderer; attributes and method as of `Clip`."""

    @property
    def seed(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def rate(self) -> float: ...

    @property
    def frame_count(self) -> int: ...

    @property
    def objects(self) -> tuple[ClipObject, ...]: ...

    @property
    def cuts(self) -> tuple[int, ...]: ...

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[ClipFrame]:
        """Draw the clip, or those of its frames, in this order."""


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A clip that is not yet drawn.

    Attributes:
        seed: that it was made from.
        width, height: in pixels.
        rate: frames a second.
        frame_count: how many.
        objects: all that appear in it, by id.
        cuts: indices of the frames with which a new shot begins; not the first frame.
        shots: what is drawn.
        backgrounds: kinds of background to draw from.
    """

    seed: int
    width: int
    height: int
    rate: float
    frame_count: int
    objects: tuple[ClipObject, ...]
    cuts: tuple[int, ...]
    shots: tuple[ShotPlan, ...] = field(repr=False)
    backgrounds: tuple[Kind, ...] = field(repr=False, default=PLAIN)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    def frames(self, indices: Sequence[int] | None = None) -> Iterator[ClipFrame]:
        """Draw the clip, always the same.

        Args:
            indices: of the frames to draw, in this order; by default all.

        Raises:
            IndexError: an index is not a frame of the clip.
        """
        drawn: tuple[ShotPlan, NDArray[np.uint8]] | None = None
        for index in range(self.frame_count) if indices is None else indices:
            if not 0 <= index < self.frame_count:
                raise IndexError(f"frame {index} of a clip of {self.frame_count}")
            shot = next(shot for shot in reversed(self.shots) if shot.first <= index)
            if drawn is None or drawn[0] is not shot:
                drawn = shot, self._background(shot)
            yield self._frame(index, *drawn)

    def _background(self, shot: ShotPlan) -> NDArray[np.uint8]:
        rng = np.random.default_rng([self.seed, _BACKGROUND, shot.scenery])
        extent = shot.camera.max(axis=0)
        size = (self.width + int(extent[0]), self.height + int(extent[1]))
        return draw_background(rng, size, self.backgrounds)

    def _frame(self, index: int, shot: ShotPlan, background: NDArray[np.uint8]) -> ClipFrame:
        at = index - shot.first
        x, y = (int(value) for value in shot.camera[at])
        canvas = background[y : y + self.height, x : x + self.width].copy()
        owner = np.zeros((self.height, self.width), np.uint8)
        whole: dict[int, int] = {}
        for track in shot.tracks:
            whole[track.id] = _lay(canvas, owner, track, at)
        if (light := float(shot.light[at])) != 1.0:
            np.minimum(canvas * np.float32(light), 255.0, out=canvas, casting="unsafe")
        counts = np.bincount(owner.ravel(), minlength=len(self.objects) + 1)
        return ClipFrame(
            index=index,
            time_s=index / self.rate,
            image=canvas,
            masks={o.id: owner == o.id for o in self.objects if counts[o.id]},
            visibility={
                o.id: float(counts[o.id] / whole[o.id]) if counts[o.id] else 0.0
                for o in self.objects
            },
        )


@dataclass(frozen=True, slots=True)
class ClipWorld:
    """Makes clips, each from one seed.

    Attributes:
        backgrounds: kinds of background to draw from.
        concepts: to draw from; by default the whole vocabulary.
    """

    backgrounds: tuple[Kind, ...] = PLAIN
    concepts: tuple[Concept, ...] = field(default_factory=lambda: Vocabulary.load().concepts)

    def clip(
        self, seed: int, *, size: tuple[int, int] | None = None, frame_count: int | None = None
    ) -> Clip:
        """The clip of a seed, always the same.

        Args:
            seed: see `training.world.splits`.
            size: width and height in pixels; by default 256 to 640 a side, aspect 1:2 to 2:1.
            frame_count: how many; by default 12 to 90.
        """
        rng = np.random.default_rng([seed, _PLAN])
        drawn_size, drawn_count = _size(rng), int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1))
        width, height = size or drawn_size
        count = frame_count or drawn_count
        rate = float(rng.integers(10, 25))
        shots = plan_shots(rng, self.concepts, (width, height), count, rate)
        members = {track.id: track.concept.name for shot in shots for track in shot.tracks}
        return Clip(
            seed=seed,
            width=width,
            height=height,
            rate=rate,
            frame_count=count,
            objects=tuple(ClipObject(number, members[number]) for number in sorted(members)),
            cuts=tuple(shot.first for shot in shots[1:]),
            shots=shots,
            backgrounds=self.backgrounds,
        )


def scene_of(clip: AnyClip, index: int = 0) -> tuple[Scene, tuple[int, ...]]:
    """One frame of a clip as a scene, and the object ids of its instances in their order.

    Objects without a visible pixel are left out.
    """
    frame = next(clip.frames([index]))
    named = {member.id: Vocabulary.load().by_name[member.concept] for member in clip.objects}
    instances = tuple(
        _instance(named[number], mask, frame.visibility[number])
        for number, mask in frame.masks.items()
    )
    return Scene(frame.image, instances), tuple(frame.masks)


def _size(rng: np.random.Generator) -> tuple[int, int]:
    low, high = _SIDES
    aspect = 2.0 ** rng.uniform(0, 1)
    shorter = np.exp(rng.uniform(np.log(low), np.log(high / aspect)))
    # Even, as video files ask for.
    sides = 2 * round(0.5 * shorter), min(high, 2 * round(0.5 * shorter * aspect))
    return sides if rng.random() < 0.35 else sides[::-1]


def _lay(canvas: NDArray[np.uint8], owner: NDArray[np.uint8], track: Track, at: int) -> int:
    """Draw one sticker and claim its opaque pixels; returns how many it has in all."""
    center = float(track.centers[at, 0]), float(track.centers[at, 1])
    longer = float(track.longer_side[at])
    height, width = owner.shape
    reach = 0.75 * longer + 2.0
    if not (-reach < center[0] < width + reach and -reach < center[1] < height + reach):
        return 0
    sprite, (left, top) = SpriteSheet.load().pose_at(
        track.concept.index, center, longer, float(track.degrees[at]), track.mirrored
    )
    opaque = sprite.alpha > _OPAQUE
    y0, x0 = max(0, top), max(0, left)
    y1, x1 = min(height, top + opaque.shape[0]), min(width, left + opaque.shape[1])
    if y0 < y1 and x0 < x1:
        own = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
        _blend(canvas[y0:y1, x0:x1], Sprite(sprite.color[own], sprite.alpha[own]), track, at)
        owner[y0:y1, x0:x1][opaque[own]] = track.id
    return int(opaque.sum())


def _blend(window: NDArray[np.uint8], sprite: Sprite, track: Track, at: int) -> None:
    alpha = sprite.alpha[..., None]
    color = np.minimum(sprite.color * np.float32(track.brightness[at]), 255.0 * alpha)
    blended = window * (1.0 - alpha) + color
    window[:] = np.minimum(blended + 0.5, 255.0).astype(np.uint8)


def _instance(concept: Concept, mask: NDArray[np.bool_], visibility: float) -> SceneInstance:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
    frame, area = (mask.shape[1], mask.shape[0]), int(mask.sum())
    return SceneInstance(
        concept=concept,
        visible=mask[box[1] : box[3], box[0] : box[2]],
        box=box,
        frame=frame,
        area=area,
        visible_fraction=visibility,
        dont_care=is_dont_care(area, visibility, frame),
    )
