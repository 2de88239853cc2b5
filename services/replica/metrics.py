"""What a replica counts. Stages and batchers speak to the small `ReplicaMetrics` interface.

Inside a replica it is `ServeMetrics`: Ray exports each name with the prefix `ray_` on the node's
metrics port, tagged with application, deployment and replica. `RecordedMetrics` keeps the numbers
in memory, for tests and for use without Serve.

Two things to know of Ray 2.60's export: the `_sum` of a histogram is made of bucket midpoints, so
exact totals have counters of their own; and a gauge vanishes two report intervals after it was last
set, so `ServeMetrics.refresh` sets each one again.
"""

import asyncio
from collections import defaultdict
from typing import Any, Literal, Protocol

from services.replica.scaling import ReplicaWork
from services.rpc.metrics import SECONDS, Record

Departure = Literal["cancelled", "deadline"]

_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180]
_SIZES = [1, 2, 4, 8, 16, 32, 64, 128]


class ReplicaMetrics(Protocol):
    """Times are seconds. `stage` is one of decode, encode, detect, masks."""

    def stage(self, stage: str, seconds: float) -> None:
        """A request spent `seconds` in `stage`, waiting included."""

    def began(self, stage: str) -> None:
        """A batch begins."""

    def batch(self, stage: str, size: int, seconds: float) -> None:
        """A batch of `size` items has run for `seconds`."""

    def worked(self, stage: str, cpu_s: float) -> None:
        """A thread spent `cpu_s` seconds of CPU in `stage`, for one request or for a batch."""

    def queued(self, stage: str, seconds: float) -> None:
        """An item waited `seconds` until its batch began."""

    def depth(self, stage: str, items: int) -> None:
        """`items` wait now."""

    def dropped(self, stage: str, items: int) -> None:
        """`items` left the queue without being run."""

    def shed(self, stage: str, items: int) -> None:
        """`items` found no room in the queue."""

    def failed(self, stage: str) -> None:
        """A batch failed."""

    def halved(self, stage: str) -> None:
        """A batch did not fit into memory and was halved."""

    def departed(self, stage: str, why: Departure) -> None:
        """A request ended in `stage` because its caller left or its time ran out."""

    def cache(self, cache: str, hit: bool) -> None:
        """A look-up in `cache`."""

    def cache_bytes(self, cache: str, nbytes: int) -> None:
        """`cache` holds `nbytes` now."""


class RecordedMetrics:
    """`ReplicaMetrics` in memory: `counts` by (name, label...), `gauges` likewise."""

    def __init__(self) -> None:
        self.counts: defaultdict[tuple[str, ...], int] = defaultdict(int)
        self.gauges: dict[tuple[str, ...], float] = {}
        self.seconds: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
        self.batches: defaultdict[str, list[int]] = defaultdict(list)

    def stage(self, stage: str, seconds: float) -> None:
        self.seconds["stage", stage].append(seconds)

    def began(self, stage: str) -> None:
        self.counts["began", stage] += 1

    def batch(self, stage: str, size: int, seconds: float) -> None:
        self.batches[stage].append(size)
        self.seconds["batch", stage].append(seconds)

    def worked(self, stage: str, cpu_s: float) -> None:
        self.seconds["cpu", stage].append(cpu_s)

    def queued(self, stage: str, seconds: float) -> None:
        self.seconds["queue", stage].append(seconds)

    def depth(self, stage: str, items: int) -> None:
        self.gauges["depth", stage] = items

    def dropped(self, stage: str, items: int) -> None:
        self.counts["dropped", stage] += items

    def shed(self, stage: str, items: int) -> None:
        self.counts["shed", stage] += items

    def failed(self, stage: str) -> None:
        self.counts["failed", stage] += 1

    def halved(self, stage: str) -> None:
        self.counts["halved", stage] += 1

    def departed(self, stage: str, why: Departure) -> None:
        self.counts["departed", stage, why] += 1

    def cache(self, cache: str, hit: bool) -> None:
        self.counts["hit" if hit else "miss", cache] += 1

    def cache_bytes(self, cache: str, nbytes: int) -> None:
        self.gauges["cache_bytes", cache] = nbytes


