"""Admission: who gets a place, who is shed and why, and that every place is given back."""

import asyncio
import time
from contextlib import AsyncExitStack, ExitStack

import pytest

from services.caller import ANONYMOUS, Caller, Priority
from services.deadline import Deadline
from services.errors import (
    DeadlinePassed,
    DeadlineTooShort,
    Overloaded,
    Reason,
    Unavailable,
)
from services.gateway.admission import INSTRUCTIONS, PHRASES, Admission
from services.gateway.lanes import Cost
from services.gateway.metrics import GatewayMetrics
from services.pace import ALONE_S, WINDOW_S
from tests.conftest import Clock, Until

ACME = Caller("acme", "key-1")
SMALL = Cost(PHRASES, 100)
FOREVER = Deadline()


@pytest.fixture
def counted() -> GatewayMetrics:
    return GatewayMetrics()


@pytest.fixture
def admission(counted: GatewayMetrics) -> Admission:
    return Admission(max_in_flight=2, max_bytes=1000, metrics=counted)


def sample(counted: GatewayMetrics, name: str, **labels: str) -> float:
    return counted.registry.get_sample_value(name, labels) or 0.0


def test_places_are_counted_and_given_back(admission: Admission, counted: GatewayMetrics) -> None:
    with admission.admit(ACME, SMALL, FOREVER), admission.admit(ANONYMOUS, SMALL, FOREVER):
        assert (admission.in_flight, admission.held_bytes) == (2, 200)
        assert sample(counted, "limelight_in_flight") == 2
        with pytest.raises(Overloaded) as shed, admission.admit(ACME, SMALL, FOREVER):
            pass
        assert shed.value.retry_after_s is not None
    assert (admission.in_flight, admission.held_bytes) == (0, 0)
    assert sample(counted, "limelight_shed_total", reason="in_flight") == 1
    assert sample(counted, "limelight_tenant_shed_total", tenant="acme", reason="in_flight") == 1


async def test_whoever_finds_no_room_because_nothing_is_answered_is_told_so(
    counted: GatewayMetrics,
) -> None:
    stalled = {PHRASES: Unavailable(Reason.SEGMENTER_UNAVAILABLE, "silent", retry_after_s=1.0)}
    admission = Admission(1, 1000, counted, stalled=stalled.get)
    with admission.admit(ACME, SMALL, FOREVER):
        with pytest.raises(Unavailable) as told, admission.admit(ACME, SMALL, FOREVER):
            pass
        assert told.value.reason is Reason.SEGMENTER_UNAVAILABLE
        with pytest.raises(Unavailable):
            admission.check_room(ACME, FOREVER)
        # What does not need it is shed as ever.
        with pytest.raises(Overloaded), admission.admit(ACME, Cost(INSTRUCTIONS, 1), FOREVER):
            pass
        stalled.clear()
        with pytest.raises(Overloaded), admission.admit(ACME, SMALL, FOREVER):
            pass
    assert sample(counted, "limelight_shed_total", reason="stalled") == 2
    assert sample(counted, "limelight_shed_total", reason="in_flight") == 2


async def test_what_needs_a_service_that_is_away_is_not_even_read(counted: GatewayMetrics) -> None:
    away = {PHRASES: Unavailable(Reason.SEGMENTER_UNAVAILABLE, "away", retry_after_s=5.0)}
    admission = Admission(1, 1000, counted, away=away.get)
    with pytest.raises(Unavailable), admission.admit(ACME, SMALL, FOREVER):
        pass
    with admission.admit(ACME, Cost(INSTRUCTIONS, 1), FOREVER):
        pass
    assert sample(counted, "limelight_shed_total", reason="away") == 1
    assert sample(counted, "limelight_shed_total", reason="draining") == 0


@pytest.mark.parametrize("failure", [ValueError("broken"), asyncio.CancelledError()])
async def test_a_call_that_fails_gives_back_its_place(
    admission: Admission, clock: Clock, failure: BaseException
) -> None:
    async def fail() -> None:
        with admission.admit(ACME, SMALL, FOREVER):
            async with admission.turn(ACME, SMALL, FOREVER):
                clock.advance(5)
                raise failure

    with pytest.raises(type(failure)):
        await fail()
    assert (admission.in_flight, admission.held_bytes) == (0, 0)
    assert admission.lane(PHRASES).busy == 0
    # What failed says nothing of how long an answer takes.
    with admission.admit(ACME, SMALL, Deadline.after(3)):
        pass


