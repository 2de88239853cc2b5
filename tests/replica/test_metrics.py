"""What replicas count through Ray, whatever the amounts: a frame may show nothing."""

import pytest

from services.planner.metrics import ServePlannerMetrics
from services.replica.metrics import RayInstruments, ServeMetrics, add
from services.tracker.metrics import ServeTrackerMetrics


class Counted:
    """Refuses what Ray's counters refuse."""

    def __init__(self) -> None:
        self.total = 0.0

    def inc(self, value: float, tags: dict[str, str] | None) -> None:
        if value <= 0:
            raise ValueError(f"value must be >0, got {value}")
        self.total += value


@pytest.mark.parametrize("amounts", [(0,), (2, 0, 3)])
def test_nothing_is_added_as_nothing(amounts: tuple[int, ...]) -> None:
    counter = Counted()
    for amount in amounts:
        add(counter, amount)
    assert counter.total == sum(amounts)


def test_rays_own_counters_take_every_amount() -> None:
    """Made without a cluster, they check their values all the same."""
    tracker, planner, both = ServeTrackerMetrics(), ServePlannerMetrics(), ServeMetrics()
    for amount in (0, 3):
        tracker.answered(amount, 0.0)
        tracker.media(amount)
        planner.tokens(amount, amount)
        both.batch("track", 1, 0.0)
        both.dropped("track", amount)
        both.shed("track", amount)
        RayInstruments().counter("limelight_test_total", "Of a test.", ("kind",))(("a",), amount)
    with pytest.raises(ValueError, match="must be >0"):
        tracker._objects.inc(0)
