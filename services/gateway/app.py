"""The gateway, assembled: settings in, a running server out."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Thread
from wsgiref.simple_server import WSGIServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from services.codecs.videos.limits import VideoLimits
from services.errors import Reason
from services.gateway.admission import INSTRUCTIONS, PHRASES, Admission
from services.gateway.arrivals import Arrivals
from services.gateway.channels import ChannelPool
from services.gateway.door import Door, server_options
from services.gateway.metrics import GatewayMetrics
from services.gateway.peers import Peer, PlannerPeer, SegmenterPeer, TrackerPeer
from services.gateway.pipeline import Pipeline
from services.gateway.pixels import PixelWorkers, nursery
from services.gateway.request_fields import MASK_FORMAT
from services.gateway.rules import TaskRules
from services.gateway.servicer import LimelightServicer
from services.gateway.settings import Settings
from services.gateway.video.calls import TrackCalls
from services.gateway.video.live import LiveSource
from services.gateway.video.media import VideoFileSource
from services.gateway.video.opening import StreamOpener
from services.gateway.video.reading import MASKS
from services.gateway.video.rules import TrackRules
from services.gateway.video.shared import SharedServer, SharedStore
from services.gateway.video.sources import BlockingWork, StreamSource
from services.gateway.video.store import MemoryStore, StreamStore
from services.gateway.video.stream import StreamTools
from services.gateway.video.tasks import TrackTask
from services.gateway.video.workers import VideoWorkers
from services.isolation.pool import Nursery
from services.rpc.health import HealthService
from services.rpc.interceptors import CallInterceptor
from services.rpc.methods import MethodPolicy, rpcs
from services.stages import StageTimer

logger = logging.getLogger(__name__)

SERVICE = limelight_pb2.DESCRIPTOR.services_by_name["LimelightService"].full_name
# Names for health checks, besides the process ("") and the whole service. Calls with
# queries need the segmenter alone, and are answered while the planner is away.
PLANNER_HEALTH = "planner"
SEGMENTER_HEALTH = "segmenter"
TRACKER_HEALTH = "tracker"
# How often the gateway looks whether its peers are connected.
WATCH_S = 1.0
# How long a client may take to hear that its video goes on elsewhere.
_TOLD_S = 2.0


@dataclass(slots=True)
class Gateway:
    """A running gateway. Its addresses are host:port as bound, or empty; `direct_address` leads to
    no other gateway, even where `address` is shared.
    """

    address: str
    direct_address: str
    metrics_address: str
    metrics: GatewayMetrics
    _server: grpc.aio.Server
    _health: health.aio.HealthServicer
    _admission: Admission
    _door: Door
    _tracking: TrackCalls | None
    _peers: tuple[Peer, ...]
    _executors: tuple[ThreadPoolExecutor, ...]
    _pixels: PixelWorkers
    _nursery: Nursery | None
    _http: tuple[WSGIServer, Thread] | None
    _drain_s: float
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def draining(self) -> bool:
        """Whether new calls are refused."""
        return self._admission.draining

    async def drain(self) -> None:
        """Take nothing new, let what runs finish (`drain_s` at most), and close.

        Health turns NOT_SERVING first, so that a load balancer sends new calls elsewhere.
        """
        logger.info("draining", extra={"fields": {"in_flight": self._admission.in_flight}})
        await self._health.enter_graceful_shutdown()
        self._admission.drain()
        for task in self._tasks:
            task.cancel()
        # Videos that last longer are told so; calls of other kinds are cut.
        spare_s = _TOLD_S if self._admission.streams else 0.0
        stopped = asyncio.create_task(self._server.stop(self._drain_s + spare_s))
        if self._tracking is not None:
            await self._tracking.drain(self._drain_s)
        await stopped
        if self._tracking is not None:
            await self._tracking.close()
        await asyncio.gather(*(peer.close() for peer in self._peers))
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)
        self._pixels.close()
        if self._nursery is not None:
            await asyncio.to_thread(self._nursery.close)
        if self._http is not None:
            await asyncio.to_thread(self._http[0].shutdown)
            self._http[0].server_close()
        logger.info("drained")

    async def wait(self) -> None:
        """Until the server has stopped."""
        await self._server.wait_for_termination()


async def start(settings: Settings, workers: Nursery | None = None) -> Gateway:
    """Bind and serve. Raises OSError when a port is taken.

    `workers` forks the processes that read images; None: one that ends with the gateway.
    """
    metrics = GatewayMetrics()
    own = nursery(settings) if workers is None else None
    forking = workers or own or nursery(settings)
    pixels = PixelWorkers(settings, forking, metrics)
    videos = VideoWorkers(settings, forking, metrics)
    executor = ThreadPoolExecutor(settings.threads, thread_name_prefix="pixels")
    planner = _peer(
        settings,
        settings.planner_address,
        settings.planner_application,
        Reason.PLANNER_UNAVAILABLE,
        metrics,
    )
    segmenter = _peer(
        settings,
        settings.segmenter_address,
        settings.segmenter_application,
        Reason.SEGMENTER_UNAVAILABLE,
        metrics,
    )
    rules = TaskRules(settings, pixels)
    needed = {PHRASES: (segmenter,), INSTRUCTIONS: (planner, segmenter)}
    admission = Admission(
        settings.max_in_flight,
        settings.max_in_flight_bytes,
        metrics,
        settings.max_streams,
        stalled=lambda kind: next(filter(None, (peer.stalled() for peer in needed[kind])), None),
        held_up=lambda kind, since: any(peer.held_up(since) for peer in needed[kind]),
        away=lambda kind: next(filter(None, (peer.refusal() for peer in needed[kind])), None),
    )
    planning = PlannerPeer(planner)
    pipeline = Pipeline(
        planning,
        SegmenterPeer(segmenter),
        executor,
        pixels,
        metrics,
        settings,
    )
    tracker = _tracker(settings, metrics)
    # A stream reads its media in one thread, and writes or looks at them in another.
    media = ThreadPoolExecutor(2 * settings.max_streams, thread_name_prefix="media")
    tracking = None
    if tracker is not None:
        track_rules = TrackRules(settings)
        opener = StreamOpener(
            rules,
            track_rules,
            _sources(settings, rules, media, pixels, videos, metrics),
            StreamTools(planning, TrackerPeer(tracker), executor, metrics, settings),
        )
        store = _store(settings, metrics, opener)
        tracking = TrackCalls(track_rules, admission, store, opener, settings)
    arrivals = Arrivals()
    servicer = LimelightServicer(rules, admission, arrivals, pipeline, tracking, metrics.stage)

    door = Door(settings, metrics, admission, arrivals)
    server = grpc.aio.server(
        interceptors=[
            CallInterceptor(
                metrics.server,
                policies(settings),
                max_answer_bytes=settings.max_message_bytes,
                entrance=door,
            )
        ],
        options=[
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            # Two gateways must not share a port by chance: the second is to fail, loudly.
            ("grpc.so_reuseport", int(settings.share_port)),
            # By gRPC's two-step GOAWAY: a call that crosses it on the wire is still answered.
            ("grpc.max_connection_age_ms", round(settings.connection_age_s * 1000)),
            *server_options(settings),
        ],
    )
    limelight_pb2_grpc.add_LimelightServiceServicer_to_server(servicer, server)
    health_servicer = HealthService()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    if settings.reflection:
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)

    address = _listen(server, settings.listen)
    direct_address = _listen(server, settings.direct_listen) if settings.direct_listen else ""
    http, metrics_address = _serve_metrics(settings.metrics_listen, metrics)
    await health_servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    extra = {TRACKER_HEALTH: tracker} if tracker else {}
    for name in (SERVICE, PLANNER_HEALTH, SEGMENTER_HEALTH, *extra):
        await health_servicer.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    await server.start()
    pixels.warm()
    gateway = Gateway(
        address=address,
        direct_address=direct_address,
        metrics_address=metrics_address,
        metrics=metrics,
        _server=server,
        _health=health_servicer,
        _admission=admission,
        _door=door,
        _tracking=tracking,
        _peers=(planner, segmenter, *extra.values()),
        _executors=(executor, media),
        _pixels=pixels,
        _nursery=own,
        _http=http,
        _drain_s=settings.drain_s,
    )
    gateway._tasks += [
        asyncio.create_task(door.keep()),
        *(asyncio.create_task(peer.keep()) for peer in gateway._peers),
        asyncio.create_task(
            _watch(
                health_servicer,
                {PLANNER_HEALTH: planner, SEGMENTER_HEALTH: segmenter},
                extra,
            )
        ),
    ]
    return gateway


def _listen(server: grpc.aio.Server, listen: str) -> str:
    """Listen at host:port; the address as bound. Raises OSError when the port is taken."""
    try:
        port = server.add_insecure_port(listen)
    except RuntimeError as exc:
        raise OSError(f"cannot listen on {listen}: {exc}") from exc
    return f"{listen.rpartition(':')[0]}:{port}"


def _peer(
    settings: Settings, address: str, application: str, away: Reason, metrics: GatewayMetrics
) -> Peer:
    pool = ChannelPool(
        address, settings.channels, settings.max_message_bytes, settings.channel_renew_s
    )
    return Peer(pool, application, away, settings.peer_attempts, metrics.client, settings.silence_s)


def _tracker(settings: Settings, metrics: GatewayMetrics) -> Peer | None:
    if not settings.tracker_address:
        return None
    return _peer(
        settings,
        settings.tracker_address,
        settings.tracker_application,
        Reason.SEGMENTER_UNAVAILABLE,
        metrics,
    )


def _store(settings: Settings, metrics: GatewayMetrics, opener: StreamOpener) -> StreamStore:
    """Keeps streams that were cut: here, or where other gateways find them too."""
    memory = MemoryStore(settings.resume_s, settings.kept_streams, metrics)
    if not settings.redis_url:
        return memory
    server = SharedServer(settings, metrics)
    return SharedStore(memory, server, opener, settings, metrics)


def policies(settings: Settings) -> dict[str, MethodPolicy]:
    """How each public method's calls are held, by path; every method has a policy."""
    image = MethodPolicy(
        settings.default_timeout_s, settings.max_timeout_s, answer_field=MASK_FORMAT
    )
    # One call more a place: that of a client that comes back before its old call has ended.
    video = MethodPolicy(
        settings.stream_s, settings.stream_s, 2 * settings.max_streams, answer_field=MASKS
    )
    by_method = {"Segment": image, "SegmentStream": image, "TrackVideo": video}
    return {
        rpc.path: by_method[name] for name, rpc in rpcs(limelight_pb2, "LimelightService").items()
    }


