"""A real gateway on port 0 before scripted peers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import grpc
import numpy as np
import pytest

from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from services.codecs.images import encode
from services.gateway.app import Gateway, start
from services.gateway.pixels import nursery
from services.gateway.settings import Settings
from services.isolation.pool import Nursery
from tests.gateway.peers import HEIGHT, WIDTH, Peers, serving


@pytest.fixture
async def peers() -> AsyncIterator[Peers]:
    async with serving(Peers()) as running:
        yield running


@pytest.fixture
def settings(peers: Peers) -> Settings:
    """Settings a test may replace: define a fixture of this name in its module."""
    return make_settings(peers)


def make_settings(peers: Peers, **changes: object) -> Settings:
    values: dict[str, object] = {
        "listen": "127.0.0.1:0",
        # Its HTTP server takes half a second to end: a test that reads metrics asks for it.
        "metrics_listen": "",
        "planner_address": peers.address,
        "segmenter_address": peers.address,
        "channels": 2,
        "drain_s": 5.0,
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def workers() -> Iterator[Nursery]:
    """Forks the workers of every gateway of the session: importing what they need takes a while."""
    forking = nursery(Settings())
    yield forking
    forking.close()


@pytest.fixture
async def gateway(settings: Settings, workers: Nursery) -> AsyncIterator[Gateway]:
    running = await start(settings, workers)
    yield running
    await running.drain()


@pytest.fixture
async def channel(gateway: Gateway) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(gateway.address) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> limelight_pb2_grpc.LimelightServiceStub:
    return limelight_pb2_grpc.LimelightServiceStub(channel)


@pytest.fixture(scope="session")
def picture() -> bytes:
    """A PNG of the size the scripted segmenter answers for."""
    ramp = np.linspace(0, 255, WIDTH, dtype=np.uint8)
    return encode(np.broadcast_to(ramp[None, :, None], (HEIGHT, WIDTH, 3)).copy(), "png")


@pytest.fixture
def ask(picture: bytes) -> "Ask":
    return Ask(picture)


class Ask:
    """Builds requests on the picture."""

    def __init__(self, picture: bytes) -> None:
        self._picture = picture

    def task(self, instruction: str | None = None, **fields: object) -> limelight_pb2.SegmentTask:
        task = limelight_pb2.SegmentTask(**fields)  # type: ignore[arg-type]
        if not task.HasField("image"):
            task.image.content = self._picture
        if instruction is not None:
            task.instruction = instruction
        return task

    def phrases(self, *phrases: str, **fields: object) -> limelight_pb2.SegmentTask:
        task = self.task(**fields)
        for phrase in phrases:
            task.queries.include.add(phrase=phrase)
        return task


async def written(call: grpc.aio.StreamStreamCall, request: object) -> None:  # type: ignore[type-arg]
    """Send one message, or nothing where the call has ended, as one that is refused at once may
    have before its first write: who reads from it learns why.
    """
    with suppress(grpc.RpcError, asyncio.InvalidStateError):
        await call.write(request)
