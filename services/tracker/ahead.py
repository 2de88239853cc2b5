"""Frames decoded ahead, in a thread, while those before them are tracked."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")

_END = object()


class Ahead(Generic[T]):
    """An iterator that blocks, read in a thread and a few items ahead of its reader.

    Args:
        pool: runs it, one item at a time, so that many readers share the threads fairly.
        depth: items that may wait for the reader.
        spent: told the seconds that each item took.
    """

    def __init__(self, pool: Executor, depth: int, spent: Callable[[float], None]) -> None:
        self._pool = pool
        self._depth = depth
        self._spent = spent

    async def read(self, items: Iterator[T]) -> AsyncGenerator[T, None]:
        """The items, in order; what the iterator raises is raised when its place has come.

        Closing it early waits for the item under way, so that nothing runs in `items` afterwards.
        """
        queue: asyncio.Queue[T | object | Exception] = asyncio.Queue(self._depth)
        reading = asyncio.create_task(self._fill(items, queue))
        try:
            while (item := await queue.get()) is not _END:
                if isinstance(item, Exception):
                    raise item
                yield item  # type: ignore[misc]  # the mark of the end is left out above
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _fill(self, items: Iterator[T], queue: asyncio.Queue[T | object | Exception]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            step = loop.run_in_executor(self._pool, _next, items)
            try:
                item, seconds = await asyncio.shield(step)
            except asyncio.CancelledError:
                await asyncio.wait({step})
                raise
            except Exception as exc:
                await queue.put(exc)
                return
            self._spent(seconds)
            await queue.put(item)
            if item is _END:
                return


def _next(items: Iterator[T]) -> tuple[T | object, float]:
    begin = time.perf_counter()
    item = next(items, _END)
    return item, time.perf_counter() - begin