def _sources(
    settings: Settings,
    rules: TaskRules,
    executor: ThreadPoolExecutor,
    pixels: PixelWorkers,
    videos: VideoWorkers,
    metrics: GatewayMetrics,
) -> Callable[[TrackTask, StageTimer], StreamSource]:
    """Makes the media of a task, timed by the timer of its stream."""
    limits = VideoLimits(
        max_bytes=settings.max_video_bytes,
        max_pixels=settings.max_video_pixels,
        max_side=settings.max_video_side,
        max_frames=settings.max_video_frames,
        max_seconds=settings.max_video_seconds,
    )

    def open_source(task: TrackTask, timer: StageTimer) -> StreamSource:
        if task.live:
            return LiveSource(task, rules, pixels, timer)
        work = BlockingWork(executor, timer, metrics.worked)
        return VideoFileSource(
            task, limits, videos, work, settings.intake_ahead_bytes, metrics.spooled_bytes.inc
        )

    return open_source


async def _watch(
    servicer: health.aio.HealthServicer, peers: Mapping[str, Peer], extra: Mapping[str, Peer]
) -> None:
    """Keep the health of each peer under its name, and of the public service: all of `peers`.

    Images are answered without what is `extra`.
    """
    known: dict[str, bool] = {}
    while True:
        states = {name: peer.ready for name, peer in peers.items()}
        states[SERVICE] = all(states.values())
        states |= {name: peer.ready for name, peer in extra.items()}
        for name, ready in states.items():
            if known.get(name) is not ready:
                status = health_pb2.HealthCheckResponse
                await servicer.set(name, status.SERVING if ready else status.NOT_SERVING)
        if states != known:
            logger.info("peers", extra={"fields": states})
            known = states
        await asyncio.sleep(WATCH_S)


def _serve_metrics(
    listen: str, metrics: GatewayMetrics
) -> tuple[tuple[WSGIServer, Thread] | None, str]:
    if not listen:
        return None, ""
    host, _, port = listen.rpartition(":")
    server, thread = start_http_server(int(port), addr=host, registry=metrics.registry)
    return (server, thread), f"{host}:{server.server_address[1]}"
