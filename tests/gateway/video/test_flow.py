"""Credits in both directions: what a slow or absent client lets the whole chain do."""

import asyncio

import grpc
import pytest

from limelight.v1 import limelight_pb2_grpc
from services.gateway.app import Gateway, start
from services.isolation.pool import Nursery
from services.rpc.tracking import TRACK_FLOW
from tests.conftest import Clock, Until
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import (
    Client,
    Request,
    Stub,
    config,
    fill,
    large_clip,
    long_clip,
    make_track_settings,
    track,
)
from tests.gateway.video.tracker import StandInTracker
from tests.rpc.faults import fault_of


async def test_frames_wait_for_the_clients_credits(
    stub: Stub, tracker: StandInTracker, until: Until
) -> None:
    client = Client(stub, config("dog", frame_window=5))
    await client.start()
    await client.send(long_clip())
    while len(client.frames()) < 5:
        await client.read()
    # The chain comes to rest: no frame beyond the window, and no more of the tracker than its own.
    await progress(client, 3)
    assert client.indices() == list(range(5))
    # One is being worked on, four wait to be sent; those of the flow control are under way.
    assert tracker.sent <= 5 + 1 + 4 + TRACK_FLOW.window + len(tracker.groups())
    taken = len(tracker.groups())
    assert taken < 60

    await client.write(Request(credits=2))
    while len(client.frames()) < 7:
        await client.read()
    await progress(client, 2)
    assert client.indices() == list(range(7))

    await client.write(Request(credits=5))
    while len(client.frames()) < 240:
        before = len(client.frames())
        response = await client.read()
        assert response is not None
        # The last four need none: then the call may be over.
        if before < len(client.frames()) < 236:
            await client.write(Request(credits=1))
    await client.rest()
    assert client.indices() == list(range(240))
    assert client.summary.frames == 240


async def progress(client: Client, times: int) -> None:
    """Wait until the gateway has told its progress so many times: so many seconds."""
    while times:
        response = await client.read()
        assert response is not None
        times -= response.WhichOneof("event") == "progress"


