"""The tracker itself, with the fake engine, behind gRPC in this process: no Ray, and no script."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from threading import Barrier
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from limelight.internal.v1 import tracker_pb2_grpc
from limelight.v1 import limelight_pb2_grpc
from services.gateway.app import Gateway, start
from services.gateway.settings import Settings
from services.rpc.metrics import PrometheusInstruments, RpcMetrics
from services.tracker.app import TrackerReplica
from services.tracker.metrics import RecordedTrackerMetrics
from services.tracker.serving import Tracker, open_tracker
from services.tracker.settings import TrackerSettings
from tests.conftest import Until
from tests.gateway.conftest import make_settings
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import Stub


@dataclass
class InProcessReplica:
    """What `TrackerReplica.Track` needs of the replica that Serve would make."""

    service: Tracker
    metrics: RecordedTrackerMetrics
    rpc_metrics: RpcMetrics = field(
        default_factory=lambda: RpcMetrics(PrometheusInstruments(CollectorRegistry()), "server")
    )
    address: str = ""

    @property
    def idle(self) -> bool:
        """Whether no session holds anything."""
        return self.service.load.live == 0 and self.service._segmenter.sessions == ()


class _Servicer(tracker_pb2_grpc.TrackerServiceServicer):
    def __init__(self, replica: InProcessReplica) -> None:
        self._replica = replica

    async def Track(  # noqa: N802
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        track: Any = TrackerReplica.Track
        answers = track(self._replica, request_iterator, grpc_context=context)
        async for answer in answers:
            yield answer


@asynccontextmanager
async def serving_engine(**settings: Any) -> AsyncIterator[InProcessReplica]:
    """A replica with these settings over the fake's, answering on a free loopback port."""
    metrics = RecordedTrackerMetrics()
    tracker = open_tracker(TrackerSettings(engine="fake", **settings), metrics)
    replica = InProcessReplica(tracker, metrics)
    server = grpc.aio.server()
    tracker_pb2_grpc.add_TrackerServiceServicer_to_server(_Servicer(replica), server)
    replica.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield replica
    finally:
        await server.stop(None)
        await tracker.close()


@asynccontextmanager
async def chain(
    peers: Peers, **settings: Any
) -> AsyncIterator[tuple[Stub, Gateway, InProcessReplica]]:
    """A gateway before the tracker itself; each takes the settings that it knows."""
    known = {
        name: value for name, value in settings.items() if name in TrackerSettings.model_fields
    }
    own = {name: value for name, value in settings.items() if name in Settings.model_fields}
    assert settings == known | own
    async with serving_engine(**known) as replica:
        gateway = await start(make_settings(peers, tracker_address=replica.address, **own))
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            yield limelight_pb2_grpc.LimelightServiceStub(channel), gateway, replica
        await gateway.drain()


async def assert_nothing_is_held(gateway: Gateway, replica: InProcessReplica, until: Until) -> None:
    value = gateway.metrics.registry.get_sample_value
    await until(lambda: value("limelight_streams") == 0)
    await until(lambda: replica.idle)
    await until(lambda: value("limelight_spooled_bytes") == 0)
    # No thread is stuck: all of them meet.
    threads = gateway._executors[1]
    meeting = Barrier(threads._max_workers + 1)
    for _ in range(threads._max_workers):
        threads.submit(meeting.wait, 60)
    await asyncio.to_thread(meeting.wait, 60)
