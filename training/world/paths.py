"""Paths of motion: smooth values over the frames of a clip, laid through waypoints.

`clips.py` moves its stickers along them. Lengths are in units of the frame's shorter side and
times in frames, so that a path means the same at any size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

# Between waypoints that are free to move, in shorter sides a frame.
MAX_SPEED = 0.08

# How far a wandering sticker goes between free waypoints, standard deviation, shorter sides.
_STEP = 0.35

# How far inside the frame the centers of wandering stickers stay, in shorter sides.
_MARGIN = 0.08


class Role(StrEnum):
    """What a sticker does in a shot, as seen from the frame."""

    STAY = "stays in the frame"
    AWAY = "leaves the frame and comes back"
    LATE = "enters late"
    LEAVE = "leaves for good"


@dataclass(frozen=True, slots=True)
class Waypoint:
    """Where a center is at some frame.

    Attributes:
        at: frame; need not be whole.
        point: x and y in shorter sides.
        fixed: other paths rely on it; it is not moved to bound the speed.
    """

    at: float
    point: tuple[float, float]
    fixed: bool = True


def interpolated(
    knots: Sequence[float] | NDArray[np.float64], values: NDArray[np.float64], frames: int
) -> NDArray[np.float64]:
    """Values at the frames 0 to `frames` - 1 on a smooth curve through all knots.

    A cubic Hermite curve with the finite differences of its neighbors as tangents (a
    Catmull-Rom curve for even knots); constant before the first knot and after the last.

    Args:
        knots: frames, increasing; need not be whole.
        values: ``[len(knots), d]``.
        frames: how many.

    Returns:
        ``[frames, d]``.
    """
    times, points = np.asarray(knots, float), np.asarray(values, float)
    if len(times) == 1:
        return np.repeat(points, frames, axis=0)
    slopes = np.empty_like(points)
    slopes[1:-1] = (points[2:] - points[:-2]) / (times[2:] - times[:-2])[:, None]
    slopes[[0, -1]] = (points[[1, -1]] - points[[0, -2]]) / (times[[1, -1]] - times[[0, -2]])[
        :, None
    ]
    at = np.clip(np.arange(frames, dtype=float), times[0], times[-1])
    left = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    width = (times[left + 1] - times[left])[:, None]
    t = (at - times[left])[:, None] / width
    curve: NDArray[np.float64] = (
        (1 + 2 * t) * (1 - t) ** 2 * points[left]
        + t * (1 - t) ** 2 * width * slopes[left]
        + t**2 * (3 - 2 * t) * points[left + 1]
        + t**2 * (t - 1) * width * slopes[left + 1]
    )
    return curve


def drifting(
    rng: np.random.Generator, frames: int, spacing: float, amplitude: float
) -> NDArray[np.float64]:
    """A smooth wandering around 0, ``[frames]``: up to `amplitude`, a turn every `spacing`."""
    knots = np.arange(0.0, frames + spacing, spacing).tolist()
    return interpolated(knots, rng.uniform(-amplitude, amplitude, (len(knots), 1)), frames)[:, 0]


def trajectory(
    rng: np.random.Generator,
    role: Role,
    frames: int,
    field: tuple[float, float],
    reach: float,
    spacing: float,
    stops: Sequence[Waypoint] = (),
) -> NDArray[np.float64]:
    """The centers of one sticker, ``[frames, 2]``.

    Args:
        rng: source of all choices.
        role: what it does.
        frames: how many.
        field: width and height of the frame in shorter sides.
        reach: of the sticker from its center, in shorter sides; that far outside it is unseen.
        spacing: frames between free waypoints.
        stops: fixed waypoints, in order; free ones keep away from them in time.
    """
    own, jump = _role_stops(rng, role, frames, field, reach, [stop.at for stop in stops])
    fixed = sorted((*own, *stops), key=lambda stop: stop.at)
    taken = np.array([stop.at for stop in fixed])
    absent = _absence(role, own)
    points = [*fixed]
    here = _inside(rng, field)
    for at in np.arange(rng.uniform(-spacing, 0), frames + spacing, spacing):
        here = _near(rng, here, _STEP, field)
        busy = len(taken) and np.abs(taken - at).min() < 0.6 * spacing
        if not busy and not absent[0] <= at <= absent[1]:
            points.append(Waypoint(float(at), (float(here[0]), float(here[1])), fixed=False))
    points.sort(key=lambda stop: stop.at)
    if jump is None:
        return _through(points, frames)
    before = _through([stop for stop in points if stop.at <= jump], frames)
    after = _through([stop for stop in points if stop.at > jump], frames)
    return np.where(np.arange(frames)[:, None] <= jump, before, after)


def _through(points: Sequence[Waypoint], frames: int) -> NDArray[np.float64]:
    knots = [stop.at for stop in points]
    places = _slowed(knots, np.array([stop.point for stop in points]), [s.fixed for s in points])
    return interpolated(knots, places, frames)


def _role_stops(
    rng: np.random.Generator,
    role: Role,
    frames: int,
    field: tuple[float, float],
    reach: float,
    taken: Sequence[float],
) -> tuple[list[Waypoint], float | None]:
    """The waypoints that a role asks for, and when, unseen, it goes to another edge."""
    if role is Role.STAY:
        return [], None
    first, last = (min(taken), max(taken)) if taken else (frames / 2, frames / 2)
    out, inside = _edge(rng, field, reach)
    # Frames from unseen to wholly seen, at most of the speeds that are walked.
    travel = float(np.hypot(*np.subtract(out, inside))) / MAX_SPEED * rng.uniform(1.0, 1.8)
    match role:
        case Role.LATE:
            start = max(1.0, rng.uniform(0.15, 0.6) * (first - travel if taken else frames))
            return [
                Waypoint(-1.0, out),
                Waypoint(start, out),
                Waypoint(start + travel, inside),
            ], None
        case Role.LEAVE:
            start = last + rng.uniform(0.4, 0.85) * (frames - last)
            return [
                Waypoint(start - travel, inside),
                Waypoint(start, out),
                Waypoint(frames + 1.0, out),
            ], None
        case _:
            return _absences(rng, frames, field, reach, travel, (out, inside), (first, last))


def _absences(
    rng: np.random.Generator,
    frames: int,
    field: tuple[float, float],
    reach: float,
    travel: float,
    edge: tuple[tuple[float, float], tuple[float, float]],
    taken: tuple[float, float],
) -> tuple[list[Waypoint], float | None]:
    """Out through an edge and back in through it or another one, beside the times `taken`."""
    room = (taken[1], float(frames)) if frames - taken[1] > taken[0] else (0.0, taken[0])
    if taken[0] == taken[1]:
        room = (0.0, float(frames))
    # The whole trip takes at most 90 % of the room; then travel is shortened first.
    travel = min(travel, 0.25 * (room[1] - room[0]))
    longest = 0.9 * (room[1] - room[0]) - 2 * travel
    length = float(np.clip(rng.uniform(0.1, 0.35) * frames, 2.0, max(2.0, longest)))
    slack = max(0.0, room[1] - room[0] - length - 2 * travel)
    start = room[0] + travel + rng.uniform(0.1, 0.8) * slack
    out, inside = edge
    other = edge if rng.random() < 0.5 else _edge(rng, field, reach)
    trip = [
        Waypoint(start - travel, inside),
        Waypoint(start, out),
        Waypoint(start + length, other[0]),
        Waypoint(start + length + travel, other[1]),
    ]
    if other is edge:
        return trip, None
    jump = start + length / 2
    waits = [Waypoint(jump - 0.25, out), Waypoint(jump + 0.25, other[0])]
    return sorted((*trip, *waits), key=lambda stop: stop.at), jump


def _absence(role: Role, own: Sequence[Waypoint]) -> tuple[float, float]:
    """The time that no free waypoint may interrupt."""
    times = [stop.at for stop in own]
    match role:
        case Role.STAY:
            return np.inf, -np.inf
        case Role.LATE:
            return -np.inf, times[-1]
        case Role.LEAVE:
            return times[0], np.inf
        case Role.AWAY:
            return times[0], times[-1]


def _inside(rng: np.random.Generator, field: tuple[float, float]) -> NDArray[np.float64]:
    return rng.uniform(_MARGIN, np.array(field) - _MARGIN)


def _near(
    rng: np.random.Generator, point: NDArray[np.float64], spread: float, field: tuple[float, float]
) -> NDArray[np.float64]:
    """A place inside the frame some way from another."""
    moved = point + rng.normal(0, spread, 2)
    return np.clip(moved, _MARGIN, np.array(field) - _MARGIN)


def _edge(
    rng: np.random.Generator, field: tuple[float, float], reach: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """A place just beyond one of the edges, and one inside where all can be seen."""
    outside = _inside(rng, field)
    axis, low = int(rng.integers(2)), rng.random() < 0.5
    beyond = reach * rng.uniform(1.05, 1.4)
    within = min(0.5 * field[axis], reach * rng.uniform(1.0, 1.5))
    inside = np.clip(outside + rng.normal(0, 0.1, 2), _MARGIN, np.array(field) - _MARGIN)
    outside[axis] = -beyond if low else field[axis] + beyond
    inside[axis] = within if low else field[axis] - within
    return (float(outside[0]), float(outside[1])), (float(inside[0]), float(inside[1]))


def _slowed(
    knots: Sequence[float], points: NDArray[np.float64], fixed: Sequence[bool]
) -> NDArray[np.float64]:
    """Free waypoints pulled towards their neighbors until none is farther than can be walked."""
    slowed = points.copy()
    for order in (range(1, len(knots)), range(len(knots) - 2, -1, -1)):
        step = -1 if order.step > 0 else 1
        for index in order:
            away = slowed[index] - slowed[index + step]
            far = MAX_SPEED * abs(knots[index] - knots[index + step])
            distance = float(np.hypot(*away))
            if not fixed[index] and distance > far:
                slowed[index] = slowed[index + step] + away * (far / distance)
    return slowed
