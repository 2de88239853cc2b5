"""Overload, simulated in virtual time (`tests.gateway.virtual`): what is answered in time stays the
same however much more is asked for, and whoever is shed knows at once and when to come again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from services.caller import Priority
from services.gateway.admission import PHRASES, Admission
from services.gateway.metrics import GatewayMetrics
from services.gateway.refusals import RefusalPacer
from services.gateway.settings import Settings
from tests.gateway.virtual import Callers, Core, Seen, Server, simulate

# The load lasts so long, and counts when the lane has had time to learn.
LOAD_S, LEARNT_S = 20.0, 6.0

# Seconds that a batch of `n` takes, the largest batch, and how many a second that makes.
ENGINES: dict[str, tuple[Callable[[int], float], int, float]] = {
    "a model on a CPU, for which batches save nothing": (lambda n: 0.06 * n, 8, 1 / 0.06),
    "a model on a GPU, for which they save most": (lambda n: 0.03 + 0.0075 * n, 16, 16 / 0.15),
}
Load = Callable[[Callers, float], Awaitable[None]]


def run(
    monkeypatch: pytest.MonkeyPatch, engine: str, load: Load, deadline_s: float = 1.0
) -> tuple[Seen, float]:
    """What became of the calls of `load`, and the capacity there was."""
    seconds, max_batch, capacity = ENGINES[engine]

    async def main() -> Seen:
        admission = Admission(128, 2**30, GatewayMetrics())
        server = Server(seconds, max_batch)
        working = asyncio.create_task(server.run())
        callers = Callers(admission, server, deadline_s=deadline_s)
        await load(callers, capacity)
        working.cancel()
        assert (admission.in_flight, admission.lane(PHRASES).busy) == (0, 0)
        return callers.seen

    return simulate(monkeypatch, main), capacity


def check_shed(seen: Seen, quick_s: float) -> None:
    """Few calls fail late, and those that are shed learn it at once."""
    assert seen.too_short == 0
    assert seen.late <= 0.05 * len(seen.answered)
    if seen.shed:
        assert np.median(seen.shed) < 0.05
        assert np.quantile(seen.shed, 0.99) < quick_s
        assert min(seen.retry_after_s) >= 0.1
        assert max(seen.retry_after_s) <= 5.0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("deadline_s", [1.0, 3.0])
@pytest.mark.parametrize("times", [1.5, 5])
def test_goodput_holds_under_an_open_loop(
    monkeypatch: pytest.MonkeyPatch, engine: str, deadline_s: float, times: float
) -> None:
    def load(callers: Callers, capacity: float) -> Awaitable[None]:
        return callers.open_loop(times * capacity, LOAD_S)

    seen, capacity = run(monkeypatch, engine, load, deadline_s)
    assert seen.goodput(LEARNT_S, LOAD_S) > 0.9 * capacity
    check_shed(seen, 0.2)


@pytest.mark.parametrize("obey", [True, False])
@pytest.mark.parametrize("callers", [64, 256])
def test_goodput_holds_with_callers_that_come_back(
    monkeypatch: pytest.MonkeyPatch, callers: int, obey: bool
) -> None:
    engine = next(iter(ENGINES))

    def load(making: Callers, capacity: float) -> Awaitable[None]:
        return making.closed_loop(callers, LOAD_S, obey=obey, think_s=0.3)

    seen, capacity = run(monkeypatch, engine, load)
    assert seen.goodput(LEARNT_S, LOAD_S) > 0.9 * capacity
    check_shed(seen, 0.2)
    if obey:  # those who come back when they are told to are few at a time
        assert len(seen.shed) < 8 * len(seen.answered)


def test_a_burst_after_a_quiet_time_is_not_worked_on_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What one call takes says little of what eight at a time take."""

    async def main() -> tuple[Seen, int]:
        admission, server = Admission(128, 2**30, GatewayMetrics()), Server(lambda n: 0.24 * n)
        working = asyncio.create_task(server.run())
        callers = Callers(admission, server)
        await callers.open_loop(1.5, 10)
        callers.seen = burst = Seen()
        await callers.closed_loop(64, 8, obey=True)
        working.cancel()
        return burst, server.wasted

    seen, wasted = simulate(monkeypatch, main)
    assert seen.late + wasted <= 2
    assert len(seen.answered) > 0.8 * 8 / 0.24


