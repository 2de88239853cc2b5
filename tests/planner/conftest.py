"""A planner on the fake engine, without Serve, and a picture to ask about."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import numpy as np
import pytest

from services.codecs.images import encode
from services.codecs.masks import encode_rle
from services.domain import Candidate
from services.planner.engines import Engine
from services.planner.metrics import RecordedMetrics
from services.planner.service import PlannerService
from services.planner.settings import Settings

WIDTH, HEIGHT = 96, 64


@pytest.fixture
def picture() -> bytes:
    """A PNG of 96 x 64 pixels."""
    rng = np.random.default_rng(7)
    return encode(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))


@pytest.fixture
def candidate() -> Callable[..., Candidate]:
    """Makes a candidate whose mask is a rectangle of the picture."""

    def make(
        number: int,
        phrase: str,
        box: tuple[int, int, int, int] = (10, 10, 40, 30),
        size: tuple[int, int] = (HEIGHT, WIDTH),
    ) -> Candidate:
        mask = np.zeros(size, np.bool_)
        x0, y0, x1, y1 = box
        mask[y0:y1, x0:x1] = True
        return Candidate(number, phrase, encode_rle(mask))

    return make


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Waits until a condition holds, ten seconds at most."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110  # conditions of other threads have no event
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def metrics() -> RecordedMetrics:
    return RecordedMetrics()


@pytest.fixture
async def serving(metrics: RecordedMetrics) -> AsyncIterator[Callable[..., PlannerService]]:
    """Makes a service around an engine, `Settings` by name, and closes it after the test."""
    async with AsyncExitStack() as stack:

        def serve(engine: Engine, **settings: object) -> PlannerService:
            service = PlannerService(Settings(engine="fake", **settings), engine, metrics)
            stack.push_async_callback(service.close)
            return service

        yield serve
