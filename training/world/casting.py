"""Who appears in a clip and how: the shots of a clip, planned from one generator.

Between the seed and the renderer (`clips.py`). What a clip is meant to be hard in is decided here:
look-alikes that meet and cover each other, stickers that leave and come back, that enter late, a
camera that pans, a cut to another scene, light that changes.

Identity stays decidable. Of several stickers of one concept at most one leaves the frame or
enters late, and across a cut only a sticker whose concept appears once goes on; all others of
the new shot are of concepts not seen before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.world.paths import Role, Waypoint, drifting, trajectory
from training.world.vocabulary import Concept

MIN_FRAMES, MAX_FRAMES = 12, 90
MAX_OBJECTS = 6

LOOKALIKES = 0.6  # share of clips in which several stickers of one concept meet
PANNED = 0.35  # share of shots with a moving camera
CUT = 0.15  # share of clips of `CUT_FROM` frames or more with a cut
CUT_FROM = 24
LIT = 0.3  # share of shots whose light changes as a whole

# A path with a longer step, in shorter sides a frame, is drawn again, some times.
_HASTE, _TRIES = 0.14, 8

_ROLES = {Role.STAY: 0.5, Role.AWAY: 0.28, Role.LATE: 0.14, Role.LEAVE: 0.08}


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One sticker through one shot; arrays are by the frame of the shot.

    Attributes:
        id: of the object.
        concept: what it shows.
        centers: x and y in the frame, pixels, ``[n, 2]``.
        longer_side: of the upright sprite, pixels, ``[n]``.
        degrees: counter-clockwise, ``[n]``.
        brightness: factor on its colors, ``[n]``.
        mirrored: left and right exchanged.
    """

    id: int
    concept: Concept
    centers: NDArray[np.float64]
    longer_side: NDArray[np.float64]
    degrees: NDArray[np.float64]
    brightness: NDArray[np.float64]
    mirrored: bool


@dataclass(frozen=True, slots=True, eq=False)
class ShotPlan:
    """One shot.

    Attributes:
        first: its first frame's index in the clip.
        scenery: which of the clip's backgrounds lies behind it.
        camera: x and y of the frame's upper left corner on the background, pixels, ``[n, 2]``.
        light: factor on the finished picture, ``[n]``.
        tracks: bottom to top; later ones cover earlier ones.
    """

    first: int
    scenery: int
    camera: NDArray[np.int64]
    light: NDArray[np.float64]
    tracks: tuple[Track, ...]


@dataclass(frozen=True, slots=True)
class _Member:
    """One sticker's lasting looks."""

    id: int
    concept: Concept
    longer_side: float
    mirrored: bool
    brightness: float


def plan_shots(
    rng: np.random.Generator,
    concepts: Sequence[Concept],
    size: tuple[int, int],
    frame_count: int,
    rate: float,
) -> tuple[ShotPlan, ...]:
    """The shots of one clip.

    Args:
        rng: source of all choices.
        concepts: to draw from.
        size: width and height in pixels.
        frame_count: of the clip.
        rate: frames a second.
    """
    cut = frame_count >= CUT_FROM and rng.random() < CUT
    first_cast = _cast(rng, concepts, MAX_OBJECTS - 1 if cut else MAX_OBJECTS, 1)
    if not cut:
        return (_shot(rng, first_cast, size, 0, frame_count, rate, 0),)
    at = round(rng.uniform(0.35, 0.65) * frame_count)
    seen = [member.concept for member in first_cast]
    going_on = [m for m in first_cast if seen.count(m.concept) == 1 and rng.random() < 0.6]
    others = [concept for concept in concepts if concept not in seen]
    room = MAX_OBJECTS - len(first_cast)
    new = _cast(rng, others, room, len(first_cast) + 1) if others else []
    return (
        _shot(rng, first_cast, size, 0, at, rate, 0),
        _shot(rng, [*going_on, *new], size, at, frame_count - at, rate, 1),
    )


