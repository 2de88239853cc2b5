"""The batcher: what shares a batch, what never runs, and who pays for a failure."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence

import pytest

from services.deadline import Deadline
from services.errors import DeadlinePassed, Overloaded, Reason, Unavailable
from services.replica.batching import Batcher
from services.replica.metrics import RecordedMetrics

Until = Callable[[Callable[[], bool]], Awaitable[None]]

NO_DEADLINE = Deadline()


class Worker:
    """A batch function that waits at a gate, notes what it ran, and doubles its items."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.started.append(list(items))
        assert self.gate.wait(10)
        if -1 in items:
            raise ValueError("poison")
        return [2 * item for item in items]


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.gate.set()


@pytest.fixture
def batcher(worker: Worker, metrics: RecordedMetrics) -> Batcher[int, int]:
    return Batcher("encode", worker, max_batch=4, max_queued=8, wait_s=0, metrics=metrics)


def submit(
    batcher: Batcher[int, int], item: int, deadline: Deadline = NO_DEADLINE
) -> asyncio.Task[int]:
    return asyncio.create_task(batcher.submit(item, deadline))


async def test_a_lone_item_runs_at_once_and_the_rest_forms_batches_meanwhile(
    batcher: Batcher[int, int], worker: Worker, metrics: RecordedMetrics, until: Until
) -> None:
    tasks = [submit(batcher, 0)]
    await until(lambda: worker.started == [[0]])
    tasks += [submit(batcher, item) for item in range(1, 7)]
    await until(lambda: batcher.depth == 6)
    assert metrics.gauges["depth", "encode"] == 6
    worker.gate.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 6, 8, 10, 12]
    assert worker.started == [[0], [1, 2, 3, 4], [5, 6]]
    assert metrics.batches["encode"] == [1, 4, 2]
    assert metrics.gauges["depth", "encode"] == 0
    assert len(metrics.seconds["queue", "encode"]) == 7


async def test_items_submitted_together_stay_in_order(
    batcher: Batcher[int, int], worker: Worker
) -> None:
    worker.gate.set()
    assert await batcher.submit_all([5, 6, 7, 8, 9], Deadline()) == [10, 12, 14, 16, 18]
    assert worker.started == [[5, 6, 7, 8], [9]]
    assert await batcher.submit_all([], Deadline()) == []


async def test_a_cancelled_item_frees_its_place_and_never_runs(
    batcher: Batcher[int, int], worker: Worker, metrics: RecordedMetrics, until: Until
) -> None:
    first = submit(batcher, 0)
    await until(lambda: worker.started == [[0]])
    waiting = [submit(batcher, item) for item in range(1, 9)]
    await until(lambda: batcher.depth == 8)
    with pytest.raises(Overloaded):
        await batcher.submit(9, Deadline())
    waiting[0].cancel()
    await until(lambda: batcher.depth == 7)
    assert metrics.gauges["depth", "encode"] == 7
    assert metrics.counts["dropped", "encode"] == 1
    newcomer = submit(batcher, 9)
    worker.gate.set()
    assert await newcomer == 18
    assert await first == 0
    assert waiting[0].cancelled()
    assert not any(1 in batch for batch in worker.started)


async def test_an_item_whose_deadline_passes_frees_its_place_and_never_runs(
    batcher: Batcher[int, int], worker: Worker, metrics: RecordedMetrics, until: Until
) -> None:
    first = submit(batcher, 0)
    await until(lambda: worker.started == [[0]])
    with pytest.raises(DeadlinePassed):
        await batcher.submit(1, Deadline.after(0.02))
    assert batcher.depth == 0
    assert metrics.counts["dropped", "encode"] == 1
    with pytest.raises(DeadlinePassed):
        await batcher.submit(2, Deadline.after(0))
    worker.gate.set()
    await first
    assert worker.started == [[0]]


async def test_a_deadline_is_judged_again_when_its_batch_is_taken(
    batcher: Batcher[int, int], worker: Worker, until: Until
) -> None:
    """The event loop may be too busy for the timer to fire in time."""

    class Passed(Deadline):
        asked = 0

        @property
        def passed(self) -> bool:
            type(self).asked += 1
            return type(self).asked > 1

    worker.gate.set()
    with pytest.raises(DeadlinePassed):
        await batcher.submit(1, Passed())
    assert worker.started == []


async def test_a_full_queue_says_when_to_come_again(
    batcher: Batcher[int, int], worker: Worker, metrics: RecordedMetrics, until: Until
) -> None:
    first = submit(batcher, 0)
    await until(lambda: worker.started == [[0]])
    many = asyncio.create_task(batcher.submit_all(list(range(1, 9)), Deadline()))
    await until(lambda: batcher.depth == 8)
    with pytest.raises(Overloaded) as caught:
        await batcher.submit(9, Deadline())
    assert caught.value.reason is Reason.OVERLOADED
    assert caught.value.retry_after_s is not None
    assert caught.value.retry_after_s > 0
    assert metrics.counts["shed", "encode"] == 1
    worker.gate.set()
    await asyncio.gather(first, many)


async def test_a_failure_ends_its_batch_and_no_other(
    batcher: Batcher[int, int], worker: Worker, until: Until
) -> None:
    first = submit(batcher, 0)
    await until(lambda: worker.started == [[0]])
    poisoned = [submit(batcher, item) for item in (1, -1, 2, 3)]
    sound = [submit(batcher, item) for item in (4, 5)]
    await until(lambda: batcher.depth == 6)
    worker.gate.set()
    outcomes = await asyncio.gather(*poisoned, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["poison"] * 4
    assert await asyncio.gather(first, *sound) == [0, 8, 10]
    assert not batcher.broken


async def test_too_few_results_are_a_failure(metrics: RecordedMetrics) -> None:
    short: Batcher[int, int] = Batcher(
        "encode", lambda items: [], max_batch=4, max_queued=8, wait_s=0, metrics=metrics
    )
    with pytest.raises(RuntimeError, match="1 items gave 0 results"):
        await short.submit(1, Deadline())
    await short.close()


async def test_callers_answered_together_come_back_together(
    metrics: RecordedMetrics, worker: Worker, until: Until
) -> None:
    """After a batch of three, the first to return waits for the others; after a long pause none."""
    batcher = Batcher("encode", worker, max_batch=4, max_queued=8, wait_s=5, metrics=metrics)
    worker.gate.set()
    await batcher.submit_all([1, 2, 3], Deadline())
    early = submit(batcher, 4)
    await asyncio.sleep(0.02)
    assert batcher.depth == 1
    rest = [submit(batcher, item) for item in (5, 6)]
    await asyncio.gather(early, *rest)
    assert worker.started == [[1, 2, 3], [4, 5, 6]]


async def test_closing_runs_what_waits_and_takes_no_more(
    batcher: Batcher[int, int], worker: Worker, until: Until
) -> None:
    tasks = [submit(batcher, item) for item in range(6)]
    await until(lambda: len(worker.started) == 1)
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await batcher.submit(9, Deadline())
    worker.gate.set()
    await closing
    assert [task.result() for task in tasks] == [0, 2, 4, 6, 8, 10]
