"""The gateway's own Prometheus metrics; those of its calls are `services.rpc.metrics`."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from limelight.values import PlanOutcome, VerdictKind
from services.rpc.metrics import SECONDS, PrometheusInstruments, RpcMetrics

STAGES = ("read", "plan", "segment", "review", "select", "render")
SHED_REASONS = ("in_flight", "bytes", "deadline", "draining")


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
        # Known label values exist from the start, so a rate over them is right from the first.
        for outcome in PlanOutcome:
            self.plans.labels(outcome.value)
        for verdict in VerdictKind:
            self.verdicts.labels(verdict.value)
        for reason in SHED_REASONS:
            self.shed.labels(reason)
        for stage in STAGES:
            self.stage_seconds.labels(stage)

    def stage(self, name: str, seconds: float) -> None:
        """A request spent `seconds` in the stage `name`."""
        self.stage_seconds.labels(name).observe(seconds)
