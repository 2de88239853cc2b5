"""Micro-batches: items of many requests, run together in one worker thread.

The segmenter has two, images for the encoder and (image, query) pairs for the decoder; the planner
has one, of prompts. A batch is taken the moment the worker is free, so a lone request waits for
nobody and batches form while the worker is busy. Interactive items are taken before those of
batches. Who cancels, or whose deadline passes, leaves the queue at once and is never run.

Nor is what cannot be answered in time any more. Callers are several gateways, each of which knows
its own calls only, so it is found out here too, twice: on arrival, from the items ahead and the
pace of late (`services.pace`), and when a batch is taken, from the quickest batch of late.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.caller import Priority
from services.deadline import Deadline, SharedDeadline
from services.errors import (
    DeadlinePassed,
    DeadlineTooShort,
    Overloaded,
    Reason,
    ServiceError,
    Unavailable,
)
from services.pace import Pace
from services.replica.failures import is_out_of_memory, is_poisoned
from services.replica.metrics import ReplicaMetrics
from services.replica.waiting import within
from services.rpc.calls import current_priority
from services.stages import with_cpu

Item = TypeVar("Item")
Result = TypeVar("Result")

# How soon to come again with what did not fit into memory, and with what came at a bad time.
_MEMORY_RETRY_S = 1.0
_RETRY_S = (0.1, 30.0)

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _QueuedItem(Generic[Item, Result]):
    item: Item
    waited_for: SharedDeadline
    priority: Priority
    done: asyncio.Future[Result]
    queued_at: float


class Batcher(Generic[Item, Result]):
    """Runs `run(items)` on batches of at most `max_batch` items, in arrival order.

    Args:
        stage: label of the metrics.
        run: called in the worker thread; gives one result an item, in order. If it raises, the
            items of that batch fail with what it raised, and no others; if it is out of memory, it
            is called again with half of them.
        max_batch: items a batch.
        max_queued: items that may wait.
        wait_s: how long to wait for company when the last batch ended just now and held more
            items than wait: callers that were answered together come back together.
        metrics: where queue depth, waits and batch sizes go.
        max_failures: batches that fail in a row before `unhealthy` says so.
    """

    def __init__(
        self,
        stage: str,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        max_batch: int,
        max_queued: int,
        wait_s: float,
        metrics: ReplicaMetrics,
        max_failures: int = 3,
    ) -> None:
        self._stage = stage
        self._run = run
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._wait_s = wait_s
        self._metrics = metrics
        self._queue: deque[_QueuedItem[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"batch-{stage}")
        self._loop_task: asyncio.Task[None] | None = None
        self._closing = False
        self._last_size = 0
        self._last_end = 0.0
        self._batch_began: float | None = None
        # Units are items for the one, batches for the other.
        self._items = Pace()
        self._batches = Pace()
        self._max_failures = max_failures
        self._failures = 0
        self._poisoned = False
        self._cpu_s = 0.0
        self.unhealthy = ""
        """Why the replica should be replaced; empty while all is well."""

    @property
    def depth(self) -> int:
        """Items waiting now."""
        return len(self._queue)

    def check(self, reason: Reason) -> None:
        """Raise `Unavailable` with `reason` if it cannot work any more.

        That is when its loop has ended though nobody closed it, when batch after batch failed, and
        when the device was lost.
        """
        if self._loop_task is not None and self._loop_task.done() and not self._closing:
            raise Unavailable(reason, f"the batch loop of {self._stage} has ended")
        if self.unhealthy:
            raise Unavailable(reason, self.unhealthy)

    async def submit(
        self, item: Item, deadline: Deadline, waited_for: SharedDeadline | None = None
    ) -> Result:
        """The result of `item`; see `submit_all`."""
        return (await self.submit_all([item], deadline, waited_for))[0]

    async def submit_all(
        self,
        items: Sequence[Item],
        deadline: Deadline,
        waited_for: SharedDeadline | None = None,
    ) -> list[Result]:
        """The results of `items`, which enter the queue together and may share batches.

        Args:
            items: what to run.
            deadline: ends the wait.
            waited_for: until when the results are of use, where that may be put off meanwhile.

        Raises:
            Overloaded: there is no room for all of them, or not enough time with what is ahead of
                them; none is queued. Or it turned out so later.
            DeadlineTooShort: not even a batch of one was so quick; none is queued.
            DeadlinePassed: before all were done.
            Unavailable: the batcher is closing, or its device is lost.
            Whatever `run` raised.
        """
        if not items:
            return []
        deadline.check()
        if waited_for is None:
            waited_for = SharedDeadline()
            waited_for.join(deadline)
        priority = current_priority()
        self._admit(len(items), waited_for.current, priority)
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        entries = [
            _QueuedItem(item, waited_for, priority, loop.create_future(), now) for item in items
        ]
        self._queue.extend(entries)
        self._metrics.depth(self._stage, self.depth)
        self._arrived.set()
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self._serve())
        try:
            async with within(deadline):
                return [await entry.done for entry in entries]
        finally:
            self._leave(entries)

    async def close(self) -> None:
        """Take no more, run what waits, stop the worker."""
        self._closing = True
        self._arrived.set()
        if self._loop_task is not None:
            await self._loop_task
        self._worker.shutdown()

    def _admit(self, count: int, deadline: Deadline, priority: Priority) -> None:
        if self._closing:
            raise Unavailable(Reason.DRAINING, "the replica is shutting down")
        if self._poisoned:
            # Serve needs three health checks to replace the replica; others can answer meanwhile.
            raise Unavailable(
                Reason.DRAINING,
                "the replica lost its device and is being replaced",
                retry_after_s=1.0,
            )
        # A request larger than the whole queue is let in when nothing waits, or it never would be.
        if self._queue and self.depth + count > self._max_queued:
            self._metrics.shed(self._stage, count)
            raise self._overloaded(f"too many requests wait for the {self._stage} stage")
        remaining = deadline.remaining_s()
        if remaining is None:
            return
        alone_s = self._batches.idle_s()
        wait_s = self._ahead_s(priority)
        step_s = self._batches.quickest_s() if wait_s else alone_s
        if wait_s + step_s <= remaining:
            return
        self._metrics.shed(self._stage, count)
        if alone_s > remaining:
            raise DeadlineTooShort(
                f"{remaining * 1000:.0f} ms are left, and the quickest step of the {self._stage} "
                f"stage took {alone_s * 1000:.0f} ms with one item"
            )
        raise self._overloaded(f"requests ahead in the {self._stage} stage leave too little time")

    def _ahead_s(self, priority: Priority) -> float:
        """Seconds until the batch that a new item would be in begins."""
        ahead = sum(entry.priority <= priority for entry in self._queue)
        full = ahead - ahead % self._max_batch  # the last of those ahead are in its own batch
        running_s = 0.0
        if self._batch_began is not None:
            gone_s = time.monotonic() - self._batch_began
            running_s = max(0.0, self._batches.quickest_s() - gone_s)
        return running_s + self._items.wait_s(full)

    def _overloaded(self, message: str) -> Overloaded:
        soonest, latest = _RETRY_S
        retry_after_s = min(max(self._items.wait_s(self.depth), soonest), latest)
        return Overloaded(Reason.OVERLOADED, message, retry_after_s=retry_after_s)

    def _leave(self, entries: Sequence[_QueuedItem[Item, Result]]) -> None:
        """Give up whatever of `entries` is not done, and free its places in the queue."""
        # Cancelling a task cancels the very future it awaits, so a cancelled one is gone too.
        gone = {entry for entry in entries if not entry.done.done() or entry.done.cancelled()}
        for entry in entries:
            if entry in gone:
                entry.done.cancel()
            else:
                entry.done.exception()  # marks it as seen: only the first failure is raised
        waiting = [entry for entry in self._queue if entry not in gone]
        dropped = self.depth - len(waiting)
        if dropped:
            self._queue = deque(waiting)
            self._metrics.dropped(self._stage, dropped)
            self._metrics.depth(self._stage, self.depth)

    async def _serve(self) -> None:
        while True:
            while not self._queue:
                if self._closing:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            await self._gather()
            batch = self._take()
            if batch:
                await self._run_batch(batch)

    async def _gather(self) -> None:
        """Wait for company while it is likely to come."""
        until = self._last_end + self._wait_s
        wanted = min(self._last_size, self._max_batch)
        while self.depth < wanted and not self._closing:
            left = until - time.monotonic()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[_QueuedItem[Item, Result]]:
        """The next items, those left out that cannot be answered in time."""
        batch: list[_QueuedItem[Item, Result]] = []
        left: deque[_QueuedItem[Item, Result]] = deque()
        alone = len(self._queue) == 1
        quickest_s = self._batches.idle_s() if alone else self._batches.quickest_s()
        for entry in sorted(self._queue, key=lambda entry: entry.priority):
            deadline = entry.waited_for.current
            remaining = deadline.remaining_s()
            if deadline.passed:
                # The timer of `within` may fire late; the device must not be kept busy for it.
                self._drop(entry, DeadlinePassed())
            elif remaining is not None and remaining < quickest_s:
                message = f"its turn in the {self._stage} stage came too late"
                self._drop(entry, self._overloaded(message))
            elif len(batch) < self._max_batch:
                batch.append(entry)
            else:
                left.append(entry)
        self._queue = left
        self._metrics.depth(self._stage, self.depth)
        return batch

    def _drop(self, entry: _QueuedItem[Item, Result], error: ServiceError) -> None:
        self._metrics.dropped(self._stage, 1)
        if not entry.done.done():
            entry.done.set_exception(error)

    async def _run_batch(self, batch: Sequence[_QueuedItem[Item, Result]]) -> None:
        """Run a batch that was taken; one that does not fit into memory is halved until it does.

        Whoever leaves meanwhile is left out of the halves. An item that does not fit even alone
        fails alone, and its neighbors do not.
        """
        start = self._batch_began = time.monotonic()
        self._metrics.began(self._stage)
        for entry in batch:
            self._metrics.queued(self._stage, start - entry.queued_at)
        succeeded = False
        failure: Exception | None = None
        parts = [list(batch)]
        while parts:
            part = [entry for entry in parts.pop() if not entry.done.done()]
            if not part:
                continue
            try:
                results = await asyncio.get_running_loop().run_in_executor(
                    self._worker, self._attempt, [entry.item for entry in part]
                )
            except Exception as error:
                failure = failure or error
                self._fail(part, error)
                continue
            if results is not None:
                succeeded = True
                for entry, result in zip(part, results, strict=True):
                    if not entry.done.done():
                        entry.done.set_result(result)
            elif len(part) > 1:
                self._metrics.halved(self._stage)
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            else:
                failure = failure or MemoryError(f"no memory for one item in {self._stage}")
                self._fail(part, self._no_memory())
        self._judge(succeeded, failure)
        self._last_end = time.monotonic()
        self._last_size = len(batch)
        seconds = self._last_end - start
        self._metrics.batch(self._stage, len(batch), seconds)
        # The worker is idle here, so nothing else writes it.
        self._metrics.worked(self._stage, self._cpu_s)
        self._cpu_s = 0.0
        self._batch_began = None
        if succeeded:
            self._items.done(len(batch), len(batch), seconds, alone=True)
            self._batches.done(1, len(batch), seconds, alone=len(batch) == 1)

    def _attempt(self, items: Sequence[Item]) -> Sequence[Result] | None:
        """The results of `items`, or None if they do not fit into memory; in the worker thread.

        The error ends here: it holds the attempt's frames, and so its tensors, which the next
        attempt needs the memory of.
        """
        try:
            results, cpu_s = with_cpu(self._run, items)
            self._cpu_s += cpu_s
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            _log.warning("%d items do not fit into memory in %s", len(items), self._stage)
            return None
        if len(results) != len(items):
            raise RuntimeError(f"{len(items)} items gave {len(results)} results")
        return results

    def _fail(self, part: Sequence[_QueuedItem[Item, Result]], error: Exception) -> None:
        for entry in part:
            if not entry.done.done():
                entry.done.set_exception(error)

    def _no_memory(self) -> Overloaded:
        return Overloaded(
            Reason.OVERLOADED,
            f"the {self._stage} stage has no memory for this request now",
            retry_after_s=_MEMORY_RETRY_S,
        )

    def _judge(self, succeeded: bool, failure: Exception | None) -> None:
        """What a batch says of the replica: one that gave any result is not a failure in a row."""
        if failure is None or isinstance(failure, ServiceError):
            # A `ServiceError` is the items' fault, not the engine's.
            self._failures = 0 if succeeded else self._failures
            return
        self._metrics.failed(self._stage)
        _log.error("a batch failed in %s", self._stage, exc_info=failure)
        self._failures = 0 if succeeded else self._failures + 1
        if is_poisoned(failure):
            self._poisoned = True
            self.unhealthy = f"the {self._stage} stage lost its device: {failure}"
        elif self._failures >= self._max_failures:
            self.unhealthy = (
                f"{self._failures} batches in a row failed in {self._stage}: {failure!r}"
            )
