"""Motion of the second clip renderer: oscillations, lanes, bounces and visits, all of closed form.

Written apart from `training.world.paths`, which lays curves through waypoints. Positions are
fractions of the frame's width and height, times are seconds.
"""

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]
Path = NDArray[np.float64]
"""x and y by time, ``[n, 2]``."""

# The fastest that anything oscillates, in frame sides a second.
_PACE = (0.12, 0.6)


class Motion(StrEnum):
    """How a sticker moves."""

    ORBIT = "orbit"
    LANE = "lane"
    BOUNCE = "bounce"
    VISIT = "visit"
    REST = "rest"


def orbit(rng: np.random.Generator, times: Times, middle: NDArray[np.float64]) -> Path:
    """A Lissajous figure around a point."""
    amplitude = rng.uniform(0.06, 0.3, 2)
    speed = rng.uniform(*_PACE) / amplitude.max() * np.array([1.0, rng.uniform(0.5, 1.5)])
    phase = rng.uniform(0, 2 * np.pi, 2)
    return np.asarray(middle + amplitude * np.sin(speed * times[:, None] + phase))


def lane(
    rng: np.random.Generator,
    times: Times,
    level: float,
    upright: bool,
    phase: float,
    pace: tuple[float, float],
) -> Path:
    """Back and forth along a line; what shares level and pace is met on the way again and again.

    Args:
        rng: source of the small differences.
        times: of the frames, seconds.
        level: where the line lies.
        upright: whether it is upright.
        phase: of the oscillation, radians.
        pace: its amplitude and its radians a second.
    """
    amplitude, speed = pace * rng.uniform(0.95, 1.05, 2)
    along = 0.5 + amplitude * np.sin(speed * times + phase)
    across = level + rng.uniform(0.0, 0.05) * np.sin(rng.uniform(0.5, 2.5) * times + phase)
    return np.stack((across, along) if upright else (along, across), axis=1)


def lane_pace(rng: np.random.Generator) -> tuple[float, float]:
    """An amplitude and radians a second for `lane`."""
    amplitude = rng.uniform(0.2, 0.38)
    return amplitude, rng.uniform(*_PACE) / amplitude


def bounce(rng: np.random.Generator, times: Times) -> Path:
    """Thrown up again and again under constant gravity, drifting between the sides."""
    period, height = rng.uniform(0.8, 2.0), rng.uniform(0.15, 0.5)
    ground = rng.uniform(0.6, 0.85)
    phase = (times / period + rng.random()) % 1.0
    y = ground - 4 * height * phase * (1 - phase)
    drift = rng.uniform(0.05, 0.35) * times + rng.uniform(0, 1.6)
    x = 0.1 + np.abs((drift % 1.6) - 0.8)
    return np.stack((x, y), axis=1)


def rest(rng: np.random.Generator, times: Times) -> Path:
    """Nearly still, as if hanging on a thread."""
    sway = rng.uniform(0.0, 0.03) * np.sin(rng.uniform(1, 4) * times)[:, None]
    return np.asarray(rng.uniform(0.15, 0.85, 2) + sway * (1.0, 0.2))


def visit(rng: np.random.Generator, times: Times, reach: NDArray[np.float64]) -> Path:
    """In the frame, out through an edge, and back through it or through the one opposite.

    Args:
        rng: source of all choices.
        times: of the frames, seconds.
        reach: of the sticker from its center, in fractions of width and height.
    """
    total = float(times[-1] - times[0]) + 1e-6
    move = max(0.45, rng.uniform(0.12, 0.2) * total)  # seconds to the edge, seconds back
    gone = float(np.clip(rng.uniform(0.08, 0.3) * total, 0.3, max(0.3, 0.9 * total - 2 * move)))
    start = rng.uniform(0.1, 0.8) * max(0.0, total - 2 * move - gone)
    home, axis = rng.uniform(0.25, 0.75, 2), int(rng.integers(2))
    side = 1.0 if rng.random() < 0.5 else -1.0
    back = side if rng.random() < 0.6 else -side
    far = 0.5 + reach[axis] * 1.15
    clock = times - times[0] - start
    out, returned = _eased(clock / move), _eased((clock - move - gone) / move)
    leaving = (0.5 + side * far - home[axis]) * out
    coming = (0.5 + back * far - home[axis]) * (1 - returned)
    path = np.repeat(home[None], len(times), axis=0)
    path[:, axis] += np.where(clock < move + gone / 2, leaving, coming)
    path[:, 1 - axis] += 0.05 * np.sin(rng.uniform(0.5, 2) * times)
    return path


def wave(rng: np.random.Generator, times: Times, amplitude: float) -> NDArray[np.float64]:
    """A slow oscillation around 0, ``[n]``."""
    values: NDArray[np.float64] = amplitude * np.sin(
        rng.uniform(0.4, 2.2) * times + rng.uniform(0, 2 * np.pi)
    )
    return values


def _eased(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """0 before 0, 1 after 1, and a half wave of a cosine between."""
    eased: NDArray[np.float64] = 0.5 - 0.5 * np.cos(np.pi * np.clip(share, 0.0, 1.0))
    return eased
