"""Micro-batches: items of many requests, run together in one worker thread.

The segmenter has two, images for the encoder and (image, query) pairs for the decoder; the planner
has one, of prompts. A batch is taken the moment the worker is free, so a lone request waits for
nobody and batches form while the worker is busy. Who cancels, or whose deadline passes, leaves the
queue at once and is never run.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.deadline import Deadline
from services.errors import DeadlinePassed, Overloaded, Reason, Unavailable
from services.replica.metrics import Metrics
from services.replica.waiting import within

Item = TypeVar("Item")
Result = TypeVar("Result")

# Weight of the newest batch in the running mean of seconds an item, which `retry_after_s` uses.
_NEWEST = 0.3

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    deadline: Deadline
    done: asyncio.Future[Result]
    queued_at: float


class Batcher(Generic[Item, Result]):
    """Runs `run(items)` on batches of at most `max_batch` items, in arrival order.

    Args:
        stage: label of the metrics.
        run: called in the worker thread; gives one result an item, in order. If it raises, the
            items of that batch fail with what it raised, and no others.
        max_batch: items a batch.
        max_queued: items that may wait.
        wait_s: how long to wait for company when the last batch ended just now and held more
            items than wait: callers that were answered together come back together.
        metrics: where queue depth, waits and batch sizes go.
    """

    def __init__(
        self,
        stage: str,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        max_batch: int,
        max_queued: int,
        wait_s: float,
        metrics: Metrics,
    ) -> None:
        self._stage = stage
        self._run = run
        self._max_batch = max_batch
        self._max_queued = max_queued
        self._wait_s = wait_s
        self._metrics = metrics
        self._queue: deque[_Entry[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"batch-{stage}")
        self._loop_task: asyncio.Task[None] | None = None
        self._closing = False
        self._last_size = 0
        self._last_end = 0.0
        self._seconds_per_item = 0.0

    @property
    def depth(self) -> int:
        """Items waiting now."""
        return len(self._queue)

    @property
    def broken(self) -> bool:
        """Whether its loop ended though nobody closed it; never seen, and fatal."""
        return self._loop_task is not None and self._loop_task.done() and not self._closing

    async def submit(self, item: Item, deadline: Deadline) -> Result:
        """The result of `item`; see `submit_all`."""
        return (await self.submit_all([item], deadline))[0]

    async def submit_all(self, items: Sequence[Item], deadline: Deadline) -> list[Result]:
        """The results of `items`, which enter the queue together and may share batches.

        Raises:
            Overloaded: there is no room for all of them; none is queued.
            DeadlinePassed: before all were done.
            Unavailable: the batcher is closing.
            Whatever `run` raised.
        """
        if not items:
            return []
        deadline.check()
        self._admit(len(items))
        loop = asyncio.get_running_loop()
        now = time.monotonic()
        entries = [_Entry(item, deadline, loop.create_future(), now) for item in items]
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

    def _admit(self, count: int) -> None:
        if self._closing:
            raise Unavailable(Reason.DRAINING, "the replica is shutting down")
        # A request larger than the whole queue is let in when nothing waits, or it never would be.
        if self._queue and self.depth + count > self._max_queued:
            self._metrics.shed(self._stage, count)
            backlog_s = self.depth * self._seconds_per_item
            raise Overloaded(
                Reason.OVERLOADED,
                f"too many requests wait for the {self._stage} stage",
                retry_after_s=min(max(backlog_s, 0.1), 30.0),
            )

    def _leave(self, entries: Sequence[_Entry[Item, Result]]) -> None:
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

    def _take(self) -> list[_Entry[Item, Result]]:
        batch: list[_Entry[Item, Result]] = []
        while self._queue and len(batch) < self._max_batch:
            entry = self._queue.popleft()
            if entry.deadline.passed:
                # The timer of `within` may fire late; the device must not be kept busy for it.
                self._metrics.dropped(self._stage, 1)
                entry.done.set_exception(DeadlinePassed())
            else:
                batch.append(entry)
        self._metrics.depth(self._stage, self.depth)
        return batch

    async def _run_batch(self, batch: Sequence[_Entry[Item, Result]]) -> None:
        start = time.monotonic()
        for entry in batch:
            self._metrics.queued(self._stage, start - entry.queued_at)
        items = [entry.item for entry in batch]
        try:
            results = await asyncio.get_running_loop().run_in_executor(
                self._worker, self._run, items
            )
            if len(results) != len(batch):
                raise RuntimeError(f"{len(batch)} items gave {len(results)} results")
        except Exception as error:
            _log.warning("a batch of %d items failed in %s: %r", len(batch), self._stage, error)
            for entry in batch:
                if not entry.done.done():
                    entry.done.set_exception(error)
        else:
            for entry, result in zip(batch, results, strict=True):
                if not entry.done.done():
                    entry.done.set_result(result)
        self._last_end = time.monotonic()
        self._last_size = len(batch)
        seconds = self._last_end - start
        self._metrics.batch(self._stage, len(batch), seconds)
        mean = self._seconds_per_item or seconds / len(batch)
        self._seconds_per_item = mean + _NEWEST * (seconds / len(batch) - mean)
