"""gRPC metrics under the names and labels of go-grpc-prometheus, which dashboards already know."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

_LABELS = ("grpc_type", "grpc_service", "grpc_method")
# Seconds: from a cached answer to a full-size model on a CPU.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


def split_method(path: str) -> tuple[str, str]:
    """`("limelight.v1.PlannerService", "MakePlan")` for `/limelight.v1.PlannerService/MakePlan`."""
    service, _, method = path.lstrip("/").partition("/")
    return service, method


class RpcMetrics:
    """One side's call metrics: `side` is "server" or "client"."""

    def __init__(self, registry: CollectorRegistry, side: str) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = _LABELS) -> Counter:
            return Counter(f"grpc_{side}_{name}", text, labels, registry=registry)

        self.started = counter("started_total", f"RPCs started on the {side}.")
        self.handled = counter(
            "handled_total", f"RPCs completed on the {side}.", (*_LABELS, "grpc_code")
        )
        self.received = counter("msg_received_total", f"Messages received on the {side}.")
        self.sent = counter("msg_sent_total", f"Messages sent on the {side}.")
        self.seconds = Histogram(
            f"grpc_{side}_handling_seconds",
            f"Seconds an RPC took on the {side}.",
            _LABELS,
            buckets=SECONDS,
            registry=registry,
        )

    @contextmanager
    def call(self, kind: str, path: str) -> Iterator["CallMetrics"]:
        """Count and time one call; set `code` on what it yields before it ends."""
        labels = (kind, *split_method(path))
        self.started.labels(*labels).inc()
        observed = CallMetrics(self, labels)
        begin = time.perf_counter()
        try:
            yield observed
        finally:
            self.seconds.labels(*labels).observe(time.perf_counter() - begin)
            self.handled.labels(*labels, observed.code).inc()


class CallMetrics:
    """One call's part of the metrics; `code` is the name of its status."""

    def __init__(self, metrics: RpcMetrics, labels: tuple[str, str, str]) -> None:
        self._received = metrics.received.labels(*labels)
        self._sent = metrics.sent.labels(*labels)
        self.code = "UNKNOWN"

    def received(self) -> None:
        self._received.inc()

    def sent(self) -> None:
        self._sent.inc()