def test_bytes_are_capped_but_for_a_call_that_is_alone(admission: Admission) -> None:
    with (
        admission.admit(ACME, Cost(PHRASES, 5000), FOREVER),
        pytest.raises(Overloaded, match="memory"),
        admission.admit(ACME, SMALL, FOREVER),
    ):
        pass
    with (
        admission.admit(ACME, SMALL, FOREVER),
        admission.admit(ACME, Cost(INSTRUCTIONS, 900), FOREVER),
    ):
        pass


async def answer(admission: Admission, clock: Clock, seconds: float) -> None:
    """One call, answered after `seconds`."""
    async with admission.turn(ACME, SMALL, FOREVER):
        clock.advance(seconds)


async def test_a_deadline_nearer_than_any_recent_answer_is_too_short(
    admission: Admission, counted: GatewayMetrics, clock: Clock
) -> None:
    await answer(admission, clock, 5)
    with pytest.raises(DeadlineTooShort), admission.admit(ACME, SMALL, Deadline.after(3)):
        pass
    assert sample(counted, "limelight_shed_total", reason="deadline_too_short") == 1
    with admission.admit(ACME, SMALL, Deadline.after(60)):
        pass
    # Another kind of call is another matter, and so is a time long past.
    with admission.admit(ACME, Cost(INSTRUCTIONS, 1), Deadline.after(3)):
        pass
    clock.advance(WINDOW_S + 1)
    with admission.admit(ACME, SMALL, Deadline.after(3)):
        pass


async def test_what_an_outage_took_asks_no_more_of_the_next_deadline(
    counted: GatewayMetrics, clock: Clock
) -> None:
    admission = Admission(2, 1000, counted, held_up=lambda kind, since: kind == PHRASES)
    await answer(admission, clock, 50)
    with admission.admit(ACME, SMALL, Deadline.after(3)):
        pass


async def test_a_deadline_too_short_for_an_idle_service_is_called_so_under_load(
    admission: Admission, clock: Clock
) -> None:
    await answer(admission, clock, 5)
    with (
        admission.admit(ACME, SMALL, FOREVER),
        admission.admit(ACME, SMALL, FOREVER),  # there is no other place
    ):
        for seconds, told in ((3, DeadlineTooShort), (6, Overloaded)):
            deadline = Deadline.after(seconds)
            with pytest.raises(told), admission.admit(ACME, SMALL, deadline):
                pass
            with pytest.raises(told):
                admission.check_room(ACME, deadline)


async def test_what_a_call_takes_alone_is_remembered_under_load(
    counted: GatewayMetrics, clock: Clock
) -> None:
    admission = Admission(max_in_flight=100, max_bytes=1000, metrics=counted)
    lane = admission.lane(PHRASES)

    async def together(calls: int, seconds: float) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(calls):
                await stack.enter_async_context(admission.turn(ACME, SMALL, FOREVER))
            clock.advance(seconds)

    # Nothing was alone yet: a call may take no more than its share.
    await together(2, 4)
    assert 0 < lane.idle_s(1) < 4
    await answer(admission, clock, 1)
    assert lane.idle_s(1) == pytest.approx(1, rel=0.1)
    for _ in range(30):
        clock.advance(WINDOW_S)
        await together(2, 4)
    assert lane.idle_s(1) == pytest.approx(1, rel=0.1)
    clock.advance(2 * ALONE_S)
    assert lane.idle_s(1) == 0  # a service that has changed is not judged by its past
    await answer(admission, clock, 3)
    assert lane.idle_s(2) == pytest.approx(6, rel=0.1)


async def test_more_work_takes_longer(admission: Admission, clock: Clock) -> None:
    await answer(admission, clock, 1)
    with admission.admit(ACME, Cost(PHRASES, 1, units=2), Deadline.after(3)):
        pass
    large = Cost(PHRASES, 1, units=4)
    with pytest.raises(DeadlineTooShort), admission.admit(ACME, large, Deadline.after(3)):
        pass


