"""The gateway's own Prometheus metrics; those of its calls are `services.rpc.metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from limelight.values import PlanCause, PlanOutcome, VerdictKind
from services.rpc.metrics import SECONDS, PrometheusInstruments, RpcMetrics

STAGES = ("read", "plan", "segment", "review", "select", "render")
SHED_REASONS = ("in_flight", "bytes", "deadline", "draining", "streams")


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
        self.in_flight = Gauge(
            "limelight_in_flight", "Calls worked on now.", registry=self.registry
        )
        self.in_flight_bytes = Gauge(
            "limelight_in_flight_bytes", "Image bytes held now.", registry=self.registry
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
        for after in ("tracker", "client"):
            self.streams_resumed.labels(after)
        for direction in ("in", "out"):
            self.media_bytes.labels(direction)
        for cause in PlanCause:
            self.replans.labels(cause.value)
        for stage in STAGES:
            self.stage_seconds.labels(stage)

    def stage(self, name: str, seconds: float) -> None:
        """A request spent `seconds` in the stage `name`."""
        self.stage_seconds.labels(name).observe(seconds)
