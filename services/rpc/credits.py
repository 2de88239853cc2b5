"""Flow control of bidirectional streams by credits, so that neither side buffers without bound.

HTTP/2 bounds the bytes between two gRPC libraries, but Ray Serve's proxy reads a replica's
responses into memory as fast as they are made (tried with Ray Serve 2.60: 200 MB for a client that
had read one message), and requests likewise in some of its modes. So each side spends a credit a
message, and gives credits back for the messages it has taken:

    gateway  --requests: payload, or credits for responses taken, or the finish-->  replica
    gateway  <--responses: payload, with credits for requests taken-------------->  replica

An RPC says by a `FlowControl` which fields of its messages carry this. A handler answers at least
once a window of requests, since credits travel with its responses.

The end is agreed on by both sides. The gateway must be able to give credits back until the last
response, so the end of its requests is a message. And a library that is writing at the moment the
status arrives reports INTERNAL instead of that status (tried with grpcio 1.81), so the replica
says with an empty response that it is done, the gateway closes its side, and only then comes the
status.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from services.errors import InvalidRequest, Reason

M = TypeVar("M")


@dataclass(frozen=True, slots=True)
class FlowControl:
    """How an RPC's messages carry credits.

    Attributes:
        window: messages that either side may send before it gets a credit back.
        acknowledge: makes the request that gives credits back and holds nothing else.
        finish: makes the request that says that no other will come.
        credits_of: the credits that a request or a response gives back, 0 for none.
        give_back: writes the credits for requests taken into a response.
        is_finish: whether a request is the one that `finish` makes.
    """

    window: int
    acknowledge: Callable[[int], Any]
    finish: Callable[[], Any]
    credits_of: Callable[[Any], int]
    give_back: Callable[[Any, int], None]
    is_finish: Callable[[Any], bool]


class Credits:
    """A sender's credits."""

    def __init__(self, initial: int) -> None:
        self._left = initial
        self._granted = asyncio.Event()

    @property
    def left(self) -> int:
        """Messages that may be sent now."""
        return self._left

    def grant(self, count: int) -> None:
        """The receiver has taken `count` more messages."""
        if count > 0:
            self._left += count
            self._granted.set()

    async def spend(self) -> None:
        """Wait until one more message may be sent, and count it as sent."""
        while self._left <= 0:
            self._granted.clear()
            await self._granted.wait()
        self._left -= 1


class Sender(Generic[M]):
    """The gateway's side: an async iterator of the requests to send, each read when there is a
    credit for it, between acknowledgments of the responses that were taken.
    """

    def __init__(self, requests: AsyncIterator[M], flow: FlowControl) -> None:
        self._requests = requests
        self._flow = flow
        self._credits = Credits(flow.window)
        self._taken = 0
        self._acknowledgments: deque[M] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """Send nothing more: the receiver is done, whatever the source still holds."""
        self._closed = True
        self._wake.set()

    def received(self, response: Any) -> None:
        """A response came: take the credits it gives back."""
        self._credits.grant(self._flow.credits_of(response))

    def taken(self) -> None:
        """A response was used: its place is free. Acknowledged half a window at a time."""
        self._taken += 1
        if self._taken * 2 >= self._flow.window:
            self._acknowledgments.append(self._flow.acknowledge(self._taken))
            self._taken = 0
            self._wake.set()

    async def __aiter__(self) -> AsyncIterator[M]:
        upcoming: asyncio.Task[M] | None = asyncio.ensure_future(self._next())
        try:
            while not self._closed:
                if self._acknowledgments:
                    yield self._acknowledgments.popleft()
                    continue
                self._wake.clear()
                waking = asyncio.ensure_future(self._wake.wait())
                waiting = {waking} if upcoming is None else {waking, upcoming}
                try:
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waking.cancel()
                if upcoming is not None and upcoming.done() and not self._closed:
                    try:
                        message = upcoming.result()
                    except StopAsyncIteration:
                        upcoming, message = None, self._flow.finish()
                    else:
                        upcoming = asyncio.ensure_future(self._next())
                    yield message
        finally:
            if upcoming is not None:
                upcoming.cancel()
                with suppress(asyncio.CancelledError, StopAsyncIteration):
                    await upcoming

    async def _next(self) -> M:
        await self._credits.spend()
        return await anext(self._requests)


class Receiver(Generic[M]):
    """The replica's side: an async iterator of the requests, and the credits for its responses.

    Used as a context manager, since it reads ahead: an acknowledgment must be seen while a request
    is worked on. It keeps no more than the sender had credits for.
    """

    def __init__(self, messages: AsyncIterator[M], flow: FlowControl) -> None:
        self._messages = messages
        self._flow = flow
        self._queue: asyncio.Queue[M | Exception | None] = asyncio.Queue()
        self._owed = 0
        self._reading: asyncio.Task[None] | None = None
        self._done = False
        self._credits = Credits(flow.window)

    async def release(self, response: Any) -> None:
        """Wait until `response` may be sent, and give back with it the requests taken so far."""
        await self._credits.spend()
        self._flow.give_back(response, self._owed)
        self._owed = 0

    async def closed(self, timeout_s: float) -> None:
        """Drop what else comes until the sender has closed its side, `timeout_s` at most.

        For after the empty response that says we are done.
        """
        assert self._reading is not None
        self._done = True
        await asyncio.wait({self._reading}, timeout=timeout_s)

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._reading is not None
        self._reading.cancel()
        with suppress(asyncio.CancelledError):
            await self._reading

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> M:
        message = await self._queue.get()
        if message is None:
            raise StopAsyncIteration
        if isinstance(message, Exception):
            raise message
        self._owed += 1
        return message

    async def _read(self) -> None:
        try:
            async for message in self._messages:
                credits = self._flow.credits_of(message)
                if self._done:
                    continue
                if credits:
                    self._credits.grant(credits)
                elif self._flow.is_finish(message):
                    self._queue.put_nowait(None)
                elif self._queue.qsize() < self._flow.window:
                    self._queue.put_nowait(message)
                else:
                    raise InvalidRequest(
                        Reason.OPTION_INVALID,
                        f"more than {self._flow.window} requests were sent without a credit",
                    )
        except Exception as exc:
            self._queue.put_nowait(exc)
        else:
            self._queue.put_nowait(None)
