"""A real gateway before the real services with engines that need no model; and its pictures."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from services.codecs.images import encode
from services.gateway.app import Gateway, nursery, start
from services.gateway.settings import Settings
from services.isolation.pool import Nursery
from tests.clients.serving import serving_engines

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def workers() -> Iterator[Nursery]:
    forking = nursery(Settings())
    yield forking
    forking.close()


@pytest.fixture
async def gateway(workers: Nursery) -> AsyncIterator[Gateway]:
    async with serving_engines() as address:
        settings = Settings(
            listen="127.0.0.1:0",
            metrics_listen="",
            planner_address=address,
            segmenter_address=address,
        )
        running = await start(settings, workers)
        yield running
        await running.drain()


@pytest.fixture
async def lonely(gateway: Gateway, workers: Nursery) -> AsyncIterator[Gateway]:
    """A gateway whose planner nobody has started."""
    settings = Settings(
        listen="127.0.0.1:0",
        metrics_listen="",
        planner_address="127.0.0.1:1",
        segmenter_address="127.0.0.1:1",
        peer_attempts=1,
    )
    running = await start(settings, workers)
    yield running
    await running.drain()


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two red things, one with a hole, and a blue one."""
    pixels = np.full((100, 150, 3), 255, np.uint8)
    pixels[10:30, 10:40] = RED
    pixels[60:90, 100:140] = RED
    pixels[70:80, 110:120] = 255
    pixels[50:70, 20:50] = BLUE
    path = tmp_path_factory.mktemp("pictures") / "things.png"
    path.write_bytes(encode(pixels))
    return path


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture whose overlay has more bytes as a PNG than most clients take."""
    pixels = np.random.default_rng(0).integers(0, 256, (1300, 1300, 3), np.uint8)
    path = tmp_path_factory.mktemp("noise") / "noise.png"
    path.write_bytes(encode(pixels))
    return path
