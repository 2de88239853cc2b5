"""Streams that are cut: the tracker dies or drains, the client goes away and comes back."""

import asyncio

import grpc
import pytest

from limelight.v1 import limelight_pb2_grpc, video_pb2
from limelight.values import ConceptQuery, Plan, SelectBy, Selection
from services.errors import Overloaded, Reason, Unavailable
from services.gateway.app import Gateway, start
from services.isolation.pool import Nursery
from tests.conftest import Clock, Until
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import (
    Client,
    Request,
    Stub,
    config,
    ids,
    long_clip,
    make_track_settings,
    track,
)
from tests.gateway.video.tracker import StandInTracker
from tests.rpc.faults import fault_of


@pytest.mark.parametrize("at", [0, 5, 11, 12, 30, 47])
async def test_a_tracker_that_dies_is_followed_by_another(
    stub: Stub, tracker: StandInTracker, clip: bytes, at: int
) -> None:
    whole = await track(stub, clip, config("dog", "cat"))
    tracker.die_at = [at]
    client = await track(stub, clip, config("dog", "cat"))
    # No frame is missing or doubled, and the ids are those of an undisturbed stream.
    assert client.indices() == list(range(48))
    assert ids(client.frames()) == ids(whole.frames())
    assert client.summary.resumed == 1
    assert [item.frames for item in client.summary.objects] == [48, 48, 48]
    again = tracker.openings[-1]
    assert again.next_frame == at + 1
    # It goes on from the last state, and is sent nothing from before it.
    assert bool(again.state) == (at >= 12)


async def test_a_stream_outlives_many_trackers(stub: Stub, tracker: StandInTracker) -> None:
    tracker.die_at = list(range(3, 240, 20))
    client = await track(stub, long_clip(), config("dog", "cat"))
    assert client.indices() == list(range(240))
    assert client.summary.resumed == 12
    assert {tuple(item) for item in ids(client.frames()).values()} == {(1, 2, 3)}


async def test_a_tracker_without_states_begins_at_the_beginning(
    stub: Stub, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.states = False
    tracker.die_at = [30]
    client = await track(stub, clip, config("dog"))
    assert client.indices() == list(range(48))
    assert tracker.groups()[-4:] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "failure",
    [
        grpc.StatusCode.UNAVAILABLE,
        Unavailable(Reason.DRAINING, "the replica drains", retry_after_s=0.1),
        Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.1),
    ],
)
async def test_a_session_that_is_not_let_in_is_tried_again(
    stub: Stub, tracker: StandInTracker, clip: bytes, failure: object
) -> None:
    """The others have no place for it at first."""
    tracker.die_at = [20]
    tracker.failures = [None, *[failure] * 3]  # type: ignore[list-item]
    client = await track(stub, clip, config("dog"))
    assert client.indices() == list(range(48))
    assert tracker.failures == []


