import asyncio
import itertools
import time

import grpc
import numpy as np
import pytest

from limelight import LimelightError, Plan, Segmentation
from loadtest.generator import Load, Sample, closed_loop, open_loop

ANSWER = Segmentation("id", 8, 8, Plan(), (), (), "", (), {"encode": 3.0}, ())


class Service:
    """Takes `delay_s` a call; fails every `fail_every`-th."""

    def __init__(self, delay_s: float, fail_every: int = 0) -> None:
        self.delay_s = delay_s
        self.fail_every = fail_every
        self.numbers: list[int] = []
        self.under_way = self.most = 0

    async def __call__(self, number: int) -> Segmentation:
        self.numbers.append(number)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(self.delay_s)
        self.under_way -= 1
        if self.fail_every and len(self.numbers) % self.fail_every == 0:
            raise LimelightError(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="OVERLOADED")
        return ANSWER


async def test_closed_loop_keeps_as_many_calls_under_way_as_callers() -> None:
    service = Service(0.02)
    load = await closed_loop(service, itertools.count(), callers=5, seconds=0.3)
    assert service.most == 5
    assert sorted(service.numbers) == list(range(len(load.samples)))
    assert 0 < load.throughput <= 250
    assert load.latency_ms(0.5) >= 20
    assert load.stages_ms == {"encode": 3.0}


async def test_answers_after_the_end_are_no_throughput() -> None:
    load = await closed_loop(Service(0.2), itertools.count(), callers=4, seconds=0.1)
    assert len(load.answered) == 4
    assert load.throughput == 0.0


async def test_failed_calls_are_counted_apart() -> None:
    load = await closed_loop(Service(0.01, fail_every=2), itertools.count(), 1, 0.2)
    failed = load.errors["OVERLOADED"]
    assert failed + len(load.answered) == len(load.samples)
    assert abs(failed - len(load.answered)) <= 1


async def test_open_loop_arrives_at_its_rate_whatever_the_service_does() -> None:
    service = Service(0.4)
    rng = np.random.default_rng(1)
    load = await open_loop(service, itertools.count(), rate=100.0, seconds=0.5, rng=rng)
    assert 25 < len(load.samples) < 80
    assert service.most > 20
    assert load.latency_ms(0.5) >= 400


async def test_open_loop_times_from_arrival() -> None:
    """A stall of the whole process counts for all who arrived meanwhile."""

    async def stall(number: int) -> Segmentation:
        if number == 0:
            time.sleep(0.3)  # noqa: ASYNC251  # the very stall
        return ANSWER

    rng = np.random.default_rng(2)
    load = await open_loop(stall, itertools.count(), rate=100.0, seconds=0.3, rng=rng)
    late = [sample for sample in load.samples if sample.latency_s > 0.05]
    assert len(late) > 5


def test_latencies_of_nothing_are_unknown() -> None:
    assert np.isnan(Load(1.0, ()).latency_ms(0.5))
    assert Load(1.0, ()).stages_ms == {}


def test_quantiles_are_of_the_answered_alone() -> None:
    samples = [Sample(0.1, ms / 1000, {}, 0, None) for ms in range(1, 101)]
    samples.append(Sample(0.1, 99.0, {}, 0, "OVERLOADED"))
    assert Load(1.0, tuple(samples)).latency_ms(0.99) == pytest.approx(99, abs=1)
