"""Frames decoded ahead, in a thread, while those before them are tracked."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Generic, TypeAlias, TypeVar

from services.stages import with_cpu

T = TypeVar("T")

_END = object()
# An item, or the mark of the end, and the seconds that it took.
_Read: TypeAlias = tuple[Any, float]


class Ahead(Generic[T]):
    """An iterator that blocks, read in a thread and a few items ahead of its reader.

    Args:
        pool: runs it, one item at a time, so that many readers share the threads fairly.
        depth: items that may wait for the reader.
        spent: told the seconds that each item took, and how many of them were of CPU time.
    """

    def __init__(self, pool: Executor, depth: int, spent: Callable[[float, float], None]) -> None:
        self._pool = pool
        self._depth = depth
        self._spent = spent

    async def read(self, items: Iterator[T]) -> AsyncGenerator[tuple[T, float], None]:
        """The items, in order, and the seconds that each took; what the iterator raises is raised
        when its place has come.

        Closing it early waits for the item under way, so that nothing runs in `items` afterwards.
        """
        queue: asyncio.Queue[_Read | Exception] = asyncio.Queue(self._depth)
        reading = asyncio.create_task(self._fill(items, queue))
        try:
            while True:
                read = await queue.get()
                if isinstance(read, Exception):
                    raise read
                item, seconds = read
                if item is _END:
                    return
                yield item, seconds
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _fill(self, items: Iterator[T], queue: asyncio.Queue[_Read | Exception]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            step = loop.run_in_executor(self._pool, _next, items)
            try:
                item, seconds, cpu_s = await asyncio.shield(step)
            except asyncio.CancelledError:
                await asyncio.wait({step})
                raise
            except Exception as exc:
                await queue.put(exc)
                return
            self._spent(seconds, cpu_s)
            await queue.put((item, seconds))
            if item is _END:
                return


def _next(items: Iterator[T]) -> tuple[T | object, float, float]:
    begin = time.perf_counter()
    item, cpu_s = with_cpu(next, items, _END)
    return item, time.perf_counter() - begin, cpu_s