def _cast(
    rng: np.random.Generator, concepts: Sequence[Concept], most: int, first_id: int
) -> list[_Member]:
    """1 to `most` stickers, in many clips several of one concept."""
    total = int(rng.integers(1, most + 1))
    same = 0
    if rng.random() < LOOKALIKES and most >= 2:
        total = max(2, total)
        same = int(rng.integers(2, min(5, total) + 1))
    chosen = rng.permutation(len(concepts))[: total - same + 1]
    drawn = [chosen[0]] * max(1, same)
    drawn += [chosen[index % len(chosen)] for index in range(1, total - len(drawn) + 1)]
    base = float(np.exp(rng.uniform(np.log(0.16), np.log(0.42))))
    members = []
    for number, index in enumerate(drawn[:total]):
        own = float(np.exp(rng.uniform(np.log(0.14), np.log(0.5))))
        # Look-alikes of nearly one size are the hard ones.
        longer = base * float(np.exp(rng.normal(0, 0.12))) if number < same else own
        members.append(
            _Member(
                id=first_id + number,
                concept=concepts[int(index)],
                longer_side=float(np.clip(longer, 0.14, 0.5)),
                mirrored=bool(rng.random() < 0.5),
                brightness=float(rng.uniform(0.9, 1.1)),
            )
        )
    return members


def _shot(
    rng: np.random.Generator,
    cast: Sequence[_Member],
    size: tuple[int, int],
    first: int,
    frames: int,
    rate: float,
    scenery: int,
) -> ShotPlan:
    side = min(size)
    field = size[0] / side, size[1] / side
    spacing = max(5.0, float(np.exp(rng.uniform(np.log(0.5), np.log(2.5)))) * rate)
    camera = _camera(rng, frames, spacing, field)
    roles = _roles(rng, cast, frames)
    stops = _meetings(rng, cast, frames, field)
    tracks = []
    for member, role, own in zip(cast, roles, stops, strict=True):
        reach = 0.6 * member.longer_side * 1.25
        drawn: list[NDArray[np.float64]] = []
        while len(drawn) < _TRIES and (not drawn or _fastest(drawn[-1], field, reach) > _HASTE):
            # What leaves too little time for a trip outside is better without one.
            now = role if len(drawn) < _TRIES // 2 else Role.STAY
            drawn.append(trajectory(rng, now, frames, field, reach, spacing, own) - camera)
        centers = min(drawn, key=lambda path: _fastest(path, field, reach))
        growth = drifting(rng, frames, 1.5 * spacing, rng.uniform(0.0, 0.35))
        longer = np.clip(member.longer_side * np.exp(growth), 0.1, 0.6)
        tilt, swing = rng.uniform(-18, 18), rng.uniform(0, 25)
        degrees = np.clip(tilt + drifting(rng, frames, spacing, swing), -25, 25)
        shine = drifting(rng, frames, spacing, rng.uniform(0.0, 0.15))
        tracks.append(
            Track(
                id=member.id,
                concept=member.concept,
                centers=centers * side,
                longer_side=longer * side,
                degrees=degrees,
                brightness=member.brightness * (1.0 + shine),
                mirrored=member.mirrored,
            )
        )
    order = rng.permutation(len(tracks))
    corner = np.rint(camera * side).astype(np.int64)
    light = np.ones(frames)
    if rng.random() < LIT:
        light = 1.0 + drifting(rng, frames, 1.5 * spacing, 0.18)
    return ShotPlan(
        first=first,
        scenery=scenery,
        camera=corner - corner.min(axis=0),
        light=light,
        tracks=tuple(tracks[int(index)] for index in order),
    )


def _fastest(centers: NDArray[np.float64], field: tuple[float, float], reach: float) -> float:
    """The longest step between two frames in both of which the sticker may be seen."""
    inside = (centers > -reach) & (centers < np.array(field) + reach)
    seen = np.logical_and.reduce(inside, axis=1)
    steps = np.hypot(*np.diff(centers, axis=0).T)[seen[1:] & seen[:-1]]
    return float(steps.max(initial=0.0))


