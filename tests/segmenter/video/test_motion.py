"""How a box that moves is foreseen, hidden or not."""

import numpy as np
import pytest

from services.segmenter.video.motion import (
    Extent,
    ObjectMotion,
    begun,
    extent_of,
    is_of_two,
    parted,
    predicted,
    share_of_two,
    surprise,
    updated,
)

GRAIN = (0.005, 0.005)


def extent(x0: float, y0: float, x1: float, y1: float) -> Extent:
    return Extent((x0, y0), (x1, y1), GRAIN)


def moving(frames: int, speed: float = 0.02, x: float = 0.1) -> ObjectMotion:
    """After a box of 0.2 x 0.1, its left edge first at `x`, went right for so many frames."""
    motion = begun(extent(x, 0.4, x + 0.2, 0.5))
    for at in range(1, frames):
        left = x + speed * at
        motion = updated(predicted(motion), extent(left, 0.4, left + 0.2, 0.5))
    return motion


def test_an_extent_is_in_shares_of_the_mask() -> None:
    mask = np.zeros((10, 20), np.bool_)
    mask[2:5, 4:8] = True
    assert extent_of(mask) == Extent((0.2, 0.2), (0.4, 0.5), (0.025, 0.05))
    assert extent_of(np.zeros((10, 20), np.bool_)) is None


def test_what_moves_evenly_is_foreseen() -> None:
    ahead = predicted(moving(10))
    assert ahead.center == pytest.approx((0.2 + 0.02 * 10, 0.45), abs=0.004)
    assert ahead.size == pytest.approx((0.2, 0.1))


def test_what_goes_unseen_is_less_sure_by_the_frame() -> None:
    motion = moving(10)
    spreads = []
    for _ in range(5):
        motion = predicted(motion)
        spreads.append(motion.spread[0])
    assert spreads == sorted(spreads)
    assert motion.center[0] > moving(10).center[0] + 0.06


def test_what_goes_behind_something_goes_on_at_its_size() -> None:
    """A wall from 0.5 on hides more of it in each frame; what shows hardly moves."""
    motion = moving(10)
    for at in range(10, 16):
        left = 0.1 + 0.02 * at
        motion = updated(predicted(motion), extent(left, 0.4, min(left + 0.2, 0.5), 0.5))
    assert motion.center[0] == pytest.approx(0.1 + 0.02 * 15 + 0.1, abs=0.02)
    assert motion.size[0] == pytest.approx(0.2, abs=0.03)


def test_what_leaves_the_frame_goes_on_beyond_its_edge() -> None:
    motion = moving(10, x=0.65)
    motion = updated(predicted(motion), extent(0.85, 0.4, 1.0, 0.5))
    motion = updated(predicted(motion), extent(0.87, 0.4, 1.0, 0.5))
    assert motion.center[0] == pytest.approx(0.97, abs=0.01)


def test_what_is_nearer_and_of_its_size_surprises_less() -> None:
    motion = predicted(moving(10))
    right = surprise(motion, extent(0.3, 0.4, 0.5, 0.5))
    beside = surprise(motion, extent(0.4, 0.4, 0.6, 0.5))
    larger = surprise(motion, extent(0.2, 0.35, 0.6, 0.55))
    elsewhere = surprise(motion, extent(0.3, 0.8, 0.5, 0.9))
    assert right < beside < elsewhere
    assert right < larger
    # A cut or a jolt is possible, so nothing is out of the question.
    assert surprise(motion, extent(0.0, 0.9, 0.2, 1.0)) == pytest.approx(elsewhere, abs=0.1)


def test_two_that_are_seen_as_one_are_parted_where_each_was_expected() -> None:
    left, right = predicted(moving(5, 0.0, 0.2)), predicted(moving(5, 0.0, 0.35))
    both = extent(0.21, 0.4, 0.56, 0.5)
    assert is_of_two(left, right, both)
    assert is_of_two(right, left, both)
    assert not is_of_two(left, right, extent(0.21, 0.4, 0.41, 0.5))
    assert not is_of_two(left, predicted(moving(5, 0.0, 0.7)), both)
    first, second = parted(left, right, both)
    assert left.center[0] < first.center[0] < left.center[0] + 0.011
    assert right.center[0] < second.center[0] < right.center[0] + 0.011
    own = share_of_two(first, second, (10, 100))
    assert own[:, :37].all()
    assert not own[:, 40:].any()
