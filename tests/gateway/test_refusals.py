"""How fast calls are turned away: at once, unless that would take the processor from the rest."""

import asyncio
import time
from typing import Any

import grpc
import pytest

from limelight.v1 import limelight_pb2
from services.deadline import Deadline
from services.gateway import refusals
from services.gateway.app import Gateway
from services.gateway.refusals import RefusalPacer
from services.gateway.settings import Settings
from tests.conftest import Until
from tests.gateway.conftest import Ask, make_settings
from tests.gateway.peers import Peers
from tests.gateway.virtual import simulate
from tests.rpc.faults import fault_of

# A quarter of a core, at a millisecond each.
RATE = 250.0


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What a refusal costs, in seconds, by the clock of the process."""
    spent, each = [0.0], [0.001]

    def process_time() -> float:
        return spent[0]

    async def turn(self: RefusalPacer, deadline: Deadline) -> None:
        spent[0] += each[0]
        await original(self, deadline)

    original = RefusalPacer.turn
    monkeypatch.setattr(RefusalPacer, "turn", turn)
    monkeypatch.setattr(time, "process_time", process_time)
    return each


async def hammer(callers: int, seconds: float, deadline_s: float | None) -> list[float]:
    """What callers wait for their refusals who come back after 5 ms, from the fifth second on."""
    pacer, waits = RefusalPacer(0.25), []
    settled, end = time.monotonic() + 5, time.monotonic() + 5 + seconds

    async def ask_on() -> None:
        while (begin := time.monotonic()) < end:
            await pacer.turn(Deadline.after(deadline_s))
            if begin > settled:
                waits.append(time.monotonic() - begin)
            await asyncio.sleep(0.005)

    await asyncio.gather(*(ask_on() for _ in range(callers)))
    assert pacer.waiting == 0
    return waits


@pytest.mark.parametrize(("cost_s", "rate"), [(0.001, RATE), (0.004, RATE / 4)])
def test_callers_that_come_back_at_once_are_slowed_down(
    monkeypatch: pytest.MonkeyPatch, cost: list[float], cost_s: float, rate: float
) -> None:
    cost[0] = cost_s
    waits = simulate(monkeypatch, lambda: hammer(32, 20, None))
    assert len(waits) == pytest.approx(20 * rate, rel=0.1)


def test_who_has_little_time_does_not_wait_it_out(
    monkeypatch: pytest.MonkeyPatch, cost: list[float]
) -> None:
    waits = simulate(monkeypatch, lambda: hammer(512, 5, 0.4))
    assert 0.2 < max(waits) <= 0.31


def test_a_loop_that_is_behind_refuses_fewer(
    monkeypatch: pytest.MonkeyPatch, cost: list[float]
) -> None:
    async def main() -> list[float]:
        pacer, rates = RefusalPacer(0.25), []

        async def ask_on() -> None:
            while True:
                await pacer.turn(Deadline())
                await asyncio.sleep(0.005)

        callers = [asyncio.create_task(ask_on()) for _ in range(32)]
        for busy_s in (0.0, 0.1, 0.0):
            end = time.monotonic() + 5
            while time.monotonic() < end:
                asyncio.get_running_loop()._selector.now += busy_s  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
            rates.append(pacer.rate)
        for caller in callers:
            caller.cancel()
        return rates

    before, behind, after = simulate(monkeypatch, main)
    assert behind < 0.5 * before
    assert after > 0.9 * before


def test_a_burst_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, cost: list[float]) -> None:
    async def main() -> list[float]:
        pacer = RefusalPacer(0.25)
        await asyncio.sleep(2)
        begin = time.monotonic()
        for _ in range(int(RATE)):
            await pacer.turn(Deadline.after(1))
        return [time.monotonic() - begin]

    assert simulate(monkeypatch, main)[0] < 0.01


def test_those_who_wait_are_bounded(monkeypatch: pytest.MonkeyPatch, cost: list[float]) -> None:
    monkeypatch.setattr(refusals, "_MOST_WAITING", 8)
    seen = []

    async def main() -> None:
        pacer = RefusalPacer(0.25)
        turns = [asyncio.create_task(pacer.turn(Deadline())) for _ in range(1000)]
        await asyncio.sleep(0)
        seen.append(pacer.waiting)
        await asyncio.gather(*turns)

    simulate(monkeypatch, main)
    assert seen == [8]


@pytest.fixture
def settings(peers: Peers) -> Settings:
    return make_settings(peers, max_in_flight=1)


async def test_what_waits_for_its_refusal_holds_nothing_and_is_told(
    gateway: Gateway, channel: grpc.aio.Channel, peers: Peers, ask: Ask, until: Until
) -> None:
    peers.hold = asyncio.Event()
    method: Any = channel.unary_unary("/limelight.v1.LimelightService/Segment")
    request = limelight_pb2.SegmentRequest(task=ask.phrases("thing")).SerializeToString()
    working = method(request, timeout=100)
    await until(lambda: gateway._admission.in_flight == 1)
    pacer = gateway._door._refusals
    pacer._next = time.monotonic() + 100
    refused = method(request, timeout=100)
    await until(lambda: pacer.waiting == 1)
    assert gateway._door.uploads == 0
    assert gateway._admission.in_flight == 1
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await refused
    assert fault_of(told.value).reason == "OVERLOADED"
    working.cancel()
