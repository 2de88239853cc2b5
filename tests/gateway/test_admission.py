"""Admission: who gets a place, who is shed and why, and that every place is given back."""

import asyncio
import time

import pytest

from services.caller import ANONYMOUS, Caller
from services.deadline import Deadline
from services.errors import DeadlinePassed, Overloaded, Reason, Unavailable
from services.gateway.admission import WINDOW_S, Admission, Cost
from services.gateway.metrics import GatewayMetrics
from tests.conftest import Clock

ACME = Caller("acme", "key-1")
SMALL = Cost("explicit", 100)
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


@pytest.mark.parametrize("failure", [ValueError("broken"), asyncio.CancelledError()])
def test_a_call_that_fails_gives_back_its_place(
    admission: Admission, failure: BaseException
) -> None:
    with pytest.raises(type(failure)), admission.admit(ACME, SMALL, FOREVER):
        raise failure
    assert (admission.in_flight, admission.held_bytes) == (0, 0)
    # What failed says nothing of how long an answer takes.
    assert admission.quickest_s(SMALL.kind) == 0


def test_bytes_are_capped_but_for_a_call_that_is_alone(admission: Admission) -> None:
    with (
        admission.admit(ACME, Cost("explicit", 5000), FOREVER),
        pytest.raises(Overloaded, match="memory"),
        admission.admit(ACME, SMALL, FOREVER),
    ):
        pass
    with admission.admit(ACME, SMALL, FOREVER), admission.admit(ACME, Cost("x", 900), FOREVER):
        pass


def test_a_deadline_nearer_than_any_recent_answer_is_shed(
    admission: Admission, clock: Clock
) -> None:
    with admission.admit(ACME, SMALL, FOREVER):
        clock.advance(5)
    assert admission.quickest_s(SMALL.kind) >= 5
    with pytest.raises(Overloaded) as shed, admission.admit(ACME, SMALL, Deadline.after(3)):
        pass
    assert shed.value.retry_after_s >= 5
    with admission.admit(ACME, SMALL, Deadline.after(60)):
        pass
    # Another kind of call is another matter, and so is a time long past.
    with admission.admit(ACME, Cost("planned", 1), Deadline.after(3)):
        pass
    clock.advance(WINDOW_S + 1)
    assert admission.quickest_s(SMALL.kind) == 0


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
