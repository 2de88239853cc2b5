"""Makes calls at a set concurrency or a set rate, and keeps what came of each.

Closed loop: each of N callers asks again as soon as it is answered; that finds the greatest
throughput. Open loop: calls arrive as a Poisson process, whether or not the service keeps up, and
are timed from their arrival, so that a stall counts for all who arrived during it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from limelight import LimelightError, Segmentation

Call = Callable[[int], Awaitable[Segmentation]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One call.

    Attributes:
        ended_s: seconds since the load began.
        latency_s: from its start, or in an open loop from its arrival.
        timings_ms: the stages of its answer; empty for a failed one.
        instances: how many were answered.
        error: what it failed of, None where it was answered.
    """

    ended_s: float
    latency_s: float
    timings_ms: Mapping[str, float]
    instances: int
    error: str | None


@dataclass(frozen=True)
class Load:
    """All calls of one load, which ran for `seconds` before it only waited for the last answers."""

    seconds: float
    samples: tuple[Sample, ...]

    @property
    def answered(self) -> tuple[Sample, ...]:
        """The calls that did not fail."""
        return tuple(sample for sample in self.samples if sample.error is None)

    @property
    def throughput(self) -> float:
        """Answers a second, those after the load's end not counted."""
        return sum(sample.ended_s <= self.seconds for sample in self.answered) / self.seconds

    def latency_ms(self, quantile: float) -> float:
        """That quantile of the answered calls' latencies; NaN without any."""
        latencies = [sample.latency_s * 1000 for sample in self.answered]
        return float(np.quantile(latencies, quantile)) if latencies else float("nan")

    @property
    def stages_ms(self) -> dict[str, float]:
        """Mean of each stage over the answers that had it."""
        stages: dict[str, list[float]] = {}
        for sample in self.answered:
            for stage, value in sample.timings_ms.items():
                stages.setdefault(stage, []).append(value)
        return {stage: float(np.mean(values)) for stage, values in stages.items()}

    @property
    def errors(self) -> dict[str, int]:
        """Failed calls by what they failed of."""
        return dict(Counter(sample.error for sample in self.samples if sample.error is not None))


async def closed_loop(call: Call, numbers: Iterator[int], callers: int, seconds: float) -> Load:
    """`callers` callers for `seconds`; each call is given a number of its own."""
    began = time.perf_counter()
    samples: list[Sample] = []

    async def ask_on() -> None:
        while (start := time.perf_counter()) < began + seconds:
            samples.append(await _sample(call, next(numbers), began, start))

    await asyncio.gather(*(ask_on() for _ in range(callers)))
    return Load(seconds, tuple(samples))


async def open_loop(
    call: Call, numbers: Iterator[int], rate: float, seconds: float, rng: np.random.Generator
) -> Load:
    """Calls at `rate` a second on average for `seconds`; exponential gaps drawn from `rng`."""
    began = time.perf_counter()
    samples: list[Sample] = []

    async def ask(arrival: float) -> None:
        samples.append(await _sample(call, next(numbers), began, arrival))

    arrival = began + rng.exponential(1 / rate)
    async with asyncio.TaskGroup() as group:
        while arrival < began + seconds:
            await asyncio.sleep(max(0.0, arrival - time.perf_counter()))
            group.create_task(ask(arrival))
            arrival += rng.exponential(1 / rate)
    return Load(seconds, tuple(samples))


async def _sample(call: Call, number: int, began: float, start: float) -> Sample:
    try:
        answer = await call(number)
    except LimelightError as error:
        now = time.perf_counter()
        return Sample(now - began, now - start, {}, 0, error.reason or error.code.name)
    now = time.perf_counter()
    return Sample(now - began, now - start, answer.timings_ms, len(answer.instances), None)
