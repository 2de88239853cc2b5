"""Clients that vanish, by a cut that nobody is told of or by doing nothing; and slow readers.

The gateway is the real one and so is the tracker, with the fake engine.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest

from limelight.v1 import limelight_pb2_grpc
from services.codecs.images import encode
from services.gateway.app import Gateway
from tests.codecs.videos.clips import X264, Clip
from tests.conftest import Clock, Until
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import Client, Request, config
from tests.gateway.video.engine import InProcessReplica, assert_nothing_is_held, chain
from tests.gateway.video.relay import Relay, relaying
from tests.tracker.clips import RED, demuxed, picture

IDLE_S = 60.0
RESUME_S = 90.0
# A connection does not grow to hold what its client does not read.
SMALL = [("grpc.http2.bdp_probe", 0)]
Act = Callable[[Client], Awaitable[None]]


async def in_the_upload(client: Client) -> None:
    """Half of a file, and no more."""
    await client.start()
    content = demuxed().content
    await client.send(content[: len(content) // 2], 1024, end=False)


async def before_a_credit(client: Client) -> None:
    """A file, and no word that a frame was taken."""
    client.config.frame_window = 1
    await client.start()
    await client.send(demuxed().content)
    await client.next("frame")


async def without_reading(client: Client) -> None:
    """A file with more to tell than connections hold, and nothing read but the start."""
    await client.start()
    content = checkered(40)
    for at in range(0, len(content), 1 << 20):
        await client.write(Request(chunk=content[at : at + (1 << 20)]))
    await client.write(Request(media_end=True))


async def in_live_input(client: Client) -> None:
    """Some live frames, and no more."""
    client.config.live = True
    await client.start()
    await send_live(client, 3)
    await client.next("frame")


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "silent"])
@pytest.mark.parametrize(
    "act",
    [in_the_upload, before_a_credit, without_reading, in_live_input],
    ids=lambda act: act.__name__,
)
async def test_a_client_that_vanishes_frees_its_session(
    peers: Peers, until: Until, clock: Clock, act: Act, cut: bool
) -> None:
    async with AsyncExitStack() as opened:
        # The tracker's own time must not be what frees it.
        times = {
            "stream_idle_s": IDLE_S,
            "resume_s": RESUME_S,
            "drain_s": 0.2,
            "idle_timeout_s": 10 * IDLE_S,
        }
        _, gateway, replica = await opened.enter_async_context(chain(peers, **times))
        relay: Relay = await opened.enter_async_context(relaying(gateway.address))
        channel = await opened.enter_async_context(grpc.aio.insecure_channel(relay.address, SMALL))
        client = Client(limelight_pb2_grpc.LimelightServiceStub(channel), config("red square"))
        await act(client)
        await until(lambda: replica.service._segmenter.sessions)
        await resting(replica)
        await looked(gateway)
        if cut:
            relay.cut()
        clock.advance(IDLE_S / 2)
        await looked(gateway)
        assert value(gateway, "limelight_streams") == 1
        assert not replica.idle
        clock.advance(IDLE_S / 2 + 1)
        await until(lambda: replica.idle and value(gateway, "limelight_streams") == 0)
        # What is kept for a return is kept for its time only.
        await until(lambda: value(gateway, "limelight_kept_streams") == 1)
        clock.advance(RESUME_S + 1)
        await assert_nothing_is_held(gateway, replica, until)
        client.call.cancel()


async def test_a_slow_reader_holds_no_more_however_long_its_video_is(
    peers: Peers, until: Until
) -> None:
    """Everything that could grow is measured once a reader of one frame has brought it to rest."""
    held = {}
    for frames in (200, 400):
        async with chain(peers, intake_ahead_bytes=1 << 20) as (stub, gateway, replica):
            client = Client(stub, config("red square", frame_window=1))
            await client.start()
            content = noisy(frames)
            assert len(content) > frames * 40_000
            sending = asyncio.create_task(client.send(content, 1 << 18))
            await until(lambda: "frame" in client.kinds())  # noqa: B023
            await resting(replica)
            before = held_by(gateway, replica)
            rss = resident_mib()
            for _ in range(3):
                await looked(gateway)
            assert held_by(gateway, replica) == before
            held[frames] = before
            print(f"{frames} frames, {len(content) >> 20} MiB: {held[frames]}")
            assert resident_mib() - rss < 16
            sending.cancel()
            client.call.cancel()
            await until(lambda: replica.idle)
    assert held[400]["spooled"] <= 1.5 * held[200]["spooled"] < 16 << 20
    assert held[400]["answered"] <= held[200]["answered"] + 8
    assert held[400]["outbox"] <= 2 * held[200]["outbox"]
    assert held[400]["state"] <= 2 * held[200]["state"]


async def test_a_slow_reader_outlives_sessions_that_take_it_for_gone(
    peers: Peers, until: Until
) -> None:
    """It reads on, a frame at a time, and twice so late that its tracker has given it up."""
    async with chain(peers, idle_timeout_s=0.2) as (stub, _, replica):
        client = Client(stub, config("red square", frame_window=1))
        await client.start()
        await client.send(demuxed(120).content)
        while len(client.frames()) < 120:
            before = len(client.frames())
            await client.read()
            if before < len(client.frames()) < 120:
                if before in (20, 60):
                    await until(lambda: not replica.service._segmenter.sessions)
                await client.write(Request(credits=1))
        await client.rest()
        assert client.indices() == list(range(120))
        assert {item.object_id for frame in client.frames() for item in frame.instances} == {1}
        assert client.summary.resumed >= 2


async def send_live(client: Client, frames: int, first: int = 0) -> None:
    """Live frames from number `first` on, each when there is a credit for it."""
    for number in range(first, first + frames):
        while client.room == 0:
            await client.read()
        client.room -= 1
        message = Request()
        message.frame.image.content = encode(picture(number), "png")
        message.frame.timestamp_s = number / 10
        await client.write(message)


def checkered(frames: int) -> bytes:
    """Red combs: connected, and with as many runs as a mask of their size can have."""
    pixels = np.full((256, 256, 3), 255, np.uint8)
    pixels[::2] = RED
    pixels[:, :2] = RED
    options = X264 | {"bf": "0", "crf": "0", "preset": "ultrafast"}
    return Clip(
        "matroska",
        "libx264rgb",
        frames,
        (256, 256),
        "rgb24",
        codec_options=options,
        source=[pixels] * frames,
    ).make()


def noisy(frames: int) -> bytes:
    """A red square before noise, 80 kB a frame."""
    pixels = np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    pixels[64:128, 64:128] = RED
    options = {"qmin": "1", "qmax": "1"}
    return Clip(
        "matroska",
        "mjpeg",
        frames,
        (320, 240),
        "yuvj420p",
        codec_options=options,
        source=[pixels] * frames,
    ).make()


async def resting(replica: InProcessReplica) -> None:
    """Wait until the tracker has answered nothing for a while."""
    seen = [-1]
    while len(seen) < 4 or len(set(seen[-4:])) > 1:
        await asyncio.sleep(0.3)
        seen.append(replica.metrics.counts["frames",])


async def looked(gateway: Gateway) -> None:
    """Wait until the gateway has looked once more whether its client is there."""
    (call,) = gateway._tracking._calls.values()
    outbox, looks = call.stream.outbox, asyncio.Event()

    def poke() -> None:
        looks.set()
        type(outbox).poke(outbox)

    outbox.poke = poke
    await looks.wait()


def value(gateway: Gateway, name: str) -> float:
    found = gateway.metrics.registry.get_sample_value(name)
    assert found is not None
    return found


def held_by(gateway: Gateway, replica: InProcessReplica) -> dict[str, float]:
    """What the gateway and the tracker hold of their one stream."""
    (call,) = gateway._tracking._calls.values()
    state = call.stream._state
    return {
        "spooled": value(gateway, "limelight_spooled_bytes"),
        "outbox": call.stream.outbox.kept_bytes,
        "answered": replica.metrics.counts["frames",],
        "state": 0 if state is None else len(state.content),
    }


def resident_mib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) // 1024  # type: ignore[union-attr]
