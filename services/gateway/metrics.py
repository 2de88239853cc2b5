"""The gateway's own Prometheus metrics; those of its calls are `services.rpc.metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from limelight.values import PlanCause, PlanOutcome, VerdictKind
from services.isolation.pool import Loss
from services.rpc.metrics import SECONDS, PrometheusInstruments, RpcMetrics

STAGES = ("read", "spool", "demux", "picture", "plan", "segment", "review", "select", "render")
# Of them, those whose work is done here for a video.
VIDEO_STAGES = ("spool", "demux", "picture", "select", "render")
SHED_REASONS = (
    "in_flight",
    "bytes",
    "queue",
    "deadline",
    "deadline_too_short",
    "draining",
    "streams",
    "uploads",
    "upload_bytes",
    "stalled",
    "away",
    "address_connections",
    "address_calls",
    "address_upload_bytes",
)


class GatewayMetrics:
    """Every metric of one gateway, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.server = RpcMetrics(PrometheusInstruments(self.registry), "server")
        self.client = RpcMetrics(PrometheusInstruments(self.registry), "client")
        self.stage_seconds = Histogram(
            "limelight_stage_seconds",
            "Seconds a stage of a request took.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.cpu_seconds = Counter(
            "limelight_cpu_seconds_total",
            "CPU time of what a stage of a video does here, whatever it waits for.",
            ("stage",),
            registry=self.registry,
        )
        self.plans = Counter(
            "limelight_plans_total", "Plans by outcome.", ("outcome",), registry=self.registry
        )
        self.plan_cache_hits = Counter(
            "limelight_plan_cache_hits_total",
            "Plans the planner had in its cache.",
            registry=self.registry,
        )
        self.review_rounds = Counter(
            "limelight_review_rounds_total", "Reviews held.", registry=self.registry
        )
        self.verdicts = Counter(
            "limelight_review_verdicts_total",
            "Candidates reviewed, by verdict.",
            ("verdict",),
            registry=self.registry,
        )
        self.shed = Counter(
            "limelight_shed_total", "Calls shed, by reason.", ("reason",), registry=self.registry
        )
        self.tenant_shed = Counter(
            "limelight_tenant_shed_total",
            "Calls shed, by tenant and reason.",
            ("tenant", "reason"),
            registry=self.registry,
        )
        self.worker_losses = Counter(
            "limelight_worker_losses_total",
            "Processes that read or draw and did not come back, by pool and cause.",
            ("pool", "loss"),
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "limelight_in_flight", "Calls worked on now.", registry=self.registry
        )
        self.lane_limit = Gauge(
            "limelight_lane_limit",
            "Units of work that may be under way at once, by kind of call.",
            ("kind",),
            registry=self.registry,
        )
        self.lane_busy = Gauge(
            "limelight_lane_busy",
            "Units of work under way, by kind of call.",
            ("kind",),
            registry=self.registry,
        )
        self.lane_waiting = Gauge(
            "limelight_lane_waiting",
            "Calls that wait for their turn, by kind.",
            ("kind",),
            registry=self.registry,
        )
        self.in_flight_bytes = Gauge(
            "limelight_in_flight_bytes", "Image bytes held now.", registry=self.registry
        )
        self.uploads = Gauge(
            "limelight_uploads", "Requests that are not whole.", registry=self.registry
        )
        self.upload_bytes = Gauge(
            "limelight_upload_bytes",
            "Bytes held of messages that are not whole.",
            registry=self.registry,
        )
        self.images = Counter("limelight_images_total", "Images answered.", registry=self.registry)
        self.instances = Counter(
            "limelight_instances_total", "Instances answered.", registry=self.registry
        )
        self.streams = Gauge(
            "limelight_streams", "Videos that are tracked now.", registry=self.registry
        )
        self.kept_streams = Gauge(
            "limelight_kept_streams",
            "Videos that are kept for clients that may come back.",
            registry=self.registry,
        )
        self.stream_sessions = Counter(
            "limelight_stream_sessions_total",
            "Sessions with a tracker that were opened.",
            registry=self.registry,
        )
        self.streams_resumed = Counter(
            "limelight_streams_resumed_total",
            "Times that a video went on: after its tracker went away, or its client came back.",
            ("after",),
            registry=self.registry,
        )
        self.frames = Counter(
            "limelight_frames_total", "Frames of videos answered.", registry=self.registry
        )
        self.frames_dropped = Counter(
            "limelight_frames_dropped_total",
            "Live frames left out, since later ones had come.",
            registry=self.registry,
        )
        self.frame_lag_seconds = Histogram(
            "limelight_frame_lag_seconds",
            "From handing a frame's packets to a tracker to its answer.",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.media_bytes = Counter(
            "limelight_media_bytes_total",
            "Bytes of videos: taken from clients, and handed to trackers.",
            ("direction",),
            registry=self.registry,
        )
        self.spooled_bytes = Gauge(
            "limelight_spooled_bytes",
            "Bytes of video files held now, in memory and on disk.",
            registry=self.registry,
        )
        self.shared_state_up = Gauge(
            "limelight_shared_state_up",
            "Whether streams can be written for other gateways; 0 also where they are not to be.",
            registry=self.registry,
        )
        self.shared_writes = Counter(
            "limelight_shared_writes_total",
            "Writes of streams for other gateways: written, failed, lost to another gateway, "
            "or too large.",
            ("outcome",),
            registry=self.registry,
        )
        self.replans = Counter(
            "limelight_replans_total",
            "Plans of videos, by cause.",
            ("cause",),
            registry=self.registry,
        )
        # Known label values exist from the start, so a rate over them is right from the first.
        for outcome in PlanOutcome:
            self.plans.labels(outcome.value)
        for verdict in VerdictKind:
            self.verdicts.labels(verdict.value)
        for reason in SHED_REASONS:
            self.shed.labels(reason)
        for pool in ("reading", "drawing", "videos"):
            for loss in Loss:
                self.worker_losses.labels(pool, loss.value)
        for write in ("written", "failed", "lost", "too_large"):
            self.shared_writes.labels(write)
        for after in ("tracker", "client", "gateway"):
            self.streams_resumed.labels(after)
        for direction in ("in", "out"):
            self.media_bytes.labels(direction)
        for cause in PlanCause:
            self.replans.labels(cause.value)
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for stage in VIDEO_STAGES:
            self.cpu_seconds.labels(stage)

    def lane(self, kind: str, limit: float, busy: float, waiting: int) -> None:
        """How the calls of one kind stand."""
        self.lane_limit.labels(kind).set(limit)
        self.lane_busy.labels(kind).set(busy)
        self.lane_waiting.labels(kind).set(waiting)

    def stage(self, name: str, seconds: float) -> None:
        """A request spent `seconds` in the stage `name`."""
        self.stage_seconds.labels(name).observe(seconds)

    def worked(self, stage: str, cpu_s: float) -> None:
        """A thread spent `cpu_s` seconds of CPU in `stage`."""
        self.cpu_seconds.labels(stage).inc(cpu_s)
