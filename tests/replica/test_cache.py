"""Caches stay within their bytes; what is under way is shared."""

import asyncio

import pytest

from services.replica.cache import LruCache, SingleFlight
from services.replica.metrics import RecordedMetrics


def test_the_least_used_makes_room(metrics: RecordedMetrics) -> None:
    cache: LruCache[str, int] = LruCache("image", 100, metrics)
    cache.put("a", 1, 40)
    cache.put("b", 2, 40)
    assert cache.get("a") == 1
    cache.put("c", 3, 40)
    assert cache.get("b") is None
    assert (cache.get("a"), cache.get("c")) == (1, 3)
    assert cache.nbytes == 80
    assert len(cache) == 2
    assert metrics.gauges["cache_bytes", "image"] == 80
    assert metrics.counts["hit", "image"] == 3
    assert metrics.counts["miss", "image"] == 1


def test_values_grow_old(metrics: RecordedMetrics) -> None:
    now = 0.0
    cache: LruCache[str, int] = LruCache("plan", 100, metrics, ttl_s=60, clock=lambda: now)
    cache.put("a", 1, 40)
    now = 59.9
    assert cache.get("a") == 1
    now = 60.0
    assert cache.get("a") is None
    assert cache.nbytes == 0
    assert (metrics.counts["hit", "plan"], metrics.counts["miss", "plan"]) == (1, 1)


def test_replacing_counts_once(metrics: RecordedMetrics) -> None:
    cache: LruCache[str, int] = LruCache("image", 100, metrics)
    cache.put("a", 1, 90)
    cache.put("a", 2, 30)
    assert cache.get("a") == 2
    assert cache.nbytes == 30


def test_what_exceeds_the_cache_is_not_held_and_displaces_nothing(
    metrics: RecordedMetrics,
) -> None:
    cache: LruCache[str, int] = LruCache("image", 100, metrics)
    cache.put("a", 1, 40)
    cache.put("huge", 2, 101)
    assert cache.get("huge") is None
    assert cache.get("a") == 1
    off: LruCache[str, int] = LruCache("image", 0, metrics)
    off.put("a", 1, 1)
    assert off.get("a") is None


async def test_one_computation_serves_all_who_ask_meanwhile() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    go = asyncio.Event()
    runs = 0

    async def compute() -> int:
        nonlocal runs
        runs += 1
        await go.wait()
        return runs

    tasks = [asyncio.create_task(flights.run("a", compute)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*tasks[1:]) == [1, 1]
    assert tasks[0].cancelled()
    assert await flights.run("a", compute) == 2


async def test_the_last_to_leave_stops_it_and_a_newcomer_starts_anew() -> None:
    flights: SingleFlight[str, str] = SingleFlight()
    stopped = asyncio.Event()

    async def endless() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return "never"

    async def quick() -> str:
        return "anew"

    tasks = [asyncio.create_task(flights.run("a", endless)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.sleep(0)
    assert not stopped.is_set()
    tasks[1].cancel()
    assert await flights.run("b", quick) == "anew"
    await asyncio.wait_for(stopped.wait(), 60)
    assert await flights.run("a", quick) == "anew"


async def test_a_failure_reaches_all_and_is_forgotten() -> None:
    flights: SingleFlight[str, int] = SingleFlight()

    async def fail() -> int:
        await asyncio.sleep(0)
        raise ValueError("broken")

    async def succeed() -> int:
        return 1

    tasks = [asyncio.create_task(flights.run("a", fail)) for _ in range(2)]
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["broken", "broken"]
    assert await flights.run("a", succeed) == 1
    with pytest.raises(ValueError, match="broken"):
        await flights.run("a", fail)