def _camera(
    rng: np.random.Generator, frames: int, spacing: float, field: tuple[float, float]
) -> NDArray[np.float64]:
    """Where the camera looks, in shorter sides beside its middle place, ``[frames, 2]``."""
    if rng.random() >= PANNED:
        return np.zeros((frames, 2))
    extent = rng.uniform(0.05, 0.3) * np.array(field) * (1.0, rng.uniform(0.0, 0.6))
    pans = [drifting(rng, frames, max(spacing, 0.4 * frames), float(e)) for e in extent]
    return np.stack(pans, axis=1)


def _roles(rng: np.random.Generator, cast: Sequence[_Member], frames: int) -> list[Role]:
    """One role each; of several of one concept at most one is not there all the time."""
    names, shares = list(_ROLES), list(_ROLES.values())
    roles: list[Role] = []
    gone: set[Concept] = set()
    for member in cast:
        role = names[int(rng.choice(len(names), p=shares))]
        if frames < 18 and role is Role.AWAY:
            role = Role.STAY
        if role is not Role.STAY and member.concept in gone:
            role = Role.STAY
        if role is not Role.STAY:
            gone.add(member.concept)
        roles.append(role)
    # Somebody is there from the first frame on and to the last.
    if Role.STAY not in roles:
        roles[0] = Role.STAY if frames < 18 else Role.AWAY
    return roles


def _meetings(
    rng: np.random.Generator, cast: Sequence[_Member], frames: int, field: tuple[float, float]
) -> list[list[Waypoint]]:
    """Waypoints that lead pairs through one another, look-alikes above all."""
    stops: list[list[Waypoint]] = [[] for _ in cast]
    if len(cast) < 2:
        return stops
    pairs = [
        (a, b)
        for a in range(len(cast))
        for b in range(a + 1, len(cast))
        if cast[a].concept == cast[b].concept
    ]
    most = max(1, min(3, frames // 16))
    for _ in range(int(rng.integers(1, most + 1))):
        if pairs and rng.random() < 0.8:
            a, b = pairs[int(rng.integers(len(pairs)))]
        elif rng.random() < 0.7:
            a, b = (int(index) for index in rng.permutation(len(cast))[:2])
        else:
            continue
        _meet(rng, (a, b), cast, frames, field, stops)
    return stops


def _meet(
    rng: np.random.Generator,
    pair: tuple[int, int],
    cast: Sequence[_Member],
    frames: int,
    field: tuple[float, float],
    stops: list[list[Waypoint]],
) -> None:
    """Add one meeting to the waypoints of a pair, unless either is busy at the time."""
    half = float(rng.uniform(4.0, max(5.0, min(14.0, 0.25 * frames))))
    low, high = half * 0.6, frames - half * 0.6
    if low >= high:
        return
    at = float(rng.uniform(low, high))
    busy = [stop.at for index in pair for stop in stops[index]]
    if busy and min(abs(time - at) for time in busy) < 2.2 * half:
        return
    place = rng.uniform(0.25, 0.75, 2) * np.array(field)
    apart = 0.5 * (cast[pair[0]].longer_side + cast[pair[1]].longer_side)
    angle = rng.uniform(0, 2 * np.pi)
    # From head-on to a right angle; one may also stand while the other passes.
    turn = np.pi + rng.uniform(-0.5, 0.5) * np.pi
    for index, heading in zip(pair, (angle, angle + turn), strict=True):
        way = rng.uniform(0.4, 1.0) * apart * 1.2 * np.array([np.cos(heading), np.sin(heading)])
        miss = rng.normal(0, 0.06, 2) * apart
        for time, share in ((at - half, -1.0), (at, 0.0), (at + half, 1.0)):
            point = place + share * way + miss
            stops[index].append(Waypoint(time, (float(point[0]), float(point[1]))))
        stops[index].sort(key=lambda stop: stop.at)
