"""What tests of several services share: recorded metrics, waiting for a condition."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from services.replica.metrics import RecordedMetrics

Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def metrics() -> RecordedMetrics:
    return RecordedMetrics()


@pytest.fixture
def until() -> Until:
    """Wait until a condition holds, for at most five seconds."""

    async def wait(holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 5
        while not holds():
            assert time.monotonic() < end, "the condition never held"
            await asyncio.sleep(0.001)

    return wait
