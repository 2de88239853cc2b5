"""The gateway's own Prometheus metrics; those of its calls are `services.rpc.metrics`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.domain import PlanOutcome, VerdictKind
from services.rpc.metrics import SECONDS, RpcMetrics

STAGES = ("decode", "plan", "segment", "review", "select", "render")
SHED_REASONS = ("in_flight", "bytes", "deadline", "draining")


class Metrics:
    """Every metric of one gateway, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.server = RpcMetrics(self.registry, "server")
        self.client = RpcMetrics(self.registry, "client")
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


class StageClock:
    """Times the stages of one request: for its answer (`timings_ms`) and, once, for Prometheus."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._begin = time.perf_counter()
        self.timings_ms: dict[str, float] = {}

    def __enter__(self) -> "StageClock":
        return self

    def __exit__(self, *exc: object) -> None:
        for name, milliseconds in self.timings_ms.items():
            self._metrics.stage_seconds.labels(name).observe(milliseconds / 1000)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; a stage that runs twice adds up."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - begin) * 1000
            self.timings_ms[name] = self.timings_ms.get(name, 0.0) + spent

    def total(self) -> dict[str, float]:
        """Every stage so far, and `total`, in milliseconds."""
        elapsed = (time.perf_counter() - self._begin) * 1000
        return {**self.timings_ms, "total": elapsed}
