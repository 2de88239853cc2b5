"""The batcher: what shares a batch, what never runs, and who pays for a failure."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from services.caller import Priority
from services.deadline import Deadline, SharedDeadline
from services.errors import DeadlinePassed, DeadlineTooShort, Overloaded, Reason, Unavailable
from services.replica.batching import Batcher
from services.replica.metrics import RecordedMetrics
from services.rpc.calls import set_current_call
from services.rpc.metadata import CallContext
from tests.conftest import Clock, Until

NO_DEADLINE = Deadline()


class Worker:
    """A batch function that waits at a gate, notes what it ran, and doubles its items."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.started.append(list(items))
        assert self.gate.wait(60)
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
    batcher: Batcher[int, int],
    worker: Worker,
    metrics: RecordedMetrics,
    until: Until,
    clock: Clock,
) -> None:
    first = submit(batcher, 0)
    await until(lambda: worker.started == [[0]])
    second = asyncio.create_task(batcher.submit(1, Deadline.after(30)))
    await until(lambda: batcher.depth == 1)
    clock.advance(60)
    with pytest.raises(DeadlinePassed):
        await second
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
    batcher.check(Reason.INTERNAL)


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
    batcher = Batcher("encode", worker, max_batch=4, max_queued=8, wait_s=60, metrics=metrics)
    worker.gate.set()
    await batcher.submit_all([1, 2, 3], Deadline())
    early = submit(batcher, 4)
    await until(lambda: batcher.depth == 1)
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