async def test_a_new_video_is_refused_as_the_tracker_refuses_it(
    stub: Stub, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.failures = [Overloaded(Reason.OVERLOADED, "8 sessions are open", retry_after_s=3.0)]
    client = Client(stub, config("dog"))
    await client.start()
    # In one message: writing to a call that ends would hide why it did.
    await client.send(clip, len(clip), end=False)
    with pytest.raises(grpc.RpcError) as caught:
        await client.rest()
    fault = fault_of(caught.value)
    assert (fault.reason, fault.retry_after_s) == ("OVERLOADED", 3.0)


async def test_a_video_that_kills_its_trackers_is_given_up(
    stub: Stub, tracker: StandInTracker, until: Until, clip: bytes
) -> None:
    tracker.die_at = [20, 21, 22]

    def poison(frame: int) -> tuple[int, int, int, int]:
        if frame == 23:
            raise RuntimeError("the replica falls over this frame")
        return 0, 0, 10, 10

    tracker.things["dog"][0] = type(tracker.things["dog"][0])(poison)
    client = Client(stub, config("dog"))
    await client.start()
    await client.send(clip)
    with pytest.raises(grpc.RpcError) as caught:
        await client.rest()
    assert fault_of(caught.value).reason == "SEGMENTER_UNAVAILABLE"
    assert client.indices() == list(range(23))
    # Each death with a frame between counts for nothing.
    assert len(tracker.openings) == 4 + 2


async def test_no_tracker_at_all_is_said_soon(peers: Peers, clip: bytes, workers: Nursery) -> None:
    from tests.gateway.conftest import make_settings

    gateway = await start(
        make_settings(peers, peer_attempts=2, tracker_address="127.0.0.1:1"), workers
    )
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        client = Client(limelight_pb2_grpc.LimelightServiceStub(channel), config("dog"))
        await client.start()
        await client.send(clip, len(clip), end=False)
        with pytest.raises(grpc.RpcError) as caught:
            await client.rest()
        fault = fault_of(caught.value)
        assert (fault.code, fault.reason) == (
            grpc.StatusCode.UNAVAILABLE,
            "SEGMENTER_UNAVAILABLE",
        )
        assert fault.retry_after_s is not None
    await gateway.drain()


async def cut_after(client: Client, frames: int) -> video_pb2.TrackStarted:
    """Read so many frames, then hang up without a word."""
    while len(client.frames()) < frames:
        await client.read()
    client.call.cancel()
    return client.events[0].started


async def go_on(
    stub: Stub, started: video_pb2.TrackStarted, next_frame: int, content: bytes
) -> Client:
    """Come back with the token, and send what the server lacks."""
    token = started.resume_token
    client = Client(stub, video_pb2.TrackConfig(resume_token=token, next_frame=next_frame))
    again = await client.start()
    assert again.resume_token == token
    await client.send(content[again.media_bytes :])
    await client.rest()
    return client


@pytest.mark.parametrize("window", [0, 4])
async def test_a_client_that_comes_back_has_every_frame_once(
    stub: Stub, tracker: StandInTracker, until: Until, gateway: Gateway, window: int
) -> None:
    clip = long_clip()
    whole = await track(stub, clip, config("dog", "cat"))
    first = Client(stub, config("dog", "cat", frame_window=window))
    await first.start()
    await first.send(clip[: len(clip) // 2], end=False)
    while len(first.frames()) < 50:
        before = len(first.frames())
        await first.read()
        if window and len(first.frames()) > before:
            await first.write(Request(credits=1))
    started = first.events[0].started
    first.call.cancel()
    await until(lambda: tracker.live == 0)
    await until(lambda: gateway._admission.streams == 0)

    token = video_pb2.TrackConfig(resume_token=started.resume_token, next_frame=50)
    second = Client(stub, token)
    again = await second.start()
    assert 0 < again.media_bytes <= len(clip) // 2
    await second.send(clip[again.media_bytes :])
    while (response := await second.read()) is not None:
        # The last three need none: then the call may be over.
        if response.WhichOneof("event") == "frame" and window and len(second.frames()) < 187:
            await second.write(Request(credits=1))
    assert second.indices() == list(range(50, 240))
    assert ids(first.frames()) | ids(second.frames()) == ids(whole.frames())
    assert second.summary.frames == 240
    value = gateway.metrics.registry.get_sample_value
    assert value("limelight_streams_resumed_total", {"after": "client"}) == 1


async def test_frames_that_were_lost_on_the_way_are_sent_again(
    stub: Stub, tracker: StandInTracker, clip: bytes, until: Until
) -> None:
    first = Client(stub, config("dog"))
    await first.start()
    await first.send(clip)
    started = await cut_after(first, 30)
    await until(lambda: tracker.live == 0)
    # Ten of them did not arrive.
    second = await go_on(stub, started, 20, clip)
    assert second.indices() == list(range(20, 48))


async def test_the_plan_is_held_through_a_reconnection(
    stub: Stub, tracker: StandInTracker, peers: Peers, clip: bytes, until: Until
) -> None:
    peers.plan = Plan((ConceptQuery("dog"),), select=Selection(SelectBy.LEFTMOST))
    first = Client(stub, config(instruction="the dog on the left"))
    await first.start()
    await first.send(clip)
    started = await cut_after(first, 30)
    await until(lambda: tracker.live == 0)
    second = await go_on(stub, started, 30, clip)
    assert peers.asked == ["plan"]
    assert {item.object_id for frame in second.frames() for item in frame.instances} == {1}


async def test_the_last_frames_can_be_had_after_the_end(
    stub: Stub, tracker: StandInTracker, clip: bytes
) -> None:
    first = await track(stub, clip, config("dog"))
    second = await go_on(stub, first.events[0].started, 46, clip)
    assert second.indices() == [46, 47]
    assert second.summary.frames == 48
    assert len(tracker.openings) == 1


async def test_a_token_is_good_for_its_time_and_its_tenant_only(
    stub: Stub, tracker: StandInTracker, clip: bytes, until: Until, clock: Clock, gateway: Gateway
) -> None:
    first = Client(stub, config("dog"))
    started = await first.start()
    await first.send(clip)
    await cut_after(first, 10)
    await until(lambda: gateway._tracking._store)
    stream = gateway._tracking._store._kept[started.resume_token][0]
    stream.tenant = "another"
    again = video_pb2.TrackConfig(resume_token=started.resume_token, next_frame=10)
    assert await reason_of(stub, again) == "STREAM_UNKNOWN"
    stream.tenant = "anonymous"
    clock.advance(started.resume_s + 1)
    await until(lambda: not gateway._tracking._store)
    assert await reason_of(stub, again) == "STREAM_UNKNOWN"
    assert stream.source._closed


async def reason_of(stub: Stub, wanted: video_pb2.TrackConfig) -> str:
    client = Client(stub, wanted)
    await client.write(Request(config=wanted))
    with pytest.raises(grpc.RpcError) as caught:
        await client.rest()
    return fault_of(caught.value).reason


async def test_frames_that_are_no_longer_kept_are_refused(
    peers: Peers, tracker: StandInTracker, clip: bytes, until: Until, workers: Nursery
) -> None:
    gateway = await start(make_track_settings(peers, tracker, kept_frame_bytes=1000), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        first = Client(stub, config("dog"))
        started = await first.start()
        await first.send(clip)
        await cut_after(first, 40)
        await until(lambda: gateway._tracking._store)
        token = started.resume_token
        old = video_pb2.TrackConfig(resume_token=token, next_frame=0)
        assert await reason_of(stub, old) == "STREAM_UNKNOWN"
        # The refusal has not cost the stream.
        second = await go_on(stub, started, 40, clip)
        assert second.indices() == list(range(40, 48))
    await gateway.drain()


async def test_a_client_that_comes_back_before_its_old_call_has_ended_takes_over(
    stub: Stub, tracker: StandInTracker, clip: bytes, until: Until, gateway: Gateway
) -> None:
    tracker.hold = asyncio.Event()
    first = Client(stub, config("dog"))
    started = await first.start()
    await first.send(clip)
    await until(lambda: tracker.groups())
    tracker.hold.set()
    while len(first.frames()) < 5:
        await first.read()
    second = await go_on(stub, started, 5, clip)
    assert second.indices() == list(range(5, 48))
    await until(lambda: gateway._admission.streams == 0)


async def test_a_draining_gateway_finishes_what_it_can_and_says_so_of_the_rest(
    peers: Peers, tracker: StandInTracker, clip: bytes, until: Until, workers: Nursery
) -> None:
    tracker.hold = asyncio.Event()
    gateway = await start(make_track_settings(peers, tracker, drain_s=0.5), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        client = Client(stub, config("dog"))
        await client.start()
        await client.send(clip)
        await until(lambda: tracker.groups())
        draining = asyncio.create_task(gateway.drain())
        with pytest.raises(grpc.RpcError) as caught:
            await client.rest()
        fault = fault_of(caught.value)
        assert (fault.code, fault.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert fault.retry_after_s is not None
        await draining
        await until(lambda: tracker.live == 0)


async def test_a_draining_gateway_lets_running_videos_end(
    peers: Peers, tracker: StandInTracker, clip: bytes, until: Until, workers: Nursery
) -> None:
    tracker.hold = asyncio.Event()
    gateway = await start(make_track_settings(peers, tracker, drain_s=60.0), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        client = Client(stub, config("dog"))
        await client.start()
        await client.send(clip)
        await until(lambda: tracker.groups())
        draining = asyncio.create_task(gateway.drain())
        await until(lambda: gateway.draining)
        tracker.hold.set()
        await client.rest()
        assert client.summary.frames == 48
        await draining
