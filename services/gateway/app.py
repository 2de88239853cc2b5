"""The gateway, assembled: settings in, a running server out."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Thread
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from services.errors import Reason
from services.gateway.admission import Admission
from services.gateway.metrics import Metrics
from services.gateway.peers import ChannelPool, Peer, PlannerPeer, SegmenterPeer
from services.gateway.pipeline import Pipeline
from services.gateway.servicer import LimelightServicer
from services.gateway.settings import Settings
from services.gateway.tasks import TaskReader
from services.rpc.interceptors import CallInterceptor

logger = logging.getLogger(__name__)

SERVICE = limelight_pb2.DESCRIPTOR.services_by_name["LimelightService"].full_name
# How often the gateway looks whether its peers are connected.
WATCH_S = 1.0


@dataclass(slots=True)
class Gateway:
    """A running gateway. `address` and `metrics_address` are host:port as bound."""

    address: str
    metrics_address: str
    metrics: Metrics
    _server: grpc.aio.Server
    _health: health.aio.HealthServicer
    _admission: Admission
    _pools: tuple[ChannelPool, ChannelPool]
    _executor: ThreadPoolExecutor
    _http: tuple[WSGIServer, Thread] | None
    _drain_s: float
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def drain(self) -> None:
        """Take nothing new, let what runs finish (`drain_s` at most), and close.

        Health turns NOT_SERVING first, so that a load balancer sends new calls elsewhere.
        """
        logger.info("draining", extra={"fields": {"in_flight": self._admission.in_flight}})
        await self._health.enter_graceful_shutdown()
        self._admission.drain()
        for task in self._tasks:
            task.cancel()
        await self._server.stop(self._drain_s)
        await asyncio.gather(*(pool.close() for pool in self._pools))
        self._executor.shutdown(wait=False, cancel_futures=True)
        if self._http is not None:
            self._http[0].shutdown()
            self._http[0].server_close()
        logger.info("drained")

    async def wait(self) -> None:
        """Until the server has stopped."""
        await self._server.wait_for_termination()


async def start(settings: Settings) -> Gateway:
    """Bind and serve. Raises OSError when a port is taken."""
    metrics = Metrics()
    executor = ThreadPoolExecutor(settings.threads, thread_name_prefix="pixels")
    pools = tuple(
        ChannelPool(address, settings.channels, settings.max_message_bytes)
        for address in (settings.planner_address, settings.segmenter_address)
    )
    planner = Peer(
        pools[0],
        settings.planner_application,
        Reason.PLANNER_UNAVAILABLE,
        settings.peer_attempts,
        metrics.client,
    )
    segmenter = Peer(
        pools[1],
        settings.segmenter_application,
        Reason.SEGMENTER_UNAVAILABLE,
        settings.peer_attempts,
        metrics.client,
    )
    reader = TaskReader(settings)
    admission = Admission(settings.max_in_flight, settings.max_in_flight_bytes, metrics)
    pipeline = Pipeline(
        PlannerPeer(planner),
        SegmenterPeer(segmenter),
        executor,
        reader.image_limits,
        metrics,
        settings.max_instances,
        settings.max_review_candidates,
    )
    servicer = LimelightServicer(reader, admission, pipeline, executor)

    server = grpc.aio.server(
        interceptors=[
            CallInterceptor(
                metrics.server,
                timed=f"/{SERVICE}/",
                default_timeout_s=settings.default_timeout_s,
                max_timeout_s=settings.max_timeout_s,
            )
        ],
        options=[
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            # Two gateways must not share a port by chance: the second is to fail, loudly.
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ],
    )
    limelight_pb2_grpc.add_LimelightServiceServicer_to_server(servicer, server)
    health_servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.reflection:
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)

    host = settings.listen.rpartition(":")[0]
    try:
        port = server.add_insecure_port(settings.listen)
    except RuntimeError as exc:
        raise OSError(f"cannot listen on {settings.listen}: {exc}") from exc
    http, metrics_address = _serve_metrics(settings.metrics_listen, metrics)
    await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    await health_servicer.set(SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
    await server.start()
    gateway = Gateway(
        address=f"{host}:{port}",
        metrics_address=metrics_address,
        metrics=metrics,
        _server=server,
        _health=health_servicer,
        _admission=admission,
        _pools=(pools[0], pools[1]),
        _executor=executor,
        _http=http,
        _drain_s=settings.drain_s,
    )
    gateway._tasks.append(asyncio.create_task(_watch(health_servicer, (planner, segmenter))))
    return gateway


async def _watch(servicer: health.aio.HealthServicer, peers: tuple[Peer, Peer]) -> None:
    """Keep the public service's health: SERVING while both services are connected."""
    was: bool | None = None
    while True:
        states = [peer.ready for peer in peers]  # each is asked, so that idle ones connect
        ready = all(states)
        if ready is not was:
            status = health_pb2.HealthCheckResponse
            await servicer.set(SERVICE, status.SERVING if ready else status.NOT_SERVING)
            logger.info("peers", extra={"fields": {"ready": ready}})
            was = ready
        await asyncio.sleep(WATCH_S)


def _serve_metrics(listen: str, metrics: Metrics) -> tuple[tuple[WSGIServer, Thread] | None, str]:
    if not listen:
        return None, ""
    host, _, port = listen.rpartition(":")
    server, thread = start_http_server(int(port), addr=host, registry=metrics.registry)
    return (server, thread), f"{host}:{server.server_address[1]}"
