"""How long a request spends in each stage, for its answer and for the metrics."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from services.replica.metrics import Metrics


class Stopwatch:
    """One request's times. `current` is the stage it is in, or was in when it ended."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.current = "decode"
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block as the stage `name`; not counted if it raises."""
        self.current = name
        start = time.monotonic()
        yield
        self.spent(name, time.monotonic() - start)

    def spent(self, name: str, seconds: float) -> None:
        """Count `seconds` for the stage `name`."""
        self.timings_ms[name] = seconds * 1000
        self._metrics.stage(name, seconds)
