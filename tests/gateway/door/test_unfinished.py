"""Connections and requests that never come to anything, and what may be held of them."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import psutil
import pytest

from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from services.gateway import door
from services.gateway.app import Gateway, start
from services.isolation.pool import Nursery
from tests.conftest import wait_until
from tests.gateway.conftest import Ask, make_settings
from tests.gateway.door.frames import (
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    Connection,
    frame,
    header_block,
)
from tests.gateway.door.scale import (
    FULL,
    HALF_KEPT,
    HALF_OPEN,
    HELD_BYTES,
    MUTE,
    SEGMENT,
    UPLOAD_BYTES,
    UPLOADS,
)
from tests.gateway.peers import Peers, detection

BLOCK = header_block(SEGMENT)
# As much as can come between two looks at what is held, on a machine with nothing else to do.
SLACK_BYTES = 600 * 2**20 if FULL else 60 * 2**20


@asynccontextmanager
async def running(peers: Peers, workers: Nursery, **changes: object) -> AsyncIterator[Gateway]:
    peers.things["thing"] = [detection(0, 0, 10, 10)]
    gateway = await start(make_settings(peers, **changes), workers)
    yield gateway
    await gateway.drain()


async def answered(gateway: Gateway, ask: Ask) -> bool:
    """Whether a well-behaved client has its answer."""
    async with calling(gateway) as stub:
        request = limelight_pb2.SegmentRequest(task=ask.phrases("thing"))
        return len((await stub.Segment(request, timeout=60)).result.instances) == 1


@asynccontextmanager
async def calling(
    gateway: Gateway,
) -> AsyncIterator[limelight_pb2_grpc.LimelightServiceStub]:
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        yield limelight_pb2_grpc.LimelightServiceStub(channel)


def shed(gateway: Gateway, why: str) -> float:
    labels = {"reason": why}
    return gateway.metrics.registry.get_sample_value("limelight_shed_total", labels) or 0.0


async def test_uploads_that_never_end_are_bounded(peers: Peers, workers: Nursery, ask: Ask) -> None:
    async with running(peers, workers, max_upload_bytes=HELD_BYTES) as gateway:
        before = psutil.Process().memory_info().rss
        connections = [await Connection.open(gateway.address) for _ in range(4)]
        data = b"\0" + struct.pack(">I", UPLOAD_BYTES) + bytes(UPLOAD_BYTES - 1000)
        before += len(data)
        uploads = [(each, each.begin(BLOCK)) for _ in range(UPLOADS // 4) for each in connections]
        sending = [asyncio.create_task(each.send(stream, data)) for each, stream in uploads]
        await wait_until(lambda: shed(gateway, "upload_bytes"))
        await wait_until(
            lambda: any(
                b"fill the memory set aside" in block
                for each in connections
                for blocks in each.headers.values()
                for block in blocks
            )
        )
        assert await answered(gateway, ask)
        await asyncio.gather(*sending)
        assert psutil.Process().memory_info().rss - before < HELD_BYTES + SLACK_BYTES
        value = gateway.metrics.registry.get_sample_value
        await wait_until(lambda: (value("limelight_upload_bytes") or 0) <= HELD_BYTES)
        for each in connections:
            await each.close()
        await wait_until(lambda: value("limelight_uploads") == 0)


async def test_a_request_that_is_not_whole_in_time_is_ended(peers: Peers, workers: Nursery) -> None:
    async with running(peers, workers, upload_s=0.3) as gateway:
        connection = await Connection.open(gateway.address)
        stream = connection.begin(BLOCK)
        await connection.send(stream, b"\0" + struct.pack(">I", 1000) + bytes(10))
        await wait_until(lambda: stream in connection.ended)
        assert any(b"not whole after 0.3 s" in block for block in connection.headers[stream])
        await connection.close()


async def test_half_open_streams_are_bounded_and_make_room(
    peers: Peers, workers: Nursery, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(peers, workers, max_uploads=HALF_KEPT) as gateway:
        connections = [await Connection.open(gateway.address) for _ in range(4)]
        streams = [(each, each.begin(BLOCK)) for _ in range(HALF_OPEN // 4) for each in connections]
        await wait_until(
            lambda: sum(len(each.ended) for each in connections) >= HALF_OPEN - HALF_KEPT
        )
        assert shed(gateway, "uploads") >= HALF_OPEN - HALF_KEPT
        each, stream = next((each, stream) for each, stream in streams if stream in each.ended)
        assert any(b"requests are not whole" in block for block in each.headers[stream])
        # Who has taken long makes room for who comes.
        monkeypatch.setattr(door, "_PATIENCE_S", 0.0)
        assert await answered(gateway, ask)
        for each in connections:
            await each.close()


async def test_a_call_without_a_request_is_refused(peers: Peers, workers: Nursery) -> None:
    async with running(peers, workers) as gateway:
        connection = await Connection.open(gateway.address)
        connection.writer.write(frame(HEADERS, 0x4 | END_STREAM, 1, BLOCK))
        await wait_until(lambda: 1 in connection.ended)
        assert any(b"the call has no request" in block for block in connection.headers[1])
        await connection.close()


async def test_mute_connections_are_closed(peers: Peers, workers: Nursery) -> None:
    async with running(peers, workers, handshake_s=0.5) as gateway:
        host, _, port = gateway.address.rpartition(":")
        opened = [await asyncio.open_connection(host, int(port)) for _ in range(MUTE)]
        await asyncio.gather(*(reader.read() for reader, _ in opened))  # to their ends
        for _, writer in opened:
            writer.close()


async def test_connections_without_calls_are_closed(peers: Peers, workers: Nursery) -> None:
    async with running(peers, workers, connection_idle_s=0.5) as gateway:
        connection = await Connection.open(gateway.address)
        await connection.over()
        assert connection.goaway is not None
        await connection.close()


async def test_connections_are_bounded(peers: Peers, workers: Nursery, ask: Ask) -> None:
    async with running(peers, workers, max_connections=3) as gateway:
        assert await answered(gateway, ask)
        kept = [await Connection.open(gateway.address) for _ in range(3)]
        # Its end may not be known there yet that of the client is.
        await wait_until(lambda: not any(each.closed for each in kept))
        host, _, port = gateway.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await reader.read() == b""
        writer.close()
        for each in kept:
            await each.close()


async def test_a_flood_of_pings_ends_its_connection(peers: Peers, workers: Nursery) -> None:
    async with running(peers, workers) as gateway:
        connection = await Connection.open(gateway.address)
        while connection.goaway is None:
            before = connection.pongs
            connection.ping()
            await wait_until(
                lambda before=before: connection.pongs > before or connection.goaway is not None
            )
        await connection.over()
        assert connection.goaway == ENHANCE_YOUR_CALM
        await connection.close()
