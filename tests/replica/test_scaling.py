"""The work of a replica, and the replicas that work needs."""

from typing import Any

import pytest

from loadtest.scaling.simulator import Context
from services.replica.scaling import BACKLOG_S, BUSY, REQUEST_S, ReplicaWork, WorkPolicy


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_busy_is_the_share_of_the_window_in_which_batches_ran(clock: Clock) -> None:
    work = ReplicaWork(10.0, clock)
    for _ in range(4):
        work.began("encode")
        clock.now += 1
        work.batch("encode", 2, 1.0)
        clock.now += 1
    assert work.figures(8)[BUSY] == pytest.approx(0.5)
    clock.now += 6  # the first two runs are older than the window
    assert work.figures(8)[BUSY] == pytest.approx(0.2)
    clock.now += 100
    assert work.figures(8)[BUSY] == 0


def test_a_batch_that_runs_counts_before_it_ends(clock: Clock) -> None:
    work = ReplicaWork(10.0, clock)
    clock.now += 5
    work.began("generate")
    clock.now += 5
    assert work.figures(0)[BUSY] == pytest.approx(0.5)
    clock.now += 20
    assert work.figures(0)[BUSY] == 1
    work.batch("generate", 1, 25.0)
    assert work.figures(1)[BUSY] == 1


def test_the_backlog_is_in_seconds_of_the_model(clock: Clock) -> None:
    work = ReplicaWork(10.0, clock)
    work.depth("encode", 7)
    assert work.figures(0)[BACKLOG_S] == 0  # nothing has run: nobody knows what an item takes
    work.batch("encode", 4, 2.0)
    work.depth("detect", 10)
    work.batch("detect", 10, 1.0)
    assert work.figures(0)[BACKLOG_S] == pytest.approx(7 * 0.5 + 10 * 0.1)


def test_seconds_a_request_are_kept_while_none_comes(clock: Clock) -> None:
    work = ReplicaWork(10.0, clock)
    clock.now += 4
    work.batch("encode", 4, 2.0)
    assert work.figures(4)[REQUEST_S] == pytest.approx(0.5)
    clock.now += 60
    assert work.figures(4)[REQUEST_S] == pytest.approx(0.5)


def context(replicas: int, busy: float, backlog_s: float = 0.0, **values: Any) -> Context:
    names = range(replicas)
    return Context(
        config=None,
        current_num_replicas=replicas,
        target_num_replicas=values.pop("target", replicas),
        aggregated_metrics={
            BUSY: dict.fromkeys(names, busy),
            BACKLOG_S: dict.fromkeys(names, backlog_s),
            REQUEST_S: dict.fromkeys(names, 0.5),
        },
        **values,
    )


def run(policy: WorkPolicy, seconds: int, make: Any, state: dict[str, Any] | None = None) -> Any:
    """The policy's answers, asked once a second; `make(second)` gives what it sees."""
    state = state or {}
    answers = []
    for second in range(seconds):
        seen = make(second)
        seen.policy_state, seen.current_time = state, float(second)
        wanted, state = policy(seen)
        answers.append(wanted)
    return answers


def test_replicas_that_keep_up_are_left_alone() -> None:
    answers = run(WorkPolicy(keep_s=60), 600, lambda _: context(4, 0.4))
    assert set(answers) == {4}


def test_work_above_the_utilization_asks_for_more() -> None:
    answers = run(WorkPolicy(keep_s=60, cold_start_s=30), 60, lambda _: context(4, 0.95))
    assert answers[-1] >= 4 * 0.95 / 0.7


def test_headroom_is_for_more_than_one_replicas_work() -> None:
    """A jump is answered by what is there already; little work costs no second replica."""

    def settled(headroom: float, busy: float, replicas: int) -> float:
        policy = WorkPolicy(headroom=headroom, keep_s=60)
        return float(run(policy, 600, lambda _: context(replicas, busy))[-1])

    assert settled(1.5, 0.7, 1) == settled(0.0, 0.7, 1) == 1
    assert settled(0.0, 0.6, 4) == 4
    assert settled(1.5, 0.6, 4) >= 2.4 / 0.7 + 1.5 * 1.3
    assert settled(3.0, 0.6, 4) > settled(1.5, 0.6, 4)


def test_growth_is_met_before_it_arrives() -> None:
    steady = run(WorkPolicy(cold_start_s=30), 60, lambda _: context(10, 0.6))
    rising = run(WorkPolicy(cold_start_s=30), 60, lambda s: context(10, 0.3 + 0.3 * s / 60))
    assert max(rising) > max(steady)


def test_a_backlog_asks_for_what_works_it_off() -> None:
    policy = WorkPolicy(cold_start_s=60)
    calm = run(policy, 30, lambda _: context(2, 1.0))
    behind = run(policy, 30, lambda s: context(2, 1.0, backlog_s=2.0 * s))
    assert behind[-1] > 3 * calm[-1]


def test_requests_that_wait_in_serve_count_as_backlog() -> None:
    without = run(WorkPolicy(), 30, lambda _: context(2, 1.0))
    waiting = run(WorkPolicy(), 30, lambda _: context(2, 1.0, total_queued_requests=100.0))
    assert waiting[-1] > without[-1]


def test_who_waits_for_the_first_replica_gets_one() -> None:
    answers = run(WorkPolicy(), 3, lambda _: context(0, 0.0, total_queued_requests=1.0))
    assert answers[0] >= 1


def test_replicas_stay_for_a_while_and_then_go() -> None:
    def seen(second: int) -> Context:
        return context(8, 0.4 if second < 300 else 0.05, target=8)

    answers = run(WorkPolicy(keep_s=120), 600, seen)
    assert set(answers[:400]) == {8}
    assert answers[-1] == 1


def test_a_clock_that_is_set_back_is_outlived() -> None:
    policy, state = WorkPolicy(keep_s=60), {}
    for now in (*range(5000, 5400), *range(1400, 2000)):
        seen = context(2, 0.9 if now < 1800 else 0.1)
        seen.policy_state, seen.current_time = state, float(now)
        wanted, state = policy(seen)
        assert 1 <= wanted <= 6
    assert wanted == 1, "what came before the jump is forgotten"


def test_nothing_goes_before_enough_was_seen() -> None:
    """A controller that starts anew knows nothing of the load before."""
    answers = run(WorkPolicy(keep_s=120), 120, lambda _: context(8, 0.0))
    assert set(answers) == {8}


@pytest.mark.parametrize(
    "values",
    [
        {"utilization": 0},
        {"utilization": 1.5},
        {"headroom": -1},
        {"cold_start_s": 0},
        {"keep_s": -1},
    ],
)
def test_impossible_settings_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        WorkPolicy(**values)
