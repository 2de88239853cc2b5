"""What was computed before, and what is being computed right now.

`LruCache` is asked first; on a miss `SingleFlight` makes sure that any number of requests for one
image compute its embedding, or its plan, once. Neither is locked: each is used from one thread.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from services.replica.metrics import ReplicaMetrics

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _CachedValue(Generic[V]):
    value: V
    nbytes: int
    expires_at: float


class LruCache(Generic[K, V]):
    """The values used last, as many as fit into `capacity` bytes, each for `ttl_s` seconds.

    `name` labels its metrics; `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        capacity: int,
        metrics: ReplicaMetrics,
        *,
        ttl_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._capacity = capacity
        self._metrics = metrics
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[K, _CachedValue[V]] = OrderedDict()
        self._nbytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._nbytes

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The value of `key`, now the last used; None when it is not held, or too old."""
        entry = self._entries.get(key)
        if entry is not None and self._clock() >= entry.expires_at:
            self._forget(key)
            entry = None
        self._metrics.cache(self._name, hit=entry is not None)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.value

    def put(self, key: K, value: V, nbytes: int) -> None:
        """Hold `value`, dropping the least used to make room; one larger than all is not held."""
        self._forget(key)
        if nbytes <= self._capacity:
            while self._nbytes + nbytes > self._capacity:
                self._forget(next(iter(self._entries)))
            self._entries[key] = _CachedValue(value, nbytes, self._clock() + self._ttl_s)
            self._nbytes += nbytes
        self._metrics.cache_bytes(self._name, self._nbytes)

    def _forget(self, key: K) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._nbytes -= entry.nbytes


@dataclass
class _Flight(Generic[V]):
    task: asyncio.Task[V]
    waiters: int = 0


class SingleFlight(Generic[K, V]):
    """One computation a key at a time, shared by all who ask for it meanwhile.

    A caller that leaves does not stop it; when the last has left it is cancelled.
    """

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    async def run(self, key: K, compute: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """What `compute` gives, or what the computation already under way for `key` gives."""
        flight = self._flights.get(key)
        if flight is None:
            flight = _Flight(asyncio.create_task(compute()))
            self._flights[key] = flight
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0:
                # Off the list first: a newcomer must not board a flight that is being cancelled.
                self._flights.pop(key, None)
                flight.task.cancel()
