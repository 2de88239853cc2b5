"""Metrics of calls under the names and labels of go-grpc-prometheus, which dashboards know.

The same counters exist in the gateway, made with prometheus_client, and in the replicas, made with
`ray.serve.metrics`: `Instruments` is what the two have in common.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram

from services.caller import ANONYMOUS

# Seconds: from a cached answer to a full-size model on a CPU.
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

_LABELS = ("grpc_type", "grpc_service", "grpc_method")

# Adds to, or observes in, the series with the given label values.
Record = Callable[[tuple[str, ...], float], None]


class Instruments(Protocol):
    """Makes the counters and histograms of one process."""

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Record: ...

    def histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Record: ...


class PrometheusInstruments:
    """`Instruments` of prometheus_client, in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Record:
        counter = Counter(name, text, labels, registry=self._registry)
        series = cache(counter.labels)  # which looks and locks each time
        return lambda values, amount: series(*values).inc(amount)

    def histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Record:
        histogram = Histogram(name, text, labels, buckets=SECONDS, registry=self._registry)
        series = cache(histogram.labels)
        return lambda values, amount: series(*values).observe(amount)


class RpcMetrics:
    """The calls of one process, as server or as client."""

    def __init__(self, instruments: Instruments, side: Literal["server", "client"]) -> None:
        def counter(name: str, text: str, labels: tuple[str, ...] = _LABELS) -> Record:
            return instruments.counter(f"grpc_{side}_{name}", text, labels)

        self._started = counter("started_total", f"RPCs started on the {side}.")
        self._handled = counter(
            "handled_total", f"RPCs completed on the {side}.", (*_LABELS, "grpc_code")
        )
        self._received = counter("msg_received_total", f"Messages received on the {side}.")
        self._sent = counter("msg_sent_total", f"Messages sent on the {side}.")
        self._seconds = instruments.histogram(
            f"grpc_{side}_handling_seconds", f"Seconds an RPC took on the {side}.", _LABELS
        )
        self.handled = 0
        """RPCs completed, of all kinds."""
        self._of_tenant: Record | None = None
        if side == "server":
            self._of_tenant = instruments.counter(
                "limelight_tenant_calls_total",
                "RPCs completed, by tenant.",
                ("tenant", "grpc_method", "grpc_code"),
            )

    @contextmanager
    def call(self, kind: str, service: str, method: str) -> Iterator["CallMetrics"]:
        """Count and time one call; set `code` and `caller` on what it yields before it ends."""
        labels = (kind, service, method)
        self._started(labels, 1)
        observed = CallMetrics(
            received=lambda: self._received(labels, 1), sent=lambda: self._sent(labels, 1)
        )
        begin = time.perf_counter()
        try:
            yield observed
        finally:
            self.handled += 1
            self._seconds(labels, time.perf_counter() - begin)
            self._handled((*labels, observed.code), 1)
            if self._of_tenant is not None:
                self._of_tenant((observed.caller.tenant, method, observed.code), 1)


class CallMetrics:
    """One call's part of the metrics; `code` is the name of its status."""

    def __init__(self, received: Callable[[], None], sent: Callable[[], None]) -> None:
        self._received = received
        self.sent = sent
        self.code = "UNKNOWN"
        self.caller = ANONYMOUS
        self.on_received: Callable[[], None] | None = None
        """Called with each message that is received."""

    def received(self) -> None:
        """Count a message."""
        self._received()
        if self.on_received is not None:
            self.on_received()
