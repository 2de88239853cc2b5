"""`Track` on a real Ray Serve with the fake engine, called as the gateway calls it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing
from typing import Any

import grpc
import psutil
import pytest
from prometheus_client import CollectorRegistry

from limelight import (
    AsyncClient,
    LimelightError,
    LivePicture,
    RetryPolicy,
    TrackedFrame,
    TrackSummary,
)
from limelight.values import Box, ConceptQuery
from services.deadline import Deadline
from services.domain import FrameTracks, MediaEnd, SessionState, TrackEvent, TrackOpened, TrackStep
from services.domain import TrackOpening as Opening
from services.errors import Overloaded, Reason, Unavailable
from services.gateway.app import start
from services.gateway.channels import ChannelPool
from services.gateway.peers import Peer
from services.rpc.convert.tracker import event_from_proto, opening_to_proto, step_to_proto
from services.rpc.metadata import CallContext
from services.rpc.metrics import PrometheusInstruments, RpcMetrics
from services.rpc.tracking import TRACK, TRACK_FLOW
from tests.e2e.conftest import RayCluster
from tests.e2e.system import Apps, deployed_tracker, gateway_settings
from tests.scraping import reading
from tests.tracker.clips import demuxed, picture

pytestmark = pytest.mark.serve

QUERIES = (ConceptQuery("red square"), ConceptQuery("blue square"))
# As long as the window of a stream many times over.
LONG = 400
# That a replica takes at once.
SESSIONS = 8


@pytest.fixture(scope="module")
def application(ray_cluster: RayCluster) -> Iterator[str]:
    with deployed_tracker(max_sessions=SESSIONS) as name:
        yield name


Track = Callable[..., AsyncGenerator[TrackEvent | None, None]]


@pytest.fixture
async def peer_of(ray_cluster: RayCluster) -> AsyncIterator[Callable[[str], Peer]]:
    pool = ChannelPool(ray_cluster.grpc, 2, 64 << 20)
    metrics = RpcMetrics(PrometheusInstruments(CollectorRegistry()), "client")
    yield lambda name: Peer(pool, name, Reason.SEGMENTER_UNAVAILABLE, 1, metrics)
    await pool.close()


class Steps:
    """What a caller sends: each step counted as it is taken, the last kept until `go_on`."""

    def __init__(self, steps: Sequence[TrackStep], hold: bool = False) -> None:
        self._steps = steps
        self.taken = 0
        self.go_on = asyncio.Event()
        if not hold:
            self.go_on.set()

    async def requests(self, opening: Opening) -> AsyncIterator[Any]:
        yield opening_to_proto(opening)
        for number, step in enumerate(self._steps):
            if number == len(self._steps) - 1:
                await self.go_on.wait()
            self.taken += 1
            yield step_to_proto(step)


async def track(
    peer: Peer, steps: Steps, frames: int = 40, **fields: Any
) -> AsyncGenerator[TrackEvent | None, None]:
    fields = {"queries": QUERIES, "media_header": demuxed(frames).header, **fields}
    opening = Opening(**fields)
    call = CallContext(deadline=Deadline.after(120))
    responses = peer.bidi_stream(TRACK, steps.requests(opening), call, flow=TRACK_FLOW)
    async with aclosing(responses):
        async for response in responses:
            yield event_from_proto(response)


def whole(frames: int = 40) -> Steps:
    return Steps([*demuxed(frames).groups, MediaEnd()])


def held(frames: int = 40) -> Steps:
    return Steps([*demuxed(frames).groups, MediaEnd()], hold=True)


async def test_a_video_is_tracked(application: str, peer_of: Callable[[str], Peer]) -> None:
    events = [event async for event in track(peer_of(application), whole())]
    opened = events[0]
    assert isinstance(opened, TrackOpened)
    assert opened.model.engine == "fake"
    frames = [event for event in events if isinstance(event, FrameTracks)]
    assert [frame.index for frame in frames] == list(range(40))
    assert {len(frame.objects) for frame in frames} == {2}
    assert {item.object_id for frame in frames for item in frame.objects} == {1, 2}
    # After each group, what another replica would need to go on.
    assert sum(isinstance(event, SessionState) for event in events) == len(demuxed().groups)


async def test_a_video_of_which_nothing_is_wanted_is_answered(
    application: str, peer_of: Callable[[str], Peer]
) -> None:
    """Frames without an object, which Ray's counters of objects must bear."""
    nothing = (ConceptQuery("green square"),)
    session = track(peer_of(application), whole(), queries=nothing)
    frames = [event async for event in session if isinstance(event, FrameTracks)]
    assert [frame.index for frame in frames] == list(range(40))
    assert not any(frame.objects for frame in frames)


async def test_a_long_one_flows_in_both_directions(
    application: str, peer_of: Callable[[str], Peer]
) -> None:
    """Many times the windows of requests and of responses, and a reader that pauses first."""
    steps = whole(LONG)
    seen = 0
    async with aclosing(track(peer_of(application), steps, LONG)) as events:
        async for event in events:
            if isinstance(event, FrameTracks):
                seen += 1
                if seen == 1:
                    await _resting(lambda: steps.taken)
                    # A window, what was answered, and one that waits for its credit.
                    assert steps.taken <= TRACK_FLOW.window + 4 < len(demuxed(LONG).groups)
    assert seen == LONG


