"""The load test against a real gateway before a peer: what is counted, and when calls are made."""

import asyncio
import itertools

import grpc
import numpy as np
import pytest

from limelight.v1 import limelight_pb2
from loadtest.overload.caller import RawCaller
from loadtest.overload.loads import closed_loop, constant, open_loop, ramp, spike
from loadtest.overload.outcomes import CallOutcome, Outcomes
from loadtest.overload.report import page, to_dict
from loadtest.overload.scenarios import KindMeasured, LoadMeasured
from services.errors import Overloaded, Reason
from services.gateway.app import Gateway
from tests.conftest import Until
from tests.gateway.conftest import Ask, ask, gateway, peers, picture, settings, workers
from tests.gateway.peers import Peers

__all__ = ["ask", "gateway", "peers", "picture", "settings", "workers"]

CALLS = Outcomes(
    4.0,
    (
        CallOutcome(0.5, 0.200, good=True),
        CallOutcome(1.5, 0.400, good=True),
        CallOutcome(1.6, 1.200, good=False),
        CallOutcome(2.5, 0.010, good=False, reason="OVERLOADED", retry_after_s=1.0),
        CallOutcome(3.5, 1.000, good=False, reason="deadline_exceeded"),
    ),
)


def test_what_became_of_the_calls() -> None:
    assert CALLS.goodput() == 0.5
    assert CALLS.goodput(after_s=1.0) == pytest.approx(1 / 3)
    assert CALLS.bare == 1
    assert CALLS.reasons == {"OVERLOADED": 1, "deadline_exceeded": 1}
    assert CALLS.rejected_ms(0.99) == pytest.approx(10, rel=0.01)
    # What was answered too late counts as an answer here, and not as goodput.
    assert CALLS.answered_ms(1.0) == pytest.approx(1200, rel=0.01)
    assert CALLS.recovered_s == 3.5
    assert (CALLS.per_second(), CALLS.per_second(rejected=True)) == ([1, 1, 0, 0], [0, 0, 1, 0])


def test_rates() -> None:
    assert constant(5)(3) == 5
    assert [ramp(100, 10)(t) for t in (0, 5, 10)] == [1, 50, 100]
    assert [spike(1, 10, 9)(t) for t in (0, 3, 5, 6)] == [1, 10, 10, 1]


def test_the_page_has_a_table_and_plots() -> None:
    load = LoadMeasured("open, 2 times", 2.0, CALLS, CALLS, 0.5)
    kind = KindMeasured("phrases", 1.0, 0.6, (load,))
    text = page([kind], "two <cores>")
    assert text.count("data:image/png;base64,") == 2
    assert "two &lt;cores&gt;" in text
    assert to_dict(kind)["loads"][0]["of the peak"] == "83 %"  # type: ignore[index]


@pytest.fixture
def calling(gateway: Gateway, ask: Ask) -> RawCaller:
    request = limelight_pb2.SegmentRequest(task=ask.phrases("cat")).SerializeToString()
    return RawCaller(gateway.address, lambda: request, deadline_s=60, channels=2)


async def test_an_open_loop_does_not_wait_for_answers(
    calling: RawCaller, peers: Peers, until: Until
) -> None:
    peers.hold = asyncio.Event()
    rng = np.random.default_rng(0)
    load = asyncio.create_task(open_loop(calling, constant(100), 0.2, rng))
    await until(lambda: len(peers.asked) > 1)  # two are under way, and none was answered
    peers.hold.set()
    outcomes = await load
    await calling.close()
    assert len(outcomes.calls) > 2
    assert all(0 <= call.due_s < 0.2 for call in outcomes.calls)


async def test_callers_come_back_and_say_why_they_failed(calling: RawCaller, peers: Peers) -> None:
    full = Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.1)
    peers.failures = {"segment": [full, grpc.StatusCode.PERMISSION_DENIED]}
    outcomes = await closed_loop(calling, 1, 0.6, obey=True)
    await calling.close()
    first, second = itertools.islice(outcomes.calls, 2)
    assert (first.reason, first.retry_after_s, first.rejected, first.bare) == (
        "OVERLOADED",
        pytest.approx(0.1),
        True,
        False,
    )
    assert second.due_s >= first.due_s + 0.1
    assert all(call.good for call in outcomes.calls[2:])
