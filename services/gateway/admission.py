"""Who may come in: the first layer of admission, before a pixel is decoded.

Calls and the bytes they hold are capped, and a call is shed when what is left of its deadline is
less than the quickest answer of late. What is shed costs nothing and is told when to come again.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from services.deadline import Deadline
from services.errors import Overloaded, Reason, Unavailable
from services.gateway.metrics import Metrics

# How long an answer's duration counts: a slow minute must not shed the calls of the next.
WINDOW_S = 10.0


class Admission:
    """Admits calls of one event loop."""

    def __init__(self, max_in_flight: int, max_bytes: int, metrics: Metrics) -> None:
        self._max_in_flight = max_in_flight
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._in_flight = 0
        self._bytes = 0
        self._draining = False
        self._recent: dict[str, deque[tuple[float, float]]] = {}

    @property
    def in_flight(self) -> int:
        return self._in_flight

    def drain(self) -> None:
        """Admit nothing more; what runs goes on."""
        self._draining = True

    @contextmanager
    def admit(self, kind: str, size_bytes: int, deadline: Deadline) -> Iterator[None]:
        """Hold a place for one call of `kind` (calls of a kind take alike long).

        Raises `Overloaded` with a time to come again, or `Unavailable` while draining.
        """
        self._check(kind, size_bytes, deadline)
        self._hold(1, size_bytes)
        begin = time.monotonic()
        try:
            yield
            self._remember(kind, time.monotonic() - begin)
        finally:
            self._hold(-1, -size_bytes)

    def quickest_s(self, kind: str) -> float:
        """Seconds the quickest recent answer of `kind` took; 0 when there is none."""
        recent = self._recent.get(kind)
        if recent is None:
            return 0.0
        horizon = time.monotonic() - WINDOW_S
        while recent and recent[0][0] < horizon:
            recent.popleft()
        return min((seconds for _, seconds in recent), default=0.0)

    def _check(self, kind: str, size_bytes: int, deadline: Deadline) -> None:
        if self._draining:
            self._metrics.shed.labels("draining").inc()
            raise Unavailable(Reason.DRAINING, "the server is shutting down", retry_after_s=1.0)
        deadline.check()
        if self._in_flight >= self._max_in_flight:
            self._shed("in_flight", f"{self._in_flight} calls are being worked on", kind)
        if self._bytes + size_bytes > self._max_bytes and self._in_flight:
            self._shed("bytes", "the images being worked on fill the memory set aside", kind)
        remaining = deadline.remaining_s()
        if remaining is not None and remaining < self.quickest_s(kind):
            self._shed("deadline", "the deadline is nearer than any recent answer", kind)

    def _shed(self, reason: str, message: str, kind: str) -> None:
        self._metrics.shed.labels(reason).inc()
        retry_after_s = max(0.1, self.quickest_s(kind))
        raise Overloaded(Reason.OVERLOADED, message, retry_after_s=retry_after_s)

    def _hold(self, calls: int, size_bytes: int) -> None:
        self._in_flight += calls
        self._bytes += size_bytes
        self._metrics.in_flight.set(self._in_flight)
        self._metrics.in_flight_bytes.set(self._bytes)

    def _remember(self, kind: str, seconds: float) -> None:
        recent = self._recent.setdefault(kind, deque(maxlen=256))
        recent.append((time.monotonic(), seconds))
