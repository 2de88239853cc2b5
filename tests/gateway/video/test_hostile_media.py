"""Hostile media through the whole chain: client, gateway, the tracker itself with the fake engine.

Each ends in a typed error at the chunk, or in frames in order and a summary that warns of what is
missing; a sound video beside them gets what it gets alone; afterwards nothing is held.
"""

import asyncio
import io
import itertools
import re
import resource
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from loadtest.chaos.evidence import endless_video
from services.codecs.videos.demux import Demuxer
from tests.codecs.videos.clips import KINDS
from tests.codecs.videos.hostile import LIMITS, HostileVideo, hostile_videos
from tests.conftest import Until
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import Client, Request, Stub, config
from tests.gateway.video.engine import assert_nothing_is_held, chain
from tests.rpc.faults import Fault, fault_of
from tests.tracker.clips import demuxed

# As the corpus's, but for the frames that are tracked before a bomb of them is refused.
TIGHT = replace(LIMITS, max_frames=100)
LIMITED = {
    "max_video_pixels": TIGHT.max_pixels,
    "max_video_side": TIGHT.max_side,
    "max_video_frames": TIGHT.max_frames,
    "max_video_seconds": TIGHT.max_seconds,
}
# How grpcio begins to tell of a write that was cut off.
CORE = "Internal error from Core"
# Every so many frames are tracked; all are decoded.
STRIDE = 3
# How many are tracked at once.
TOGETHER = 6
# What all of them may add to this process at its peak, MiB: some decoders of frames of two
# megapixels, and no bomb.
MEMORY_MIB = 400


async def tried(stub: Stub, content: bytes, **fields: object) -> tuple[Client, Fault | None]:
    """One video, to its end or to the error that it ends with."""
    client = Client(stub, config("red square", **fields))
    try:
        await client.start()
        await client.send(content, 16 << 10)
        await client.rest()
    except grpc.RpcError:
        return client, fault_of(await _status_of(client))
    return client, None


async def _status_of(client: Client) -> grpc.RpcError:
    """How the call ended: grpcio has it a little after a write that its end has cut off."""
    async with asyncio.timeout(60):
        while (await client.call.details() or "").startswith(CORE):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises(grpc.RpcError) as caught:
        await client.check()
    return caught.value


def verdict(video: HostileVideo, client: Client, fault: Fault | None) -> str:
    """What is wrong with how a video ended; empty if nothing is."""
    frames = client.frames()
    times = [frame.timestamp_s for frame in frames]
    if client.indices() != sorted(set(client.indices())) or times != sorted(set(times)):
        return f"frames {client.indices()} at {times}"
    if len({(frame.width, frame.height) for frame in frames}) > 1:
        return "frames of several sizes"
    if fault is not None:
        known = fault.reason in {reason.value for reason in video.reasons}
        wording = fault.message.isprintable() and len(fault.message) < 300
        return "" if known and wording else f"{fault.reason}: {fault.message}"
    said = frames or client.summary.warning
    if not video.may_pass or not said or client.summary.frames != len(frames):
        return f"{len(frames)} frames came to the end, {client.kinds()[-1]}"
    whole = list(range(0, _declared(video.data), STRIDE)) == client.indices()
    if whole == bool(client.summary.warning):
        return f"{len(frames)} frames, and the warning is {client.summary.warning!r}"
    return ""


def _declared(data: bytes) -> int:
    """Frames of a sound file; -1 for one that is not."""
    with Demuxer(io.BytesIO(data), TIGHT) as demuxer:
        frames = sum(gop.frames for gop in demuxer.gops())
        return frames if demuxer.fault is None else -1


def peak_mib(*, reset: bool = False) -> int:
    """Most memory that this process has held, since the last reset where Linux allows one."""
    if reset:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) // 1024  # type: ignore[union-attr]


async def test_all_of_them_end_and_nothing_is_held(peers: Peers, until: Until) -> None:
    videos = list(hostile_videos())
    assert len(videos) >= 200
    waiting = iter(videos)
    faults: list[str] = []
    async with chain(peers, **LIMITED) as (stub, gateway, replica):
        sound, none = await tried(stub, demuxed().content)
        assert none is None
        before = peak_mib(reset=True)

        async def work() -> None:
            for video in waiting:
                wrong = verdict(video, *await tried(stub, video.data, stride=STRIDE))
                if wrong:
                    faults.append(f"{video.name}: {wrong}")

        async def beside() -> None:
            for _ in range(5):
                other, none = await tried(stub, demuxed().content)
                assert none is None
                assert other.frames() == sound.frames()
                assert not other.summary.warning

        await asyncio.gather(beside(), *(work() for _ in range(TOGETHER)))
        assert not faults, "\n".join(faults)
        assert peak_mib() - before < MEMORY_MIB
        await assert_nothing_is_held(gateway, replica, until)


