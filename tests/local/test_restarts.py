"""Deaths are counted while they are recent, and forgotten then."""

from services.local.restarts import Restarts


def test_the_wait_doubles_and_ends() -> None:
    restarts = Restarts(most=3, forget_s=100, clock=lambda: 0.0)
    assert [restarts.died() for _ in range(4)] == [0.2, 0.4, 0.8, None]


def test_old_deaths_do_not_count() -> None:
    times = iter([0.0, 101.0, 202.0, 303.0, 310.0, 320.0])
    restarts = Restarts(most=2, forget_s=100, clock=lambda: next(times))
    assert [restarts.died() for _ in range(6)] == [0.2, 0.2, 0.2, 0.2, 0.4, None]
