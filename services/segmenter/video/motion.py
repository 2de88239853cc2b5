"""How a tracked object moves: where it is expected next, and how surprising a sighting is.

A Kalman filter of constant velocity for the center, each axis by itself, and a running size, as
trackers by detection keep them (Bewley et al., "Simple Online and Realtime Tracking", 2016), here
beside a tracker that recognizes: SAM 3's memory tells a dog from a cat, but not one of two equal
dogs from the other once they have crossed.

All lengths are shares of the frame's width and height, all times frames. What is partly hidden
keeps its size: its center is reckoned from the edges that still show.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi

import numpy as np
from numpy.typing import NDArray

Pair = tuple[float, float]
"""A value by axis: x, y."""

# Standard deviations: of a step's change of speed, of a new object's speed, of a seen center beyond
# half a pixel of the mask, in sizes of the object.
_ACCELERATION = 0.0125
_FIRST_SPEED = 0.05
_JITTER = 0.03
# What an unseen object keeps of its speed from frame to frame.
_PERSISTENCE = 0.9
# Shorter than known by this share, an object has a hidden edge; its center is then less sure.
_HIDDEN_EDGE = 0.1
_HIDDEN_VARIANCE = 4.0
# Of a new size, the share that is taken over: growing, wholly seen, partly hidden.
_GROWTH, _CHANGE, _LOSS = 0.45, 0.3, 0.06
# Standard deviations of the logarithm of a seen size over the known: larger, and smaller.
_LARGER, _SMALLER = 0.3, 0.7
# What is of two objects holds this share of the box where the second is expected, does not fit the
# first by this share of its size, and fits both with less than this share of that misfit.
_INSIDE, _MISFIT, _BETTER = 0.6, 0.15, 0.7
# The share of sightings that follow no path: cuts, jolts of the camera.
_OUTLIERS = 0.02


@dataclass(frozen=True, slots=True)
class Extent:
    """A box around a mask: upper left and lower right corner, and half a pixel of that mask."""

    low: Pair
    high: Pair
    grain: Pair


@dataclass(frozen=True, slots=True)
class ObjectMotion:
    """An object's state after a frame.

    Attributes:
        center: where it is.
        speed: a frame.
        size: width and height when nothing hides it.
        spread: variance of the center,
        drift: covariance of center and speed,
        doubt: variance of the speed.
    """

    center: Pair
    speed: Pair
    size: Pair
    spread: Pair
    drift: Pair
    doubt: Pair


@dataclass(frozen=True, slots=True)
class Placing:
    """Where an object lies as a whole: center and size, and whether a part of it is hidden."""

    center: Pair
    size: Pair
    hidden: bool


def extent_of(mask: NDArray[np.bool_]) -> Extent | None:
    """The extent of a mask, bool (h, w); None of an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    height, width = mask.shape
    return Extent(
        (float(columns[0] / width), float(rows[0] / height)),
        (float((columns[-1] + 1) / width), float((rows[-1] + 1) / height)),
        (0.5 / width, 0.5 / height),
    )


def begun(extent: Extent) -> ObjectMotion:
    """The motion of an object that is seen for the first time."""
    low, high, grain = map(np.array, (extent.low, extent.high, extent.grain))
    size = high - low
    return ObjectMotion(
        center=_pair((low + high) / 2),
        speed=(0.0, 0.0),
        size=_pair(size),
        spread=_pair(grain**2 + (_JITTER * size) ** 2),
        drift=(0.0, 0.0),
        doubt=(_FIRST_SPEED**2, _FIRST_SPEED**2),
    )


def predicted(motion: ObjectMotion) -> ObjectMotion:
    """`motion` one frame on, nothing seen."""
    m = _Arrays.of(motion)
    noise = _ACCELERATION**2
    return ObjectMotion(
        center=_pair(m.center + m.speed),
        speed=_pair(_PERSISTENCE * m.speed),
        size=motion.size,
        spread=_pair(m.spread + 2 * m.drift + m.doubt + noise / 4),
        drift=_pair(m.drift + m.doubt + noise / 2),
        doubt=_pair(m.doubt + noise),
    )


def updated(motion: ObjectMotion, extent: Extent) -> ObjectMotion:
    """`motion`, predicted for a frame, after its object was seen there."""
    m = _Arrays.of(motion)
    seen = _Sighting.of(m, extent)
    share = np.where(seen.size > m.size, _GROWTH, np.where(seen.hidden, _LOSS, _CHANGE))
    size = _pair(m.size * (seen.size / m.size) ** share)
    return _corrected(m, size, seen.center, seen.variance, np.ones(2, np.bool_))


def placed(motion: ObjectMotion | None, extent: Extent) -> Placing:
    """Where the object of `motion`, predicted for a frame, lies if it shows there as `extent`; one
    that was not known shows whole.
    """
    m = _Arrays.of(motion or begun(extent))
    seen = _Sighting.of(m, extent)
    size = np.where(seen.hidden, m.size, seen.size)
    return Placing(_pair(seen.center), _pair(size), bool(seen.hidden.any()))


def parted(
    first: ObjectMotion, second: ObjectMotion, extent: Extent
) -> tuple[ObjectMotion, ObjectMotion]:
    """Both motions, predicted for a frame, after their objects were seen there as one `extent`.

    Whoever was expected to reach farther to a side is what reaches there; between, nothing is seen.
    """
    return _outer(first, second, extent), _outer(second, first, extent)