class Fits:
    """A batch function that has memory for `room` items, and none for an item of -1."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.tried: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.tried.append(list(items))
        if len(items) > self.room or -1 in items:
            raise MemoryError
        return [2 * item for item in items]


def batcher_of(run: Callable[[Sequence[int]], list[int]], metrics: RecordedMetrics) -> Batcher:
    return Batcher("encode", run, max_batch=8, max_queued=16, wait_s=0, metrics=metrics)


async def test_a_batch_that_does_not_fit_is_halved(metrics: RecordedMetrics) -> None:
    run = Fits(room=2)
    batcher = batcher_of(run, metrics)
    assert await batcher.submit_all(range(5), NO_DEADLINE) == [0, 2, 4, 6, 8]
    assert run.tried == [[0, 1, 2, 3, 4], [0, 1], [2, 3, 4], [2], [3, 4]]
    assert metrics.counts["halved", "encode"] == 2
    assert metrics.counts["failed", "encode"] == 0
    batcher.check(Reason.INTERNAL)
    await batcher.close()


async def test_an_item_that_does_not_fit_alone_fails_alone(metrics: RecordedMetrics) -> None:
    batcher = batcher_of(Fits(room=8), metrics)
    calls = [asyncio.ensure_future(batcher.submit(item, NO_DEADLINE)) for item in (1, -1, 3)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == (2, 6)
    assert isinstance(outcomes[1], Overloaded)
    assert outcomes[1].retry_after_s is not None
    await batcher.close()


async def test_torchs_own_error_counts_as_out_of_memory(metrics: RecordedMetrics) -> None:
    import torch

    def run(items: Sequence[int]) -> list[int]:
        if len(items) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return list(items)

    batcher = batcher_of(run, metrics)
    assert await batcher.submit_all([1, 2], NO_DEADLINE) == [1, 2]
    await batcher.close()


async def test_batches_that_fail_in_a_row_are_unhealthy(metrics: RecordedMetrics) -> None:
    failing = True

    def run(items: Sequence[int]) -> list[int]:
        if failing:
            raise ValueError("broken")
        return list(items)

    batcher = batcher_of(run, metrics)
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await batcher.submit(1, NO_DEADLINE)
    failing = False
    await batcher.submit(1, NO_DEADLINE)  # one that succeeds starts the count anew
    failing = True
    for _ in range(3):
        batcher.check(Reason.INTERNAL)
        with pytest.raises(ValueError, match="broken"):
            await batcher.submit(1, NO_DEADLINE)
    with pytest.raises(Unavailable, match="3 batches in a row failed"):
        batcher.check(Reason.INTERNAL)
    assert metrics.counts["failed", "encode"] == 5
    await batcher.close()


async def test_refusals_are_not_failures(metrics: RecordedMetrics) -> None:
    def run(items: Sequence[int]) -> list[int]:
        raise Overloaded(Reason.OVERLOADED, "full")

    batcher = batcher_of(run, metrics)
    for _ in range(5):
        with pytest.raises(Overloaded):
            await batcher.submit(1, NO_DEADLINE)
    batcher.check(Reason.INTERNAL)
    await batcher.close()


async def test_a_lost_device_is_unhealthy_at_once(metrics: RecordedMetrics) -> None:
    def run(items: Sequence[int]) -> list[int]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    batcher = batcher_of(run, metrics)
    with pytest.raises(RuntimeError, match="illegal"):
        await batcher.submit(1, NO_DEADLINE)
    with pytest.raises(Unavailable, match="lost its device"):
        batcher.check(Reason.INTERNAL)
    await batcher.close()


async def test_one_batch_without_memory_is_one_failure(metrics: RecordedMetrics) -> None:
    """However many items it had: a moment without memory must not cost the replica."""
    batcher = batcher_of(Fits(room=0), metrics)
    calls = [asyncio.ensure_future(batcher.submit(item, NO_DEADLINE)) for item in range(8)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Overloaded] * 8
    assert metrics.batches["encode"] == [8]
    assert metrics.counts["failed", "encode"] == 1
    batcher.check(Reason.INTERNAL)
    for _ in range(2):
        with pytest.raises(Overloaded):
            await batcher.submit(1, NO_DEADLINE)
    with pytest.raises(Unavailable, match="3 batches in a row failed"):
        batcher.check(Reason.INTERNAL)
    await batcher.close()


async def test_a_batch_that_gave_results_is_not_a_failure_in_a_row(
    metrics: RecordedMetrics,
) -> None:
    batcher = batcher_of(Fits(room=8), metrics)
    for _ in range(4):
        calls = [asyncio.ensure_future(batcher.submit(item, NO_DEADLINE)) for item in (1, -1)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert outcomes[0] == 2
        batcher.check(Reason.INTERNAL)
    await batcher.close()


async def test_who_left_before_the_halves_is_in_none_of_them(
    metrics: RecordedMetrics, until: Until
) -> None:
    tried: list[list[int]] = []
    gate = threading.Event()

    def run(items: Sequence[int]) -> list[int]:
        tried.append(list(items))
        if len(items) > 2:
            assert gate.wait(60)
            raise MemoryError
        return list(items)

    batcher = batcher_of(run, metrics)
    calls = [asyncio.ensure_future(batcher.submit(item, NO_DEADLINE)) for item in range(4)]
    await until(lambda: tried == [[0, 1, 2, 3]])
    calls[1].cancel()
    await asyncio.wait([calls[1]])
    gate.set()
    assert await asyncio.gather(calls[0], *calls[2:]) == [0, 2, 3]
    assert tried == [[0, 1, 2, 3], [0], [2, 3]]
    await batcher.close()


async def test_a_lost_device_takes_no_more_calls(metrics: RecordedMetrics) -> None:
    """Another replica answers them while Serve replaces this one."""
    tried: list[list[int]] = []

    def run(items: Sequence[int]) -> list[int]:
        tried.append(list(items))
        raise RuntimeError("CUDA error: an illegal instruction was encountered")

    batcher = batcher_of(run, metrics)
    with pytest.raises(RuntimeError, match="illegal instruction"):
        await batcher.submit(1, NO_DEADLINE)
    with pytest.raises(Unavailable) as refused:
        await batcher.submit(2, NO_DEADLINE)
    assert refused.value.reason is Reason.DRAINING
    assert tried == [[1]]
    await batcher.close()


async def test_what_cannot_be_answered_in_time_is_told_on_arrival(
    batcher: Batcher[int, int],
    worker: Worker,
    metrics: RecordedMetrics,
    until: Until,
    clock: Clock,
) -> None:
    first = submit(batcher, 0)
    await until(lambda: worker.started == [[0]])
    clock.advance(10)  # so long does a batch take
    worker.gate.set()
    await first
    with pytest.raises(DeadlineTooShort):
        await batcher.submit(1, Deadline.after(5))
    worker.gate.clear()
    running = submit(batcher, 2)
    await until(lambda: worker.started == [[0], [2]])
    # Not even with nobody ahead would there be time.
    with pytest.raises(DeadlineTooShort):
        await batcher.submit(3, Deadline.after(5))
    # It has ten seconds for itself, and none for the batch that runs.
    with pytest.raises(Overloaded) as shed:
        await batcher.submit(3, Deadline.after(15))
    assert shed.value.retry_after_s is not None
    in_time = submit(batcher, 4, Deadline.after(60))
    await until(lambda: batcher.depth == 1)
    worker.gate.set()
    assert await asyncio.gather(running, in_time) == [4, 8]
    assert metrics.counts["shed", "encode"] == 3
    assert worker.started == [[0], [2], [4]]


async def test_hopeless_work_is_dropped_when_its_batch_is_taken(
    batcher: Batcher[int, int],
    worker: Worker,
    metrics: RecordedMetrics,
    until: Until,
    clock: Clock,
) -> None:
    first = submit(batcher, 0)
    await until(lambda: worker.started == [[0]])
    hopeless = submit(batcher, 1, Deadline.after(100))
    patient = submit(batcher, 2, Deadline.after(10_000))
    await until(lambda: batcher.depth == 2)
    clock.advance(95)  # five seconds are left, and a batch takes 95
    worker.gate.set()
    await first
    with pytest.raises(Overloaded, match="too late"):
        await hopeless
    assert await patient == 4
    assert worker.started == [[0], [2]]
    assert metrics.counts["dropped", "encode"] == 1


async def test_work_that_is_shared_lasts_as_long_as_anybody_waits(
    batcher: Batcher[int, int], worker: Worker, until: Until, clock: Clock
) -> None:
    first = submit(batcher, 0)
    await until(lambda: worker.started == [[0]])
    waited_for = SharedDeadline()
    waited_for.join(Deadline.after(100))
    shared = asyncio.create_task(batcher.submit(1, NO_DEADLINE, waited_for))
    await until(lambda: batcher.depth == 1)
    waited_for.join(Deadline.after(50))
    waited_for.join(Deadline.after(10_000))
    clock.advance(95)
    worker.gate.set()
    assert await asyncio.gather(first, shared) == [0, 2]


async def test_interactive_items_are_taken_before_those_of_batches(
    batcher: Batcher[int, int], worker: Worker, until: Until
) -> None:
    def submit_as(priority: Priority, item: int) -> asyncio.Task[int]:
        set_current_call(CallContext(priority=priority))
        return submit(batcher, item)  # a task keeps the call it was made in

    first = submit(batcher, 0)
    await until(lambda: worker.started == [[0]])
    later = [submit_as(Priority.BATCH, item) for item in range(1, 5)]
    sooner = [submit_as(Priority.INTERACTIVE, item) for item in range(5, 8)]
    await until(lambda: batcher.depth == 7)
    worker.gate.set()
    await asyncio.gather(first, *later, *sooner)
    assert worker.started == [[0], [5, 6, 7, 1], [2, 3, 4]]
