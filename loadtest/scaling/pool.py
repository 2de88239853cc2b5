"""`python -m loadtest.scaling.pool`: what a pool of replicas loses as it grows, simulated.

Calls arrive at proxies, each of which picks the less loaded of two replicas drawn at random, as Ray
Serve's router does: by what it last heard of them, less those of its own calls that have ended. A
replica takes up to `batch` calls from its queue at once, in `fixed_s + item_s * calls`. A pool that
lost nothing would answer `n` times what one replica does, with the same waits.
"""

import heapq
import itertools
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

# Serve's router asks a replica itself when what it heard is older
# (RAY_SERVE_QUEUE_LENGTH_CACHE_TIMEOUT_S in ray.serve's constants).
_HEARSAY_S = 10.0


@dataclass(frozen=True, slots=True)
class Pool:
    """Replicas of one kind behind proxies.

    Attributes:
        replicas: how many.
        proxies: routers that know nothing of each other.
        batch: calls a replica works on at once, at most.
        fixed_s, item_s: seconds of a batch, and of each call in it.
    """

    replicas: int
    proxies: int
    batch: int = 8
    fixed_s: float = 0.02
    item_s: float = 0.04

    @property
    def most_per_s(self) -> float:
        """Calls a second with all batches full."""
        return self.replicas * self.batch / (self.fixed_s + self.batch * self.item_s)


@dataclass(frozen=True, slots=True)
class PoolRun:
    """Calls answered per second, and each call's seconds from arrival to answer."""

    per_s: float
    seconds: np.ndarray


# When a call arrived, and the router that sent it here.
_Call = tuple[float, "_Router"]


class _BatchingReplica:
    __slots__ = ("busy", "queue")

    def __init__(self) -> None:
        self.queue: deque[_Call] = deque()
        self.busy = 0

    @property
    def ongoing(self) -> int:
        return len(self.queue) + self.busy


class _Router:
    """Power of two choices by what was last heard."""

    def __init__(self, replicas: list[_BatchingReplica], rng: np.random.Generator) -> None:
        self._replicas = replicas
        self._rng = rng
        self._heard: dict[_BatchingReplica, tuple[float, int]] = {}

    def choose(self, now: float) -> _BatchingReplica:
        count = len(self._replicas)
        drawn = self._rng.choice(count, min(2, count), replace=False)
        two: list[_BatchingReplica] = [self._replicas[index] for index in drawn]
        chosen = min(two, key=lambda replica: self.load(replica, now))
        self._heard[chosen] = (now, chosen.ongoing + 1)
        return chosen

    def load(self, replica: _BatchingReplica, now: float) -> int:
        """Calls on a replica, as far as is known here."""
        at, ongoing = self._heard.get(replica, (-math.inf, 0))
        if now - at > _HEARSAY_S:
            at, ongoing = self._heard[replica] = now, replica.ongoing
        return ongoing

    def ended(self, replica: _BatchingReplica) -> None:
        """A call of this router's is answered."""
        at, ongoing = self._heard[replica]
        self._heard[replica] = (at, max(0, ongoing - 1))


def simulate(pool: Pool, load: float, seconds: float, seed: int = 0) -> PoolRun:
    """Poisson arrivals at `load` times what the pool could answer, for so many seconds."""
    rng = np.random.default_rng(seed)
    replicas = [_BatchingReplica() for _ in range(pool.replicas)]
    routers = [_Router(replicas, rng) for _ in range(pool.proxies)]
    events: list[tuple[float, int, _BatchingReplica, list[_Call]]] = []
    number = itertools.count()
    took: list[float] = []

    def begin(replica: _BatchingReplica, now: float) -> None:
        calls = [replica.queue.popleft() for _ in range(min(pool.batch, len(replica.queue)))]
        replica.busy = len(calls)
        if calls:
            mean = pool.fixed_s + pool.item_s * len(calls)
            end = now + rng.gamma(25.0, mean / 25.0)  # varies by a fifth
            heapq.heappush(events, (end, next(number), replica, calls))

    def finish_until(now: float) -> None:
        while events and events[0][0] <= now:
            at, _, replica, calls = heapq.heappop(events)
            for began, router in calls:
                took.append(at - began)
                router.ended(replica)
            begin(replica, at)

    for turn, arrived in enumerate(_arrivals(load * pool.most_per_s, seconds, rng)):
        finish_until(arrived)
        router = routers[turn % pool.proxies]
        replica = router.choose(arrived)
        replica.queue.append((arrived, router))
        if not replica.busy:
            begin(replica, arrived)
    finish_until(seconds)
    return PoolRun(len(took) / seconds, np.array(took))


def _arrivals(rate: float, seconds: float, rng: np.random.Generator) -> Iterator[float]:
    now = rng.exponential(1 / rate)
    while now < seconds:
        yield now
        now += rng.exponential(1 / rate)


def main(
    load: Annotated[
        float, typer.Option(help="Share of what the pool could answer that arrives.")
    ] = 0.7,
    seconds: Annotated[float, typer.Option(help="Simulated time of each row.")] = 300.0,
    batch: Annotated[int, typer.Option(help="Calls in a batch, at most.")] = 8,
    fixed_s: Annotated[float, typer.Option(help="Seconds of a batch besides its calls.")] = 0.02,
    item_s: Annotated[float, typer.Option(help="Seconds of each call in a batch.")] = 0.04,
    replicas_a_proxy: Annotated[int, typer.Option(help="Replicas on a pod with a proxy.")] = 1,
    most: Annotated[int, typer.Option(help="Replicas of the last row.")] = 64,
) -> None:
    """Throughput and latency of 1, 2, 4, … replicas, beside what a pool without loss would do."""
    typer.echo("| replicas | overloaded: calls/s | of linear | p50 s | p99 s | longest s |")
    typer.echo("| --: | --: | --: | --: | --: | --: |")
    one = 0.0
    count = 1
    while count <= most:
        pool = Pool(count, max(1, count // replicas_a_proxy), batch, fixed_s, item_s)
        full = simulate(pool, 1.2, seconds).per_s
        one = one or full
        calm = simulate(pool, load, seconds).seconds
        p50, p99, longest = np.quantile(calm, (0.5, 0.99, 1.0))
        typer.echo(
            f"| {count} | {full:.1f} | {full / (one * count):.3f} "
            f"| {p50:.2f} | {p99:.2f} | {longest:.2f} |"
        )
        count *= 2


if __name__ == "__main__":
    typer.run(main)
