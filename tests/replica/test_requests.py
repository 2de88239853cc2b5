"""The gate of a replica: who is in, who has left, and what draining waits for."""

import asyncio

import pytest

from services.errors import DeadlinePassed, Reason, Unavailable
from services.replica.metrics import RecordedMetrics
from services.replica.requests import RequestGate


async def test_closing_waits_for_what_is_under_way(metrics: RecordedMetrics) -> None:
    gate = RequestGate(metrics)
    finish = asyncio.Event()

    async def work() -> str:
        with gate.enter(lambda: "plan"):
            await finish.wait()
            return "done"

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    closing = asyncio.create_task(gate.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused, gate.enter(lambda: "plan"):
        pass
    assert refused.value.reason is Reason.DRAINING
    assert not closing.done()
    finish.set()
    assert await working == "done"
    await closing


async def test_who_leaves_is_counted_where_it_was(metrics: RecordedMetrics) -> None:
    gate = RequestGate(metrics)
    with pytest.raises(DeadlinePassed), gate.enter(lambda: "detect"):
        raise DeadlinePassed
    with pytest.raises(asyncio.CancelledError), gate.enter(lambda: "encode"):
        raise asyncio.CancelledError
    assert metrics.counts["departed", "detect", "deadline"] == 1
    assert metrics.counts["departed", "encode", "cancelled"] == 1
    await gate.close()