def add(counter: Any, amount: float, labels: dict[str, str] | None = None) -> None:
    """Add to a counter of `ray.serve.metrics`, which raises ValueError where nothing is added."""
    if amount > 0:
        counter.inc(amount, labels)


class RayInstruments:
    """`services.rpc.metrics.Instruments` through `ray.serve.metrics`; made inside a replica."""

    def counter(self, name: str, text: str, labels: tuple[str, ...]) -> Record:
        from ray.serve.metrics import Counter

        counter = Counter(name, text, labels)
        return lambda values, amount: add(counter, amount, dict(zip(labels, values, strict=True)))

    def histogram(self, name: str, text: str, labels: tuple[str, ...]) -> Record:
        from ray.serve.metrics import Histogram

        histogram = Histogram(name, text, list(SECONDS), labels)
        return lambda values, amount: histogram.observe(
            amount, dict(zip(labels, values, strict=True))
        )


class ServeMetrics:
    """`ReplicaMetrics` through `ray.serve.metrics`; made inside a replica."""

    def __init__(self) -> None:
        from ray.serve.metrics import Counter, Gauge, Histogram

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
        self._cpu = Counter(
            "limelight_cpu_seconds_total", "CPU time of the threads that do a stage.", by_stage
        )
        self._depth = Gauge("limelight_queue_depth", "Items waiting.", by_stage)
        self._dropped = Counter("limelight_dropped_total", "Items dropped unrun.", by_stage)
        self._shed = Counter("limelight_shed_total", "Items that found no room.", by_stage)
        self._failures = Counter("limelight_batch_failures_total", "Batches failed.", by_stage)
        self._halvings = Counter(
            "limelight_batch_halvings_total", "Batches halved for want of memory.", by_stage
        )
        self._cancelled = Counter(
            "limelight_cancelled_total",
            "Requests ended by their caller or their deadline.",
            ("stage", "why"),
        )
        self._hits = Counter("limelight_cache_hits_total", "Look-ups that found.", by_cache)
        self._misses = Counter("limelight_cache_misses_total", "Look-ups that missed.", by_cache)
        self._bytes = Gauge("limelight_cache_bytes", "Bytes held.", by_cache)
        self.work = ReplicaWork()
        """For the scaling policy."""
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
            self.refresh_own()

    def refresh_own(self) -> None:
        """Set the gauges of a service's own again."""

    def stage(self, stage: str, seconds: float) -> None:
        self._stage.observe(seconds, {"stage": stage})

    def began(self, stage: str) -> None:
        self.work.began(stage)

    def batch(self, stage: str, size: int, seconds: float) -> None:
        self.work.batch(stage, size, seconds)
        self._batch_size.observe(size, {"stage": stage})
        self._batch_seconds.observe(seconds, {"stage": stage})
        add(self._batch_items, size, {"stage": stage})
        add(self._busy, seconds, {"stage": stage})

    def worked(self, stage: str, cpu_s: float) -> None:
        add(self._cpu, cpu_s, {"stage": stage})

    def queued(self, stage: str, seconds: float) -> None:
        self._queue.observe(seconds, {"stage": stage})

    def depth(self, stage: str, items: int) -> None:
        self.work.depth(stage, items)
        self._depths[stage] = items
        self._depth.set(items, {"stage": stage})

    def dropped(self, stage: str, items: int) -> None:
        add(self._dropped, items, {"stage": stage})

    def shed(self, stage: str, items: int) -> None:
        add(self._shed, items, {"stage": stage})

    def failed(self, stage: str) -> None:
        self._failures.inc(1, {"stage": stage})

    def halved(self, stage: str) -> None:
        self._halvings.inc(1, {"stage": stage})

    def departed(self, stage: str, why: Departure) -> None:
        self._cancelled.inc(1, {"stage": stage, "why": why})

    def cache(self, cache: str, hit: bool) -> None:
        (self._hits if hit else self._misses).inc(1, {"cache": cache})

    def cache_bytes(self, cache: str, nbytes: int) -> None:
        self._cached[cache] = nbytes
        self._bytes.set(nbytes, {"cache": cache})
