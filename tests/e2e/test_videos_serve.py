"""Videos over a real Ray Serve with two trackers, while trackers, connections and gateways end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
import pytest

from limelight import AsyncClient, TrackedFrame, TrackSummary
from limelight.retries import RetryPolicy
from services.gateway.app import Gateway, start
from services.gateway.settings import Settings
from services.local.ports import free_ports
from tests.conftest import Until
from tests.e2e.conftest import RayCluster
from tests.e2e.system import Apps, deployed_tracker, gateway_settings
from tests.gateway.video.redis_server import PROGRAM, redis_server
from tests.gateway.video.relay import relaying
from tests.tracker.clips import demuxed

pytestmark = pytest.mark.serve

FRAMES = 160
SESSIONS = 4
# Of every step of the fake engine, so that streams last while something ends.
DELAY_S = 0.01


@pytest.fixture(scope="module")
def application(ray_cluster: RayCluster) -> Iterator[str]:
    with deployed_tracker(
        min_replicas=2, max_replicas=2, max_sessions=SESSIONS, fake_delay_s=DELAY_S
    ) as name:
        yield name


@pytest.fixture
async def gateway(application: str, ray_cluster: RayCluster) -> AsyncIterator[Gateway]:
    running = await start(gateway_settings(ray_cluster, Apps("none", "none", application)))
    yield running
    await running.drain()


@dataclass
class Stream:
    """One client's video, as far as it has come."""

    address: str
    frames: list[TrackedFrame] = field(default_factory=list)
    summary: TrackSummary | None = None
    cuts: int = 0

    async def run(self) -> None:
        """To the end of it; cuts are the client's to mend."""
        async with AsyncClient(self.address, retry=RetryPolicy(attempts=8)) as client:
            tracking = client.track(demuxed(FRAMES).content, phrases=["red square", "blue square"])
            async for event in tracking:
                match event:
                    case TrackedFrame():
                        self.frames.append(event)
                    case TrackSummary():
                        self.summary = event
            self.cuts = tracking.resumed

    def told(self) -> list[tuple[object, ...]]:
        """What each frame says, in the order in which they came."""
        return [
            (
                frame.index,
                frame.time_s,
                *((item.id, item.label, item.box) for item in frame.instances),
            )
            for frame in self.frames
        ]


@pytest.fixture
async def undisturbed(gateway: Gateway) -> list[tuple[object, ...]]:
    """What a stream tells that nothing happens to."""
    stream = Stream(gateway.address)
    await stream.run()
    assert [frame.index for frame in stream.frames] == list(range(FRAMES))
    assert stream.summary is not None
    assert stream.summary.resumed == 0
    return stream.told()


async def test_every_session_outlives_its_replica(
    application: str, gateway: Gateway, undisturbed: list[tuple[object, ...]], until: Until
) -> None:
    """Both replicas are killed, one after the other, so that each of four sessions loses its."""
    streams = [Stream(gateway.address) for _ in range(SESSIONS)]
    running = [asyncio.create_task(stream.run()) for stream in streams]
    for replica in await both(application, until):
        shown = [len(stream.frames) for stream in streams]
        await until(lambda: all(len(s.frames) > n + 10 for s, n in zip(streams, shown)))  # noqa: B023, B905
        replica.kill()
    await asyncio.gather(*running)
    for stream in streams:
        assert stream.told() == undisturbed
        assert stream.summary is not None
        assert stream.summary.frames == FRAMES
        assert stream.summary.resumed >= 1
        assert stream.cuts == 0


async def test_the_same_while_clients_are_cut_off_and_come_back(
    application: str, gateway: Gateway, undisturbed: list[tuple[object, ...]], until: Until
) -> None:
    async with relaying(gateway.address) as relay:
        streams = [Stream(relay.address) for _ in range(SESSIONS)]
        running = [asyncio.create_task(stream.run()) for stream in streams]
        await until(lambda: all(len(stream.frames) > 20 for stream in streams))
        relay.drop()
        (await both(application, until))[0].kill()
        await until(lambda: all(len(stream.frames) > 60 for stream in streams))
        relay.drop()
        await asyncio.gather(*running)
    for stream in streams:
        assert stream.told() == undisturbed
        assert stream.cuts >= 2
    value = gateway.metrics.registry.get_sample_value
    assert value("limelight_streams") == 0


@pytest.mark.skipif(PROGRAM is None, reason="needs redis-server or valkey-server")
async def test_a_gateway_that_is_told_to_end_hands_its_streams_to_another(
    application: str,
    ray_cluster: RayCluster,
    undisturbed: list[tuple[object, ...]],
    tmp_path: Path,
    until: Until,
) -> None:
    """SIGTERM to a gateway of its own process; the clients come back through the other's door."""
    settings = gateway_settings(ray_cluster, Apps("none", "none", application))
    with (
        redis_server(tmp_path) as redis,
        gateway_process(settings, redis.url) as (address, process),
    ):
        other = await start(settings.model_copy(update={"redis_url": redis.url}))
        async with relaying(address) as relay:
            streams = [Stream(relay.address) for _ in range(SESSIONS)]
            running = [asyncio.create_task(stream.run()) for stream in streams]
            await until(lambda: all(len(stream.frames) > 40 for stream in streams))
            relay.redirect(other.address)
            process.send_signal(signal.SIGTERM)
            await asyncio.gather(*running)
        value = other.metrics.registry.get_sample_value
        assert value("limelight_streams_resumed_total", {"after": "gateway"}) == SESSIONS
        assert await asyncio.to_thread(process.wait, 60) == 0
        await other.drain()
    for stream in streams:
        assert stream.told() == undisturbed
        assert stream.summary is not None
        assert stream.summary.frames == FRAMES


@contextmanager
def gateway_process(
    settings: Settings, redis_url: str
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The address and the process of a gateway that is told to end within half a second."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    own = settings.model_dump(exclude_defaults=True) | {
        "listen": address,
        "metrics_listen": "",
        "redis_url": redis_url,
        "drain_s": 0.5,
    }
    environment = {f"LIMELIGHT_GATEWAY_{name.upper()}": str(value) for name, value in own.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "services.gateway"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(120)
        yield address, process
    finally:
        process.kill()
        process.wait()


async def both(application: str, until: Until) -> list[psutil.Process]:
    """The two replicas, once a killed one has been replaced."""
    await until(lambda: len(replicas(application)) == 2)
    return replicas(application)


def replicas(name: str) -> list[psutil.Process]:
    """The replicas of an application, as Ray names their processes."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if any(f"ServeReplica:{name}:" in part for part in process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