async def test_one_too_many_is_refused_with_a_time_to_come_again(
    application: str, peer_of: Callable[[str], Peer]
) -> None:
    peer = peer_of(application)
    sessions = [track(peer, held()) for _ in range(SESSIONS)]
    for session in sessions:
        assert isinstance(await anext(session), TrackOpened)
    with pytest.raises(Overloaded) as caught:
        await anext(track(peer, whole()))
    assert caught.value.reason is Reason.OVERLOADED
    assert caught.value.retry_after_s
    # Who leaves makes room.
    await sessions[0].aclose()
    async with asyncio.timeout(120):
        while True:
            try:
                events = [event async for event in track(peer, whole())]
                break
            except Overloaded:
                await asyncio.sleep(0.05)
    assert sum(isinstance(event, FrameTracks) for event in events) == 40
    for session in sessions[1:]:
        await session.aclose()


async def test_what_it_counts(
    application: str, peer_of: Callable[[str], Peer], ray_cluster: RayCluster
) -> None:
    async for _ in track(peer_of(application), whole()):
        pass
    labels = {"application": application}
    async with asyncio.timeout(120):
        while (  # noqa: ASYNC110  (Ray hands metrics on now and then)
            reading(ray_cluster.metrics, "ray_limelight_track_frames_total", labels) < 40
        ):
            await asyncio.sleep(0.2)


async def test_a_killed_replica_is_unavailable_and_replaced(
    ray_cluster: RayCluster, peer_of: Callable[[str], Peer]
) -> None:
    with deployed_tracker() as name:
        peer = peer_of(name)
        session = track(peer, held())
        assert isinstance(await anext(session), TrackOpened)
        _replica(name).kill()

        async def rest() -> None:
            async for _ in session:
                pass

        with pytest.raises(Unavailable) as caught:
            await asyncio.wait_for(rest(), 60)
        assert caught.value.reason is Reason.SEGMENTER_UNAVAILABLE
        async with asyncio.timeout(240):
            while True:
                try:
                    events = [event async for event in track(peer, whole())]
                    break
                except Unavailable:
                    await asyncio.sleep(0.2)
        assert sum(isinstance(event, FrameTracks) for event in events) == 40


async def test_sessions_finish_while_the_replica_drains(
    ray_cluster: RayCluster, peer_of: Callable[[str], Peer]
) -> None:
    from ray import serve

    with deployed_tracker() as name:
        steps = held()
        session = track(peer_of(name), steps)
        assert isinstance(await anext(session), TrackOpened)
        deleting = asyncio.create_task(asyncio.to_thread(serve.delete, name))
        async with asyncio.timeout(120):
            while (  # noqa: ASYNC110  (Serve's controller is another process)
                serve.status().applications[name].status.value != "DELETING"
            ):
                await asyncio.sleep(0.05)
            steps.go_on.set()
            rest = [event async for event in session]
        assert sum(isinstance(event, FrameTracks) for event in rest) == 40
        await deleting


def _replica(name: str) -> psutil.Process:
    """The one replica of an application, as Ray names its process."""
    (found,) = [
        process
        for process in psutil.Process().children(recursive=True)
        if any(f"ServeReplica:{name}:" in part for part in process.cmdline())
    ]
    return found


async def _resting(value: Callable[[], int]) -> None:
    """Wait until `value` has stayed the same for a while."""
    async with asyncio.timeout(120):
        before = -1
        while before != (before := value()):  # noqa: ASYNC110  (nothing tells that nothing comes)
            await asyncio.sleep(1.0)


async def test_a_video_goes_from_client_to_tracker_and_back(
    application: str, ray_cluster: RayCluster
) -> None:
    settings = gateway_settings(ray_cluster, Apps("none", "none", application))
    gateway = await start(settings)
    async with AsyncClient(gateway.address) as client:
        events = client.track(demuxed().content, phrases=["red square", "blue square"])
        told = [event async for event in events]
    await gateway.drain()
    frames = [event for event in told if isinstance(event, TrackedFrame)]
    assert [frame.index for frame in frames] == list(range(40))
    assert {tuple(item.id for item in frame.instances) for frame in frames} == {(1, 2)}
    red = frames[20].instances[0]
    assert (red.label, red.box) == ("red square", Box(24, 10, 40, 26))
    assert isinstance(told[-1], TrackSummary)
    assert told[-1].frames == 40


async def test_the_ninth_client_is_refused_and_the_eight_are_answered(
    application: str, ray_cluster: RayCluster
) -> None:
    """Through the gateway, which hands on why, and when to come again."""
    settings = gateway_settings(ray_cluster, Apps("none", "none", application))
    gateway = await start(settings)
    full = asyncio.Event()

    async def pictures() -> AsyncIterator[LivePicture]:
        yield LivePicture(picture(0), 0.0)
        await full.wait()
        yield LivePicture(picture(1), 0.04)

    async with AsyncClient(gateway.address, retry=RetryPolicy(attempts=1)) as client:
        streams = [client.track(pictures(), phrases=["red square"]) for _ in range(SESSIONS)]
        for stream in streams:
            while not isinstance(await anext(stream), TrackedFrame):
                pass
        with pytest.raises(LimelightError) as caught:
            async for _ in client.track(pictures(), phrases=["red square"]):
                pass
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.reason == "OVERLOADED"
        assert f"all {SESSIONS} places" in caught.value.message
        assert caught.value.retry_after
        full.set()
        for stream in streams:
            rest = [event async for event in stream]
            assert [event.index for event in rest if isinstance(event, TrackedFrame)] == [1]
            assert isinstance(rest[-1], TrackSummary)
            assert {"decode", "encode", "select", "render", "total"} <= set(
                rest[-1].timings_ms or ()
            )
    await gateway.drain()
