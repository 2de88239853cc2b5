"""A planner on the fake engine, without Serve, and a picture to ask about."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import numpy as np
import pytest

from limelight.masks import encode_rle
from services.codecs.images import encode
from services.domain import Candidate
from services.planner.engines import PlannerEngine
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.service import PlannerService
from services.planner.settings import PlannerSettings

WIDTH, HEIGHT = 96, 64
# A process that decodes takes half a second to begin, in each of these tests.
THREADS = {"engine": "fake", "isolated_decoding": False}


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
def metrics() -> RecordedPlannerMetrics:
    return RecordedPlannerMetrics()


@pytest.fixture
async def serving(metrics: RecordedPlannerMetrics) -> AsyncIterator[Callable[..., PlannerService]]:
    """Makes a service around an engine, `PlannerSettings` by name, and closes it after the test."""
    async with AsyncExitStack() as stack:

        def serve(engine: PlannerEngine, **settings: object) -> PlannerService:
            service = PlannerService(PlannerSettings(**{**THREADS, **settings}), engine, metrics)
            stack.push_async_callback(service.close)
            return service

        yield serve