def share_of_two(
    first: ObjectMotion, second: ObjectMotion, shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Of a grid of `shape` (h, w), the pixels that are nearer to `first`, in sizes of each."""
    height, width = shape
    x, y = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height

    def far(motion: ObjectMotion) -> NDArray[np.float64]:
        across = ((x - motion.center[0]) / motion.size[0]) ** 2
        down = ((y - motion.center[1]) / motion.size[1]) ** 2
        distance: NDArray[np.float64] = across[None] + down[:, None]
        return distance

    nearer: NDArray[np.bool_] = far(first) < far(second)
    return nearer


def is_of_two(alone: ObjectMotion, other: ObjectMotion, extent: Extent) -> bool:
    """Whether `extent`, which would be the object of `alone`, rather shows that of `other` as well:
    it holds most of where that is expected, and the box around both fits it much better.
    """
    low, high = np.array(extent.low), np.array(extent.high)
    size = np.array(alone.size)
    (low_a, high_a), (low_b, high_b) = _box(alone), _box(other)
    shared = np.maximum(0.0, np.minimum(high, high_b) - np.maximum(low, low_b)).prod()
    if shared < _INSIDE * (high_b - low_b).prod():
        return False
    misfit = ((np.abs(low - low_a) + np.abs(high - high_a)) / size).sum()
    of_both = np.abs(low - np.minimum(low_a, low_b)) + np.abs(high - np.maximum(high_a, high_b))
    return bool(misfit >= _MISFIT and (of_both / size).sum() < _BETTER * misfit)


def surprise(motion: ObjectMotion, extent: Extent) -> float:
    """The negative logarithm of the likelihood that the object of `motion`, predicted for this
    frame, shows as `extent`; bounded, since some move as nobody foresees.
    """
    m = _Arrays.of(motion)
    seen = _Sighting.of(m, extent)
    total = m.spread + seen.variance
    miss = seen.center - m.center
    density = np.exp(-0.5 * (miss**2 / total).sum()) / (2 * pi * np.sqrt(total.prod()))
    ratio = np.log(seen.size / m.size)
    sizes = np.clip(ratio / np.where(ratio > 0, _LARGER, _SMALLER), -5, 5)
    return -log((1 - _OUTLIERS) * float(density) + _OUTLIERS) + 0.5 * float((sizes**2).sum())


@dataclass(frozen=True, slots=True, eq=False)
class _Arrays:
    """A `ObjectMotion` to reckon with: each attribute float64 (2,)."""

    center: NDArray[np.float64]
    speed: NDArray[np.float64]
    size: NDArray[np.float64]
    spread: NDArray[np.float64]
    drift: NDArray[np.float64]
    doubt: NDArray[np.float64]

    @classmethod
    def of(cls, motion: ObjectMotion) -> "_Arrays":
        return cls(
            np.array(motion.center),
            np.array(motion.speed),
            np.array(motion.size),
            np.array(motion.spread),
            np.array(motion.drift),
            np.array(motion.doubt),
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Sighting:
    """What an extent says of an object that is expected: each attribute (2,), by axis."""

    center: NDArray[np.float64]
    size: NDArray[np.float64]
    hidden: NDArray[np.bool_]
    variance: NDArray[np.float64]

    @classmethod
    def of(cls, motion: _Arrays, extent: Extent) -> "_Sighting":
        low, high, grain = map(np.array, (extent.low, extent.high, extent.grain))
        size = high - low
        by_low, by_high = low + motion.size / 2, high - motion.size / 2
        near = np.abs(by_low - motion.center) < np.abs(by_high - motion.center)
        cut_low, cut_high = low <= 0, high >= 1
        # Where the frame cuts an object, its own edge lies beyond.
        near = np.where(cut_low != cut_high, cut_high, near)
        shorter = size < motion.size
        hidden = (size < (1 - _HIDDEN_EDGE) * motion.size) | (shorter & (cut_low | cut_high))
        center = np.where(hidden, np.where(near, by_low, by_high), (low + high) / 2)
        variance = grain**2 + (_JITTER * motion.size) ** 2
        return cls(center, size, hidden, variance * np.where(hidden, _HIDDEN_VARIANCE, 1))


def _box(motion: ObjectMotion) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper left and lower right corner of where the object is expected."""
    center, half = np.array(motion.center), np.array(motion.size) / 2
    return center - half, center + half


def _outer(motion: ObjectMotion, other: ObjectMotion, extent: Extent) -> ObjectMotion:
    """`motion` after the edges of `extent` that are its object's, `other` being inside as well."""
    m = _Arrays.of(motion)
    low, high, grain = map(np.array, (extent.low, extent.high, extent.grain))
    (low_m, high_m), (low_o, high_o) = _box(motion), _box(other)
    lowest, highest = low_m <= low_o, high_m >= high_o
    by_low, by_high = low + m.size / 2, high - m.size / 2
    both = lowest & highest
    center = np.where(both, (low + high) / 2, np.where(lowest, by_low, by_high))
    variance = (grain**2 + (_JITTER * m.size) ** 2) * np.where(both, 1, _HIDDEN_VARIANCE)
    return _corrected(m, motion.size, center, variance, lowest | highest)


def _corrected(
    m: "_Arrays",
    size: Pair,
    center: NDArray[np.float64],
    variance: NDArray[np.float64],
    known: NDArray[np.bool_],
) -> ObjectMotion:
    """A Kalman filter's update by a seen center, on the axes on which it is known."""
    total = m.spread + variance
    gain, gain_speed = (np.where(known, part / total, 0) for part in (m.spread, m.drift))
    miss = center - m.center
    return ObjectMotion(
        center=_pair(m.center + gain * miss),
        speed=_pair(m.speed + gain_speed * miss),
        size=size,
        spread=_pair((1 - gain) * m.spread),
        drift=_pair((1 - gain) * m.drift),
        doubt=_pair(m.doubt - gain_speed * m.drift),
    )


def _pair(values: NDArray[np.float64] | Sequence[float]) -> Pair:
    return float(values[0]), float(values[1])