@pytest.mark.parametrize("callers", [64, 256])
def test_callers_that_come_back_at_once_leave_time_for_answers(
    monkeypatch: pytest.MonkeyPatch, callers: int
) -> None:
    """Gateway, callers and model on one core: each refusal takes of what answers could have, and
    without a pace they take it all.
    """
    seconds, max_batch, capacity = ENGINES[next(iter(ENGINES))]
    core = Core()
    monkeypatch.setattr(time, "process_time", lambda: core.gateway_s)

    async def main() -> Seen:
        admission = Admission(128, 2**30, GatewayMetrics())
        server = Server(seconds, max_batch, core)
        working = asyncio.create_task(server.run())
        pacer = RefusalPacer(Settings().refusal_share)
        making = Callers(admission, server, core=core, pacer=pacer)
        await making.closed_loop(callers, 12.0, obey=False, think_s=0.001)
        working.cancel()
        return making.seen

    seen = simulate(monkeypatch, main)
    assert seen.goodput(LEARNT_S, 12.0) > 0.5 * capacity
    assert np.quantile(seen.shed, 0.99) < 0.8  # of a second, so that they hear it


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_shed_at_half_the_capacity(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    seen, _ = run(monkeypatch, engine, lambda callers, rate: callers.open_loop(rate / 2, LOAD_S))
    assert seen.late == 0
    assert len(seen.shed) <= 0.01 * seen.calls


@pytest.mark.parametrize("engine", ENGINES)
def test_all_is_well_when_the_load_ends(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    after = Seen()

    async def load(callers: Callers, capacity: float) -> None:
        nonlocal after
        await callers.open_loop(5 * capacity, 8)
        await asyncio.sleep(1)
        callers.seen = after
        await callers.open_loop(0.5 * capacity, 10)

    run(monkeypatch, engine, load)
    assert len(after.answered) > 0.97 * after.calls


def test_a_server_that_becomes_slow_is_not_buried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> tuple[Seen, int]:
        server = Server(lambda n: 0.03 * n)
        working = asyncio.create_task(server.run())
        callers = Callers(Admission(128, 2**30, GatewayMetrics()), server)
        load = asyncio.create_task(callers.open_loop(40, 40))
        await asyncio.sleep(10)
        server.seconds = lambda n: 0.12 * n
        await load
        working.cancel()
        return callers.seen, server.wasted

    seen, wasted = simulate(monkeypatch, main)
    assert seen.goodput(15, 40) > 0.85 / 0.12
    assert wasted < 0.1 * len(seen.answered)


def test_interactive_callers_come_before_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = next(iter(ENGINES))

    async def main() -> tuple[Seen, Seen]:
        seconds, max_batch, capacity = ENGINES[engine]
        admission, server = Admission(128, 2**30, GatewayMetrics()), Server(seconds, max_batch)
        working = asyncio.create_task(server.run())
        people = Callers(admission, server)
        batch = Callers(admission, server, deadline_s=60, priority=Priority.BATCH)
        await asyncio.gather(
            people.open_loop(0.6 * capacity, LOAD_S),
            batch.closed_loop(32, LOAD_S, obey=True),
        )
        working.cancel()
        return people.seen, batch.seen

    people, batch = simulate(monkeypatch, main)
    assert len(people.answered) > 0.8 * people.calls
    # What people leave is not wasted.
    assert (len(people.answered) + len(batch.answered)) / LOAD_S > 0.9 * ENGINES[engine][2]


def test_two_gateways_share_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = next(iter(ENGINES))
    seconds, max_batch, capacity = ENGINES[engine]

    async def main() -> tuple[Seen, Seen]:
        server = Server(seconds, max_batch)
        working = asyncio.create_task(server.run())
        one, other = (Callers(Admission(128, 2**30, GatewayMetrics()), server) for _ in range(2))
        await asyncio.gather(
            one.open_loop(2 * capacity, LOAD_S), other.open_loop(2 * capacity, LOAD_S)
        )
        working.cancel()
        return one.seen, other.seen

    one, other = simulate(monkeypatch, main)
    both = one.goodput(LEARNT_S, LOAD_S) + other.goodput(LEARNT_S, LOAD_S)
    assert both > 0.85 * capacity
    assert min(len(one.answered), len(other.answered)) > 0.25 * both * LOAD_S
