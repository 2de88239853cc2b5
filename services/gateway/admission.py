"""Who may come in: the first layer of admission, before anything of a request is looked into.

Calls and the bytes they hold are capped, and a call is shed when what is left of its deadline is
less than the quickest answer of late. What is shed costs nothing and is told when to come again.
"""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.caller import Caller
from services.deadline import Deadline
from services.errors import Overloaded, Reason, Unavailable
from services.gateway.metrics import GatewayMetrics

# How long an answer's duration counts: a slow minute must not shed the calls of the next.
WINDOW_S = 10.0
# How soon to come again with a video when as many are tracked as may be.
STREAM_RETRY_S = 5.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call is estimated to take.

    Attributes:
        kind: calls of one kind take about equally long.
        held_bytes: image bytes that the call holds for as long as it lives.
    """

    kind: str
    held_bytes: int


class Admission:
    """Admits calls of one event loop."""

    def __init__(
        self, max_in_flight: int, max_bytes: int, metrics: GatewayMetrics, max_streams: int = 16
    ) -> None:
        self._max_streams = max_streams
        self._streams = 0
        self._max_in_flight = max_in_flight
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._in_flight = 0
        self._bytes = 0
        self._draining = False
        self._recent: dict[str, deque[tuple[float, float]]] = {}

    @property
    def in_flight(self) -> int:
        """Calls worked on now."""
        return self._in_flight

    @property
    def held_bytes(self) -> int:
        """Image bytes held now."""
        return self._bytes

    @property
    def draining(self) -> bool:
        """Whether nothing more is admitted."""
        return self._draining

    def drain(self) -> None:
        """Admit nothing more; what runs goes on."""
        self._draining = True

    @contextmanager
    def admit(self, caller: Caller, cost: Cost, deadline: Deadline) -> Iterator[None]:
        """Hold a place for one call of `caller`.

        Raises:
            Overloaded: there is no room, or not enough time; with a time to come again.
            Unavailable: the gateway drains.
            DeadlinePassed: it is too late already.
        """
        self._check(caller, cost, deadline)
        self._hold(1, cost.held_bytes)
        begin = time.monotonic()
        try:
            yield
            self._remember(cost.kind, time.monotonic() - begin)
        finally:
            self._hold(-1, -cost.held_bytes)

    @property
    def streams(self) -> int:
        """Videos tracked now."""
        return self._streams

    @contextmanager
    def admit_stream(self, caller: Caller, deadline: Deadline) -> Iterator[None]:
        """Hold a place for one video of `caller`, whose length nobody knows.

        Raises:
            Overloaded: as many are tracked as may be; with a time to come again.
            Unavailable: the gateway drains.
            DeadlinePassed: it is too late already.
        """
        self._check_open(caller)
        deadline.check()
        if self._streams >= self._max_streams:
            self._count_shed("streams", caller)
            raise Overloaded(
                Reason.OVERLOADED,
                f"{self._streams} videos are tracked, the most at once",
                retry_after_s=STREAM_RETRY_S,
            )
        self._count_stream(1)
        try:
            yield
        finally:
            self._count_stream(-1)

    def quickest_s(self, kind: str) -> float:
        """Seconds the quickest recent answer of `kind` took; 0 when there is none."""
        recent = self._recent.get(kind)
        if recent is None:
            return 0.0
        horizon = time.monotonic() - WINDOW_S
        while recent and recent[0][0] < horizon:
            recent.popleft()
        return min((seconds for _, seconds in recent), default=0.0)

    def _check(self, caller: Caller, cost: Cost, deadline: Deadline) -> None:
        self._check_open(caller)
        deadline.check()
        if self._in_flight >= self._max_in_flight:
            self._shed("in_flight", f"{self._in_flight} calls are in progress", caller, cost)
        if self._bytes + cost.held_bytes > self._max_bytes and self._in_flight:
            self._shed("bytes", "the images in progress fill the memory set aside", caller, cost)
        remaining = deadline.remaining_s()
        if remaining is not None and remaining < self.quickest_s(cost.kind):
            self._shed("deadline", "the deadline is nearer than any recent answer", caller, cost)

    def _check_open(self, caller: Caller) -> None:
        if self._draining:
            self._count_shed("draining", caller)
            raise Unavailable(Reason.DRAINING, "the server is shutting down", retry_after_s=1.0)

    def _count_stream(self, streams: int) -> None:
        self._streams += streams
        self._metrics.streams.set(self._streams)

    def _shed(self, why: str, message: str, caller: Caller, cost: Cost) -> None:
        self._count_shed(why, caller)
        retry_after_s = max(0.1, self.quickest_s(cost.kind))
        raise Overloaded(Reason.OVERLOADED, message, retry_after_s=retry_after_s)

    def _count_shed(self, why: str, caller: Caller) -> None:
        self._metrics.shed.labels(why).inc()
        self._metrics.tenant_shed.labels(caller.tenant, why).inc()

    def _hold(self, calls: int, held_bytes: int) -> None:
        self._in_flight += calls
        self._bytes += held_bytes
        self._metrics.in_flight.set(self._in_flight)
        self._metrics.in_flight_bytes.set(self._bytes)

    def _remember(self, kind: str, seconds: float) -> None:
        recent = self._recent.setdefault(kind, deque(maxlen=256))
        recent.append((time.monotonic(), seconds))
