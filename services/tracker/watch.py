"""Whether a session's caller is still there: what is opened ends when nothing happens for too long.

A caller may vanish without a word, and then its session would hold memory and a place for ever. It
shows that it is there by sending a step, or by taking an answer that is ready.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from services.errors import Idle, Reason

T = TypeVar("T")


class IdleWatch:
    """Watches one session.

    Args:
        idle_s: how long nothing may happen.
        expire: called, once, when an answer was not taken for so long: the session's handler is
            held up with its answer then, so somebody else must free what it holds.
    """

    def __init__(self, idle_s: float, expire: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._idle_s = idle_s
        self._expire = expire
        self._ending: asyncio.Task[None] | None = None

    async def steps(self, steps: AsyncIterator[T]) -> AsyncIterator[T]:
        """The steps as they come.

        Raises:
            Idle: none came for too long.
        """
        while True:
            try:
                async with asyncio.timeout(self._idle_s) as timer:
                    step = await anext(steps)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not timer.expired():
                    raise
                raise self._idle("no request came") from None
            yield step

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Around the `yield` of an answer.

        Raises:
            Idle: it was taken, but too late.
        """
        timer = asyncio.get_running_loop().call_later(self._idle_s, self._end)
        try:
            yield
        finally:
            timer.cancel()
        if self._ending is not None:
            raise self._idle("no answer was taken")

    def _end(self) -> None:
        self._ending = asyncio.create_task(self._expire())

    def _idle(self, what: str) -> Idle:
        return Idle(Reason.STREAM_IDLE, f"{what} for {self._idle_s:g} s")