async def test_a_client_that_reads_nothing_stops_the_chain_up_to_its_own_media(
    peers: Peers, tracker: StandInTracker, until: Until, workers: Nursery
) -> None:
    """Nothing is bounded by luck: the file goes on after what the tracker was given."""
    gateway = await start(make_track_settings(peers, tracker, intake_ahead_bytes=2**20), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        client = Client(stub, config("dog", frame_window=1))
        await client.start()
        sent = await fill(client, large_clip())
        # A MiB ahead, the window of the contract, and the groups under way to the tracker, whose
        # answers nobody takes: each holds about a MiB.
        assert 8 < sent <= 1 + 8 + TRACK_FLOW.window + 3
        assert len(tracker.groups()) < 30
        client.call.cancel()
    await gateway.drain()


async def test_a_tracker_that_holds_frames_back_is_given_what_it_waits_for(
    stub: Stub, tracker: StandInTracker
) -> None:
    tracker.holds_back = 100  # more frames than a window of groups has
    client = await track(stub, long_clip(), config("dog"))
    assert client.indices() == list(range(240))


async def test_a_client_that_sends_nothing_is_given_up(
    peers: Peers, tracker: StandInTracker, until: Until, workers: Nursery
) -> None:
    gateway = await start(make_track_settings(peers, tracker, stream_idle_s=1.5), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        for first in ([], [Request(config=config("dog"))]):
            client = Client(stub, config("dog"))
            for request in first:
                await client.write(request)
            fault = await failure(client)
            assert (fault.code, fault.reason) == (
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "STREAM_IDLE",
            )
        # The same in the middle, where frames wait for credits.
        client = Client(stub, config("dog", frame_window=1))
        await client.start()
        await client.send(long_clip())
        assert (await failure(client)).reason == "STREAM_IDLE"
        await until(lambda: gateway._admission.streams == 0 and tracker.live == 0)
    await gateway.drain()


async def failure(client: Client):  # type: ignore[no-untyped-def]
    with pytest.raises(grpc.RpcError) as caught:
        await client.rest()
    return fault_of(caught.value)


async def test_a_busy_gateway_is_not_an_idle_client(
    peers: Peers, tracker: StandInTracker, clip: bytes, workers: Nursery
) -> None:
    tracker.hold = asyncio.Event()
    gateway = await start(make_track_settings(peers, tracker, stream_idle_s=1.5), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        client = Client(limelight_pb2_grpc.LimelightServiceStub(channel), config("dog"))
        await client.start()
        await client.send(clip)
        await progress(client, 6)  # a quarter of the time each
        tracker.hold.set()
        await client.rest()
        assert client.summary.frames == 48
    await gateway.drain()


async def test_a_client_that_cancels_frees_everything(
    stub: Stub, tracker: StandInTracker, until: Until, gateway: Gateway, clip: bytes
) -> None:
    tracker.hold = asyncio.Event()
    client = Client(stub, config("dog"))
    await client.start()
    await client.send(clip)
    await until(lambda: tracker.live == 1 and tracker.groups())
    assert gateway._admission.streams == 1
    client.call.cancel()
    await until(lambda: tracker.cancelled == 1)
    await until(lambda: gateway._admission.streams == 0)


async def test_the_deadline_goes_to_the_tracker_and_ends_the_call(
    stub: Stub, tracker: StandInTracker, until: Until, gateway: Gateway, clip: bytes, clock: Clock
) -> None:
    tracker.hold = asyncio.Event()
    client = Client(stub, config("dog"), timeout=500.0)
    await client.start()
    await client.send(clip)
    await until(lambda: tracker.groups())
    assert tracker.timeouts[0] is not None
    assert 0 < tracker.timeouts[0] <= 505  # gRPC rounds up
    clock.advance(600)
    with pytest.raises(grpc.RpcError) as late:
        await client.rest()
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: tracker.cancelled == 1)
    await until(lambda: gateway._admission.streams == 0)


async def test_places_are_bounded_and_the_refusal_says_when_to_come_again(
    peers: Peers, tracker: StandInTracker, until: Until, clip: bytes, workers: Nursery
) -> None:
    tracker.hold = asyncio.Event()
    gateway = await start(make_track_settings(peers, tracker, max_streams=2), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        clients = [Client(stub, config("dog")) for _ in range(2)]
        for client in clients:
            await client.start()
        third = Client(stub, config("dog"))
        await third.write(Request(config=third.config))
        fault = await failure(third)
        assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert fault.retry_after_s is not None
        assert gateway.metrics.shed.labels("streams")._value.get() == 1
        clients[0].call.cancel()
        await until(lambda: gateway._admission.streams == 1)
        await Client(stub, config("dog")).start()
    await gateway.drain()


async def test_what_is_tracked_is_counted(
    stub: Stub, tracker: StandInTracker, gateway: Gateway, clip: bytes
) -> None:
    await track(stub, clip, config("dog"))
    value = gateway.metrics.registry.get_sample_value
    assert value("limelight_frames_total") == 48
    assert value("limelight_streams") == 0
    assert value("limelight_stream_sessions_total") == 1
    assert value("limelight_frame_lag_seconds_count") == 48
    assert value("limelight_media_bytes_total", {"direction": "in"}) == len(clip)
    assert (value("limelight_media_bytes_total", {"direction": "out"}) or 0) > 0


async def test_progress_is_told_every_second(
    stub: Stub, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.hold = asyncio.Event()
    client = Client(stub, config("dog"))
    await client.start()
    await client.send(clip)
    told = (await client.next("progress")).progress
    assert (told.frames, told.media_bytes) == (0, len(clip))
    told = (await client.next("progress")).progress
    assert told.frames_expected == 48
    tracker.hold.set()
    await client.rest()


async def test_each_stage_is_timed_in_the_summary_and_in_the_metrics(
    gateway: Gateway, stub: Stub, clip: bytes
) -> None:
    call = await track(stub, clip, config("dog"))
    told = {timing.stage: timing.milliseconds for timing in call.summary.timings}
    assert {"spool", "demux", "select", "render", "track", "total"} <= set(told)
    # Those of the tracker add up over the frames; the whole holds every part.
    assert told["track"] == pytest.approx(48.0)
    assert told["total"] >= max(told["demux"], told["select"] + told["render"])
    value = gateway.metrics.registry.get_sample_value
    for stage, least in {"spool": 1, "demux": 4, "select": 48, "render": 48}.items():
        labels = {"stage": stage}
        assert (value("limelight_stage_seconds_count", labels) or 0) >= least
        spent_s = value("limelight_cpu_seconds_total", labels)
        assert spent_s is not None
        assert 0 < spent_s <= 60
