"""Replicas follow the sessions: up at once, down when they were not needed for a while."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from services.tracker.scaling import REFUSED, SESSIONS, SessionLoad, SessionPolicy


@dataclass
class Controller:
    """What of Serve's controller a policy sees: it asks, and its answer becomes the target."""

    policy: SessionPolicy
    target_num_replicas: int = 1
    current_time: float | None = 1000.0
    total_queued_requests: float = 0.0
    aggregated_metrics: dict[str, dict[Any, float]] | None = None
    policy_state: dict[str, Any] = field(default_factory=dict)

    @property
    def current_num_replicas(self) -> int:
        return self.target_num_replicas

    def asked(self, *sessions: float, refused: float = 0, queued: float = 0, after_s: float) -> int:
        """The replicas wanted `after_s` later, when each has so many sessions."""
        assert self.current_time is not None
        self.current_time += after_s
        self.total_queued_requests = queued
        self.aggregated_metrics = {
            SESSIONS: dict(enumerate(sessions)),
            REFUSED: {0: refused},
        }
        wanted, self.policy_state = self.policy(self)
        self.target_num_replicas = int(wanted)
        return self.target_num_replicas


@pytest.fixture
def controller() -> Controller:
    return Controller(SessionPolicy(sessions=8, utilization=0.75, keep_s=300))


def test_there_is_room_before_the_last_place_is_taken(controller: Controller) -> None:
    assert controller.asked(6, after_s=5) == 1
    assert controller.asked(7, after_s=5) == 2
    assert controller.asked(8, 8, 8, after_s=5) == 4


def test_who_was_refused_or_waits_counts(controller: Controller) -> None:
    assert controller.asked(6, refused=1, after_s=5) == 2
    assert Controller(controller.policy).asked(6, queued=7, after_s=5) == 3


def test_replicas_stay_until_they_were_not_needed_for_a_while(controller: Controller) -> None:
    assert controller.asked(8, 8, 2, after_s=5) == 3
    assert controller.asked(2, 0, 0, after_s=5) == 3
    assert controller.asked(8, 0, 0, after_s=200) == 3  # two were needed
    assert controller.asked(2, 0, 0, after_s=101) == 2
    assert controller.asked(2, 0, after_s=250) == 1


def test_a_clock_that_is_set_back_keeps_nobody_for_longer(controller: Controller) -> None:
    assert controller.asked(8, 8, 2, after_s=5) == 3
    assert controller.asked(2, 0, 0, after_s=-3600) == 3
    assert controller.asked(2, 0, 0, after_s=299) == 3
    assert controller.asked(2, 0, 0, after_s=2) == 1


def test_none_is_needed_without_sessions_and_one_for_who_waits(controller: Controller) -> None:
    controller.asked(0, after_s=5)
    assert controller.asked(0, after_s=301) == 0
    assert controller.asked(queued=1, after_s=5) == 1


def test_silence_lets_nobody_go(controller: Controller) -> None:
    assert controller.asked(8, 8, after_s=5) == 3
    assert controller.asked(after_s=1000) == 3


def test_refusals_are_told_once() -> None:
    load = SessionLoad()
    load.live = 3
    load.refuse()
    assert load.figures() == {SESSIONS: 3.0, REFUSED: 1.0}
    assert load.figures() == {SESSIONS: 3.0, REFUSED: 0.0}


@pytest.mark.parametrize(
    "arguments",
    [{"sessions": 0}, {"sessions": 8, "utilization": 0.0}, {"sessions": 8, "keep_s": -1}],
)
def test_a_policy_that_makes_no_sense(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least"):
        SessionPolicy(**arguments)
