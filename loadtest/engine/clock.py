"""Times that are true on a GPU: the device has finished before the clock is read."""

import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Spent:
    """Milliseconds of several runs of one thing."""

    runs_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.runs_ms)

    @property
    def p95_ms(self) -> float:
        """The 95th percentile, or the slowest of fewer than 20 runs."""
        ordered = sorted(self.runs_ms)
        return ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]


def synchronize() -> None:
    """Wait for the device, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def timed(work: Callable[[], Any], runs: int, warm_up: int = 2) -> Spent:
    """Time `work` after `warm_up` runs of it that do not count, and no more of them than count."""
    for _ in range(min(warm_up, runs)):
        work()
    spent = []
    for _ in range(runs):
        synchronize()
        began = time.perf_counter()
        work()
        synchronize()
        spent.append(1000 * (time.perf_counter() - began))
    return Spent(tuple(spent))


async def timed_calls(work: Callable[[int], Awaitable[Any]], runs: int, warm_up: int = 2) -> Spent:
    """The same of coroutines, one after the other; each is told its number."""
    warm_up = min(warm_up, runs)
    for number in range(warm_up):
        await work(number)
    spent = []
    for number in range(warm_up, warm_up + runs):
        began = time.perf_counter()
        await work(number)
        spent.append(1000 * (time.perf_counter() - began))
    return Spent(tuple(spent))