def _moved(part: bytes, frame: int) -> bytes:
    """A fragment of an MP4 that begins with that frame; what is of another kind as it is."""
    at = part.find(b"tfdt")
    return part if at < 0 else part[: at + 8] + struct.pack(">Q", 512 * frame) + part[at + 16 :]


def endless() -> Iterator[tuple[str, bytes, bytes, str]]:
    """Streams that never end: how they begin, what comes again and again, what ends them."""
    webm, mp4, gif = KINDS["webm-vp9"].make(), KINDS["mp4-fragmented"].make(), KINDS["gif"].make()
    at, end = webm.rindex(b"\x1f\x43\xb6\x75"), webm.index(b"\x1c\x53\xbb\x6b")
    cluster = webm[at : end if end > at else len(webm)]
    fragment = mp4[mp4.rindex(b"moof") - 4 : mp4.rindex(b"mfra") - 4]
    yield "clusters", webm[:at] + cluster, cluster, "VIDEO_TOO_LONG"
    yield "fragments", mp4[: mp4.rindex(b"mfra") - 4], fragment, "VIDEO_TOO_LONG"
    large = "VIDEO_TOO_LARGE"
    yield "voids", webm[:at], b"\xec\x80" * 1000, large
    unknown = webm[:at] + b"\x1f\x43\xb6\x75\x01\xff\xff\xff\xff\xff\xff\xff"
    yield "a cluster of any size", unknown, bytes(16 << 10), large
    unending, far = b"\0\0\0\0mdat", struct.pack(">I4sQ", 1, b"mdat", 1 << 40)
    yield "an index that never comes", mp4[:28] + unending, bytes(64 << 10), "VIDEO_CORRUPT"
    yield "an index far away", mp4[:28] + far, bytes(64 << 10), large
    yield "boxes", mp4[:28], struct.pack(">I4s", 1 << 14, b"free") + bytes((1 << 14) - 8), large
    header = gif[: 13 + 3 * 2 ** ((gif[10] & 7) + 1)]
    yield "comments", header, b"\x21\xfe" + (b"\xff" + bytes(255)) * 64 + b"\0", large
    dot = b"\x2c" + struct.pack("<HHHHB", 0, 0, 96, 64, 0) + b"\2\2\x44\1\0"
    yield "dots", header, (b"\x21\xf9\4\4\4\0\0\0" + dot) * 600, large
    chunk = b"JUNK" + struct.pack("<I", 1 << 14) + bytes(1 << 14)
    yield "chunks", b"RIFF\xff\xff\xff\x7fAVI ", chunk, large
    extended = b"RIFF\xff\xff\xff\x7fWEBPVP8X\x0a\0\0\0\2\0\0\0\x5f\0\0\x3f\0\0"
    yield "chunks of a WebP", extended, chunk, large


async def flooded(stub: Stub, head: bytes, part: bytes) -> Fault:
    """What ends a stream whose sender never does."""
    client = Client(stub, config("red square", stride=STRIDE))
    with pytest.raises(grpc.RpcError):  # noqa: PT012
        await client.start()
        for frame in itertools.count(0, 12):
            content = head if frame == 0 else _moved(part, 28 + frame)
            while client.room == 0:
                await client.read()
            client.room -= 1
            await client.write(Request(chunk=content))
            if client.call.done():
                await client.rest()
    return fault_of(await _status_of(client))


async def test_what_never_ends_is_ended(peers: Peers, until: Until) -> None:
    streams = list(endless())
    small = {"max_video_bytes": 2 << 20, "intake_ahead_bytes": 1 << 20}
    async with chain(peers, **LIMITED, **small) as (stub, gateway, replica):
        before = peak_mib(reset=True)
        faults = await asyncio.gather(*(flooded(stub, head, part) for _, head, part, _ in streams))
        ends = {name: fault.reason for (name, *_), fault in zip(streams, faults, strict=True)}
        assert ends == {name: reason for name, _, _, reason in streams}
        assert peak_mib() - before < MEMORY_MIB
        await assert_nothing_is_held(gateway, replica, until)


async def test_a_disk_without_room_is_told_and_costs_nobody_else(
    peers: Peers, until: Until
) -> None:
    """A video that has to be kept whole, and does not fit into what is kept of it in memory."""
    sound = demuxed().content  # which is written to a file as it is made
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with chain(peers) as (stub, gateway, replica):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            _, full = await tried(stub, endless_video())
            other, none = await tried(stub, sound)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert full is not None
        assert (full.code, full.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert "out of disk" in full.message
        assert none is None
        assert other.frames()
        await assert_nothing_is_held(gateway, replica, until)
