"""What is repeated: the table of `docs/retries.md`, the contract and the client agree."""

import asyncio
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from limelight import LimelightError, RetryPolicy
from limelight.faults import Reason
from limelight.retries import Attempts, RetryBudget, Turns
from tests.contract.test_error_examples import examples

_TABLE = Path(__file__).parents[2] / "docs" / "retries.md"
_ROW = re.compile(r"^\| (?P<reason>[A-Z_]+) \| (?P<code>[A-Z_]+) \| (?P<repeat>yes|no) \|", re.M)


class Clock:
    """Stands for `time.monotonic`; moves only by what is waited."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("limelight.retries.time.monotonic", lambda: self.now)

    def failures(
        self, attempts: Attempts, error: LimelightError, attempt_s: float = 0.0
    ) -> list[float]:
        """The waits of a call whose every attempt ends in `error`, after so many seconds."""
        waits = []
        while True:
            self.now += attempt_s
            wait = attempts.after(error)
            if wait is None:
                return waits
            waits.append(wait)
            self.now += wait


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def attempts(
    retry: RetryPolicy | None = None,
    expires_at: float = float("inf"),
    budget: RetryBudget | None = None,
) -> Attempts:
    """Those of a call of a client of its own."""
    retry = retry or RetryPolicy()
    return Attempts(retry, budget or RetryBudget(retry.budget), expires_at)


@dataclass(frozen=True)
class Row:
    code: grpc.StatusCode
    repeated: bool


def rows() -> dict[str, Row]:
    text = _TABLE.read_text(encoding="utf-8")
    table = text.partition("<!-- retries:")[2].partition("<!-- end of retries -->")[0]
    found = list(_ROW.finditer(table))
    assert len({row["reason"] for row in found}) == len(found)
    return {
        row["reason"]: Row(grpc.StatusCode[row["code"]], row["repeat"] == "yes") for row in found
    }


def test_every_reason_has_a_row_with_its_status() -> None:
    assert set(rows()) == set(Reason.__members__)
    assert {reason: row.code.name for reason, row in rows().items()} == {
        reason: example.code for reason, example in examples().items()
    }


def test_retries_by_status_alone_repeat_nothing_that_never_passes() -> None:
    """As the document advises, and the example's service config for Node does."""
    hopeless = {row.code for row in rows().values() if not row.repeated}
    assert grpc.StatusCode.UNAVAILABLE not in hopeless
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in hopeless
    example = (_TABLE.parents[1] / "examples" / "node" / "limelight.js").read_text("utf-8")
    assert re.findall(r"retryableStatusCodes: \[(.*?)\]", example) == ['"UNAVAILABLE"']


@pytest.mark.parametrize("reason", Reason)
def test_the_client_repeats_what_the_table_says(reason: Reason) -> None:
    row, example = rows()[reason.value], examples()[reason.value]
    assert example.retry == row.repeated, (
        "RetryInfo goes with what may be repeated, and with it only"
    )
    error = LimelightError(
        row.code, "no", reason=reason.value, retry_after=2.0 if example.retry else None
    )
    delay = attempts().after(error)
    assert (delay is not None) == row.repeated
    assert delay is None or 2.0 <= delay <= 2.4


