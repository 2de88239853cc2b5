"""Video files are read by processes: what happens to one of them costs its own video only."""

import os
import signal
from collections.abc import Iterator

import grpc
import psutil
import pytest

from limelight.values import ConceptQuery, Plan
from services.gateway.app import Gateway, start
from services.gateway.pixels import nursery
from services.gateway.settings import Settings
from services.gateway.video import demuxing
from services.isolation.pool import Nursery
from tests.conftest import wait_until as until
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import (
    Client,
    Stub,
    config,
    long_clip,
    make_track_settings,
    track,
)
from tests.gateway.video.tracker import StandInTracker
from tests.rpc.faults import Fault, fault_of

# Of the pools that read and draw images.
WARM = 2
_LOST = "limelight_worker_losses_total"


@pytest.fixture(scope="module")
def workers() -> Iterator[Nursery]:
    """Not the session's: here all workers are this gateway's."""
    forking = nursery(Settings())
    yield forking
    forking.close()


def readers(workers: Nursery, gateway: Gateway) -> list[psutil.Process]:
    """The processes that read videos, once those for images are there: the youngest."""
    return sorted(psutil.Process(workers.pid).children(), key=lambda child: child.pid)[WARM:]


@pytest.fixture
async def half(stub: Stub, workers: Nursery, gateway: Gateway) -> Client:
    """A call whose file has come in part, and is being read."""
    await until(lambda: len(psutil.Process(workers.pid).children()) == WARM)
    client = Client(stub, config("dog"))
    await client.start()
    content = long_clip()
    await client.send(content[: len(content) // 2], end=False)
    await client.next("frame")
    return client


async def ended(client: Client) -> Fault:
    with pytest.raises(grpc.RpcError) as caught:
        await client.rest()
    return fault_of(caught.value)


def losses(gateway: Gateway, loss: str) -> float | None:
    value = gateway.metrics.registry.get_sample_value
    return value(_LOST, {"pool": "videos", "loss": loss})


async def test_the_gateway_itself_reads_no_video(
    stub: Stub, peers: Peers, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Demuxer", "VideoDecoder", "decode_key_frame"):
        monkeypatch.setattr(demuxing, name, None)
    peers.plan = Plan((ConceptQuery("dog"),), review=True)
    client = await track(stub, clip, config(instruction="the dogs"))
    assert peers.asked == ["plan", "review"]
    assert client.indices() == list(range(48))


async def test_a_crash_costs_its_own_video(
    half: Client, stub: Stub, gateway: Gateway, workers: Nursery
) -> None:
    (reader,) = readers(workers, gateway)
    content = long_clip()
    other = Client(stub, config("dog"))
    await other.start()
    await other.send(content[: len(content) // 2], end=False)
    os.kill(reader.pid, signal.SIGSEGV)
    fault = await ended(half)
    assert (fault.reason, fault.field) == ("VIDEO_CORRUPT", "chunk")
    assert fault.message == "the video ended the process that read it"
    await other.send(content[len(content) // 2 :])
    await other.rest()
    assert other.indices() == list(range(240))
    assert losses(gateway, "crashed") == 1
    await until(lambda: readers(workers, gateway) == [])


async def test_a_client_that_goes_ends_the_process(
    half: Client, gateway: Gateway, workers: Nursery
) -> None:
    assert len(readers(workers, gateway)) == 1
    half.call.cancel()
    await until(lambda: readers(workers, gateway) == [])
    assert losses(gateway, "crashed") == 0


async def test_a_video_goes_on_without_the_process_that_forked_its_own(
    half: Client, workers: Nursery, gateway: Gateway
) -> None:
    os.kill(workers.pid, signal.SIGKILL)  # type: ignore[arg-type]
    content = long_clip()
    await half.send(content[len(content) // 2 :])
    await half.rest()
    assert half.indices() == list(range(240))


async def test_a_step_that_takes_too_long_ends_the_video(
    peers: Peers, tracker: StandInTracker, workers: Nursery, clip: bytes
) -> None:
    settings = make_track_settings(peers, tracker, video_cpu_s=1e-6)
    gateway = await start(settings, workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        client = Client(Stub(channel), config("dog"))
        await client.start()
        await client.send(clip)
        fault = await ended(client)
    assert (fault.reason, fault.field) == ("VIDEO_TOO_LONG", "chunk")
    await gateway.drain()