async def test_those_who_cannot_be_answered_in_time_are_shed_while_others_are_ahead(
    counted: GatewayMetrics, clock: Clock, until: Until
) -> None:
    admission = Admission(max_in_flight=100, max_bytes=1000, metrics=counted)
    await answer(admission, clock, 1)
    async with AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(admission.turn(ACME, SMALL, FOREVER))
        # One unit a second was done, and eight are under way.
        with pytest.raises(Overloaded) as shed, admission.admit(ACME, SMALL, Deadline.after(2)):
            pass
        assert shed.value.retry_after_s >= 0.1
        with admission.admit(ACME, SMALL, Deadline.after(200)):
            turns = []

            async def wait(priority: Priority) -> None:
                async with admission.turn(ACME, SMALL, Deadline.after(200), priority):
                    turns.append(priority)

            waiting = [
                asyncio.create_task(wait(Priority.BATCH)),
                asyncio.create_task(wait(Priority.INTERACTIVE)),
            ]
            await until(lambda: admission.lane(PHRASES).waiting == 2)
            assert sample(counted, "limelight_lane_waiting", kind=PHRASES) == 2
    await asyncio.gather(*waiting)
    assert turns == [Priority.INTERACTIVE, Priority.BATCH]
    assert admission.lane(PHRASES).busy == 0


async def test_who_waits_for_a_turn_and_leaves_is_forgotten(
    counted: GatewayMetrics, until: Until
) -> None:
    admission = Admission(max_in_flight=100, max_bytes=1000, metrics=counted)
    lane = admission.lane(PHRASES)

    async def wait() -> None:
        async with admission.turn(ACME, SMALL, FOREVER):
            pass

    async with AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(admission.turn(ACME, SMALL, FOREVER))
        leaving, staying = (asyncio.create_task(wait()) for _ in range(2))
        await until(lambda: lane.waiting == 2)
        leaving.cancel()
        await until(lambda: lane.waiting == 1)
    await staying
    assert (lane.busy, lane.waiting) == (0, 0)


async def test_a_turn_that_does_not_come_is_told(
    counted: GatewayMetrics, clock: Clock, until: Until
) -> None:
    admission = Admission(max_in_flight=100, max_bytes=1000, metrics=counted)

    async def wait() -> None:
        async with admission.turn(ACME, SMALL, Deadline.after(100)):
            pass

    async with AsyncExitStack() as stack:
        for _ in range(8):
            await stack.enter_async_context(admission.turn(ACME, SMALL, FOREVER))
        waiting = asyncio.create_task(wait())
        await until(lambda: admission.lane(PHRASES).waiting == 1)
        clock.advance(90)  # its deadline has not passed: it would be answered too late
        with pytest.raises(Overloaded, match="turn") as shed:
            await waiting
    assert shed.value.retry_after_s is not None
    assert sample(counted, "limelight_shed_total", reason="queue") == 1


def test_batches_leave_places_for_videos_to_others(admission: Admission) -> None:
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(admission.admit_stream(ACME, FOREVER, Priority.BATCH))
        with pytest.raises(Overloaded):
            stack.enter_context(admission.admit_stream(ACME, FOREVER, Priority.BATCH))
        for _ in range(4):
            stack.enter_context(admission.admit_stream(ACME, FOREVER))
        with pytest.raises(Overloaded):
            stack.enter_context(admission.admit_stream(ACME, FOREVER))
    assert admission.streams == 0


def test_it_is_too_late(admission: Admission) -> None:
    late = Deadline(time.monotonic() - 1)
    with pytest.raises(DeadlinePassed), admission.admit(ACME, SMALL, late):
        pass
    assert admission.in_flight == 0


def test_draining_lets_nobody_in(admission: Admission, counted: GatewayMetrics) -> None:
    with admission.admit(ACME, SMALL, FOREVER):
        admission.drain()
        assert admission.draining
        with pytest.raises(Unavailable) as refused, admission.admit(ACME, SMALL, FOREVER):
            pass
    assert refused.value.reason is Reason.DRAINING
    assert sample(counted, "limelight_shed_total", reason="draining") == 1