@pytest.mark.parametrize(
    ("code", "message", "repeated"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", True),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", True),
        (grpc.StatusCode.CANCELLED, "CANCELLED", True),
        (grpc.StatusCode.CANCELLED, "Channel closed!", False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", False),
        (grpc.StatusCode.INTERNAL, "Error parsing 'grpc-timeout' metadata", False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", False),
        (grpc.StatusCode.UNKNOWN, "", False),
    ],
)
def test_failures_without_a_reason(code: grpc.StatusCode, message: str, repeated: bool) -> None:
    error = LimelightError(code, message)
    delay = attempts().after(error)
    assert (delay is not None) == repeated
    assert delay is None or 0.16 <= delay <= 0.24


FULL = LimelightError(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="OVERLOADED", retry_after=0.1
)


def test_a_budget_ends_and_answers_pay_for_more() -> None:
    budget = RetryBudget(10)
    assert [budget.allows(FULL) for _ in range(30)] == [True] * 10 + [False] * 20
    for _ in range(109):
        budget.answered()
    assert not budget.allows(FULL)
    for _ in range(12):
        budget.answered()
    assert budget.allows(FULL)
    assert not budget.allows(FULL)


AWAY = LimelightError(
    grpc.StatusCode.UNAVAILABLE, "no replica answers", reason="SEGMENTER_UNAVAILABLE"
)
REFUSED = LimelightError(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
LOST = LimelightError(grpc.StatusCode.UNAVAILABLE, "keepalive watchdog timeout")


def reached() -> RetryBudget:
    """The budget of a client that was answered before."""
    budget = RetryBudget(10)
    budget.answered()
    return budget


@pytest.mark.parametrize("error", [AWAY, REFUSED], ids=["told", "refused"])
def test_a_call_outlasts_a_restart(clock: Clock, error: LimelightError) -> None:
    waits = clock.failures(attempts(budget=reached()), error)
    assert 50 <= sum(waits) <= 60
    assert waits[0] < waits[2] < waits[4] <= 6.0, "the waits grow, up to a bound"
    assert len(waits) <= 20, "it does not ask ever again"


def test_what_is_asked_for_is_waited_and_waits_grow_beyond_it(clock: Clock) -> None:
    told = LimelightError(AWAY.code, "away", reason=AWAY.reason, retry_after=1.0)
    waits = clock.failures(attempts(), told)
    assert 1.0 <= waits[0] <= 1.2
    assert 50 <= sum(waits) <= 60
    assert waits[-1] >= 4.0


def test_an_outage_of_many_calls_uses_no_budget(clock: Clock) -> None:
    budget = reached()
    for _ in range(100):
        began = clock.now
        assert sum(clock.failures(attempts(budget=budget), AWAY)) >= 50
        clock.now = began
    assert attempts(budget=budget).after(FULL) is not None


def test_a_short_deadline_fails_at_once(clock: Clock) -> None:
    waits = clock.failures(attempts(expires_at=clock.now + 1.0), AWAY)
    assert sum(waits) < 1.0
    told = LimelightError(AWAY.code, "away", reason=AWAY.reason, retry_after=5.0)
    assert not clock.failures(attempts(expires_at=clock.now + 4.0), told)


def test_a_wrong_address_is_told_soon(clock: Clock) -> None:
    assert len(clock.failures(attempts(), REFUSED)) == RetryPolicy().attempts - 1
    budget = RetryBudget(10)
    assert attempts(budget=budget).after(AWAY) is not None
    assert sum(clock.failures(attempts(budget=budget), REFUSED)) >= 50, "somebody was there"


def test_work_that_may_have_been_done_is_bounded_by_attempts(clock: Clock) -> None:
    assert len(clock.failures(attempts(budget=reached()), LOST)) == RetryPolicy().attempts - 1


def test_a_full_service_is_asked_ever_more_rarely_and_within_the_budget(clock: Clock) -> None:
    budget = RetryBudget(RetryPolicy().budget)
    waits = clock.failures(attempts(budget=budget), FULL)
    assert waits[0] < waits[2] < waits[4] <= 6.0
    assert 50 <= sum(waits) <= 60
    # Many calls together make no more of it than the budget has, however many they are.
    repeats = sum(len(clock.failures(attempts(budget=budget), FULL)) for _ in range(100))
    assert repeats + len(waits) == RetryPolicy().budget


def test_losses_count_beside_other_failures(clock: Clock) -> None:
    """A request that ends whoever works on it must not end one after the other."""
    one = attempts(budget=reached())
    for error in (LOST, AWAY, AWAY, AWAY, LOST, AWAY):
        wait = one.after(error)
        assert wait is not None
        clock.now += wait
    assert one.after(LOST) is None


@pytest.mark.parametrize("error", [AWAY, REFUSED, LOST, FULL])
def test_one_attempt_is_one(error: LimelightError) -> None:
    assert attempts(RetryPolicy(attempts=1), budget=reached()).after(error) is None


def test_without_patience_attempts_bound_all(clock: Clock) -> None:
    assert len(clock.failures(attempts(RetryPolicy(attempts=4, patience=0.0)), AWAY)) == 3


def test_what_never_reached_the_service_costs_nothing() -> None:
    budget = RetryBudget(1)
    assert all(budget.allows(REFUSED) for _ in range(100))
    assert budget.allows(FULL)
    assert not budget.allows(FULL)


def test_no_budget_is_no_bound() -> None:
    budget = RetryBudget(0)
    assert all(budget.allows(FULL) for _ in range(100))


def test_turns_are_few_and_go_to_who_waits_longest() -> None:
    turns = Turns(2)
    first, second, third, fourth = (turns.take() for _ in range(4))
    assert [turn.done() for turn in (first, second, third, fourth)] == [True, True, False, False]
    turns.give_back(third)  # its deadline came first
    turns.give_back(first)
    assert fourth.done()
    turns.give_back(second)
    turns.give_back(fourth)
    assert all(turns.take().done() for _ in range(2))
    assert not turns.take().done()


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_few_of_those_who_wait_ask_and_all_are_answered(kind: str) -> None:
    """Three hundred calls of a service that is away: a few at a time find out when it is back."""
    budget, policy = reached(), RetryPolicy(first_delay=0.001, max_delay=0.001)
    back, at_a_time, most, asked = threading.Event(), 0, 0, 0
    lock = threading.Lock()

    def attempt(again: bool) -> bool:
        nonlocal at_a_time, most, asked
        with lock:
            asked += 1
            at_a_time += again
            most = max(most, at_a_time)
            if asked == 1000:
                back.set()
        return back.is_set()

    def over(again: bool) -> None:
        nonlocal at_a_time
        with lock:
            at_a_time -= again

    def call() -> None:
        with attempts(policy, budget=budget) as mine:
            again = False
            while not attempt(again):
                assert mine.after(AWAY) is not None
                over(again)
                mine.pause()
                again = True
            over(again)

    async def call_async() -> None:
        with attempts(policy, budget=budget) as mine:
            again = False
            while not attempt(again):
                assert mine.after(AWAY) is not None
                over(again)
                await mine.pause_async()
                again = True
                await asyncio.sleep(0)
            over(again)

    if kind == "sync":
        threads = [threading.Thread(target=call) for _ in range(300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join, 60)
            assert not thread.is_alive()
    else:
        await asyncio.gather(*(call_async() for _ in range(300)))
    assert asked >= 1000
    assert 1 <= most <= 8


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_turn_that_does_not_come_in_time_fails_with_the_cause(kind: str) -> None:
    budget = reached()
    budget.turns[AWAY.reason] = Turns(1)
    held = budget.turns[AWAY.reason].take()
    with attempts(RetryPolicy(first_delay=0.001), time.monotonic() + 0.3, budget) as mine:
        assert mine.after(AWAY) is not None
        paused = mine.pause_async() if kind == "async" else asyncio.to_thread(mine.pause)
        with pytest.raises(LimelightError, match="no replica answers"):
            await paused
    budget.turns[AWAY.reason].give_back(held)
    assert budget.turns[AWAY.reason].take().done(), "what had waited in vain holds none"
