import numpy as np
import pytest

from training.world.paths import Role, Waypoint, drifting, interpolated, trajectory

FIELD = (1.5, 1.0)
REACH = 0.2


def unseen(path: np.ndarray) -> np.ndarray:
    return ~((path > -REACH) & (path < np.array(FIELD) + REACH)).all(axis=1)


def test_a_curve_goes_through_its_knots_and_rests_outside_them():
    values = np.array([[0.0, 1.0], [2.0, 3.0], [1.0, 0.0]])
    curve = interpolated([2, 5, 9], values, 12)
    assert curve.shape == (12, 2)
    np.testing.assert_allclose(curve[[2, 5, 9]], values)
    np.testing.assert_allclose(curve[[0, 1, 10, 11]], values[[0, 0, 2, 2]])


def test_a_curve_through_a_straight_line_is_that_line():
    curve = interpolated([0, 3, 4, 10], np.array([[0.0], [3.0], [4.0], [10.0]]), 11)
    np.testing.assert_allclose(curve[:, 0], np.arange(11), atol=1e-12)


def test_one_knot_stands_still():
    np.testing.assert_array_equal(interpolated([3], np.array([[7.0]]), 4), np.full((4, 1), 7.0))


def test_drift_is_smooth_and_bounded():
    values = drifting(np.random.default_rng(0), 200, 20, 0.5)
    assert values.shape == (200,)
    assert 0.2 < np.abs(values).max() < 0.8
    assert np.abs(np.diff(values, 2)).max() < 0.02


@pytest.mark.parametrize("seed", range(20))
def test_roles_are_what_they_say(seed: int):
    paths = {
        role: trajectory(np.random.default_rng([seed, 0]), role, 60, FIELD, REACH, 12)
        for role in Role
    }
    gone = {role: unseen(path) for role, path in paths.items()}
    assert not gone[Role.STAY].any()
    assert gone[Role.LATE][0]
    assert not gone[Role.LATE][-1]
    assert not gone[Role.LEAVE][0]
    assert gone[Role.LEAVE][-1]
    away = np.flatnonzero(gone[Role.AWAY])
    assert len(away) >= 3
    assert np.ptp(away) + 1 == len(away), "it leaves once"
    assert not gone[Role.AWAY][[0, -1]].any()


def test_fixed_waypoints_are_kept():
    stops = [Waypoint(10.0, (0.2, 0.3)), Waypoint(20.0, (1.2, 0.7)), Waypoint(30.0, (0.4, 0.5))]
    path = trajectory(np.random.default_rng(1), Role.STAY, 50, FIELD, REACH, 8, stops)
    np.testing.assert_allclose(path[[10, 20, 30]], [stop.point for stop in stops])
