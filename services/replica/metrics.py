"""What a replica counts. Stages and batchers speak to the small `Metrics` interface.

Inside a replica it is `ServeMetrics`: Ray exports each name with the prefix `ray_` on the node's
metrics port, tagged with application, deployment and replica. `RecordedMetrics` keeps the numbers
in memory, for tests and for use without Serve.

Two things to know of Ray 2.60's export: the `_sum` of a histogram is made of bucket midpoints, so
exact totals have counters of their own; and a gauge vanishes two report intervals after it was last
set, so `ServeMetrics.refresh` sets each one again.
"""

import asyncio
from collections import defaultdict
from typing import Literal, Protocol

Departure = Literal["cancelled", "deadline"]

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180]
_SIZES = [1, 2, 4, 8, 16, 32, 64, 128]


class Metrics(Protocol):
    """Times are seconds. `stage` is one of decode, encode, detect, masks."""

    def stage(self, stage: str, seconds: float) -> None:
        """A request spent `seconds` in `stage`, waiting included."""

    def batch(self, stage: str, size: int, seconds: float) -> None:
        """A batch of `size` items ran for `seconds`."""

    def queued(self, stage: str, seconds: float) -> None:
        """An item waited `seconds` until its batch began."""

    def depth(self, stage: str, items: int) -> None:
        """`items` wait now."""

    def dropped(self, stage: str, items: int) -> None:
        """`items` left the queue without being run."""

    def shed(self, stage: str, items: int) -> None:
        """`items` found no room in the queue."""

    def departed(self, stage: str, why: Departure) -> None:
        """A request ended in `stage` because its caller left or its time ran out."""

    def handled(self, method: str, code: str) -> None:
        """A call of the RPC `method` was answered with the gRPC status `code`."""

    def cache(self, cache: str, hit: bool) -> None:
        """A look-up in `cache`."""

    def cache_bytes(self, cache: str, nbytes: int) -> None:
        """`cache` holds `nbytes` now."""


class RecordedMetrics:
    """`Metrics` in memory: `counts` by (name, label...), `gauges` likewise, `batches` by stage."""

    def __init__(self) -> None:
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self.gauges: dict[tuple[str, ...], float] = {}
        self.seconds: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
        self.batches: defaultdict[str, list[int]] = defaultdict(list)

    def stage(self, stage: str, seconds: float) -> None:
        self.seconds["stage", stage].append(seconds)

    def batch(self, stage: str, size: int, seconds: float) -> None:
        self.batches[stage].append(size)
        self.seconds["batch", stage].append(seconds)

    def queued(self, stage: str, seconds: float) -> None:
        self.seconds["queue", stage].append(seconds)

    def depth(self, stage: str, items: int) -> None:
        self.gauges["depth", stage] = items

    def dropped(self, stage: str, items: int) -> None:
        self.counts["dropped", stage] += items

    def shed(self, stage: str, items: int) -> None:
        self.counts["shed", stage] += items

    def departed(self, stage: str, why: Departure) -> None:
        self.counts["departed", stage, why] += 1

    def handled(self, method: str, code: str) -> None:
        self.counts["handled", method, code] += 1

    def cache(self, cache: str, hit: bool) -> None:
        self.counts["hit" if hit else "miss", cache] += 1

    def cache_bytes(self, cache: str, nbytes: int) -> None:
        self.gauges["cache_bytes", cache] = nbytes


class ServeMetrics:
    """`Metrics` through `ray.serve.metrics`; made inside a replica of the gRPC `service`."""

    def __init__(self, service: str) -> None:
        from ray.serve.metrics import Counter, Gauge, Histogram

        self._service = service
        by_stage, by_cache = ("stage",), ("cache",)
        self._stage = Histogram(
            "limelight_stage_seconds", "Time of a request in a stage.", _SECONDS, by_stage
        )
        self._batch_size = Histogram("limelight_batch_size", "Items in a batch.", _SIZES, by_stage)
        self._batch_seconds = Histogram(
            "limelight_batch_seconds", "Time a batch ran.", _SECONDS, by_stage
        )
        self._queue = Histogram(
            "limelight_queue_seconds", "Wait of an item for its batch.", _SECONDS, by_stage
        )
        self._batch_items = Counter("limelight_batch_items_total", "Items run.", by_stage)
        self._busy = Counter(
            "limelight_busy_seconds_total", "Time the model ran, by stage.", by_stage
        )
        self._depth = Gauge("limelight_queue_depth", "Items waiting.", by_stage)
        self._dropped = Counter("limelight_dropped_total", "Items dropped unrun.", by_stage)
        self._shed = Counter("limelight_shed_total", "Items that found no room.", by_stage)
        self._cancelled = Counter(
            "limelight_cancelled_total",
            "Requests ended by their caller or their deadline.",
            ("stage", "why"),
        )
        # The name go-grpc-prometheus gives it; Serve's own counter calls our errors OK.
        self._handled = Counter(
            "grpc_server_handled_total",
            "Calls answered, by status.",
            ("grpc_service", "grpc_method", "grpc_type", "grpc_code"),
        )
        self._hits = Counter("limelight_cache_hits_total", "Look-ups that found.", by_cache)
        self._misses = Counter("limelight_cache_misses_total", "Look-ups that missed.", by_cache)
        self._bytes = Gauge("limelight_cache_bytes", "Bytes held.", by_cache)
        self._depths: dict[str, int] = {}
        self._cached: dict[str, int] = {}

    async def refresh(self) -> None:
        """Set every gauge again each second, until cancelled."""
        while True:
            await asyncio.sleep(1)
            for stage, items in self._depths.copy().items():
                self._depth.set(items, {"stage": stage})
            for cache, nbytes in self._cached.copy().items():
                self._bytes.set(nbytes, {"cache": cache})

    def stage(self, stage: str, seconds: float) -> None:
        self._stage.observe(seconds, {"stage": stage})

    def batch(self, stage: str, size: int, seconds: float) -> None:
        self._batch_size.observe(size, {"stage": stage})
        self._batch_seconds.observe(seconds, {"stage": stage})
        self._batch_items.inc(size, {"stage": stage})
        self._busy.inc(seconds, {"stage": stage})

    def queued(self, stage: str, seconds: float) -> None:
        self._queue.observe(seconds, {"stage": stage})

    def depth(self, stage: str, items: int) -> None:
        self._depths[stage] = items
        self._depth.set(items, {"stage": stage})

    def dropped(self, stage: str, items: int) -> None:
        self._dropped.inc(items, {"stage": stage})

    def shed(self, stage: str, items: int) -> None:
        self._shed.inc(items, {"stage": stage})

    def departed(self, stage: str, why: Departure) -> None:
        self._cancelled.inc(1, {"stage": stage, "why": why})

    def handled(self, method: str, code: str) -> None:
        self._handled.inc(
            1,
            {
                "grpc_service": self._service,
                "grpc_method": method,
                "grpc_type": "unary",
                "grpc_code": code,
            },
        )

    def cache(self, cache: str, hit: bool) -> None:
        (self._hits if hit else self._misses).inc(1, {"cache": cache})

    def cache_bytes(self, cache: str, nbytes: int) -> None:
        self._cached[cache] = nbytes
        self._bytes.set(nbytes, {"cache": cache})
