"""The iterators that `Client.track` and `AsyncClient.track` give: events out, changes in.

Both move the messages of a `TrackCall`. The media are read beside it, since reading may block (a
pipe, a camera) while changes and credits must go out.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import grpc.aio

from limelight.tracking import TrackCall
from limelight.tracks import TrackingEvent
from limelight.v1 import video_pb2
from limelight.values import (
    AddQuery,
    ConceptQuery,
    DropPhrase,
    ObjectPrompt,
    PromptChange,
    RemoveObject,
    SetObject,
)
from limelight.videos import LivePicture, VideoSource

# What grpcio says of a write that failed, and how long it may take to know why.
_CORE = "Internal error from Core"
_STATUS_S = 2.0

OpenStream: TypeAlias = Callable[[Any, TrackCall], Any]


class _Changing:
    """Changes of what is tracked, while it runs. Those under way when the connection is cut may be
    lost: whoever must know looks at the frames.
    """

    def change(self, change: PromptChange) -> None:
        """Send a change."""
        raise NotImplementedError

    def add(self, query: str | ConceptQuery, at_frame: int | None = None) -> None:
        """Track one concept more, from frame `at_frame` on; None: the next."""
        query = ConceptQuery(query) if isinstance(query, str) else query
        self.change(PromptChange(AddQuery(query), at_frame))

    def drop(self, phrase: str, at_frame: int | None = None) -> None:
        """Track one phrase less, with all that was found by it."""
        self.change(PromptChange(DropPhrase(phrase), at_frame))

    def set_object(self, prompt: ObjectPrompt, at_frame: int | None = None) -> None:
        """Track one object more, or correct the one whose id it has."""
        self.change(PromptChange(SetObject(prompt), at_frame))

    def remove(self, number: int, at_frame: int | None = None) -> None:
        """Track the object with that id no longer."""
        self.change(PromptChange(RemoveObject(number), at_frame))


class Tracking(_Changing):
    """The events of a tracked video, blocking: an iterator, and a context manager that ends the
    call. Changes may come from any thread.

    Attributes:
        resume_token: with which another process could go on; "" before the stream has begun.
        next_frame: the index of the first frame that did not come yet.
        resumed: how often the connection was cut and the stream went on.
    """

    def __init__(self, open_stream: OpenStream, call: TrackCall, source: VideoSource) -> None:
        self._open_stream = open_stream
        self._call = call
        self._source = source
        self._changed = threading.Condition()
        self._outbox: deque[video_pb2.TrackVideoRequest] = deque()
        self._closed = False
        self._failure: BaseException | None = None
        self._stream: Any = None
        self._events = self._run()

    @property
    def resume_token(self) -> str:
        return self._call.resume_token

    @property
    def next_frame(self) -> int:
        return self._call.next_frame

    @property
    def resumed(self) -> int:
        return self._call.resumed

    def change(self, change: PromptChange) -> None:
        with self._changed:
            self._call.change(change)
            self._changed.notify_all()

    def close(self) -> None:
        """End the call, wherever it is; its iterator gives nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            stream = self._stream
        if stream is not None:
            stream.cancel()

    def __iter__(self) -> Iterator[TrackingEvent]:
        return self

    def __next__(self) -> TrackingEvent:
        return next(self._events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> Iterator[TrackingEvent]:
        reading = threading.Thread(target=self._read, name="limelight-media", daemon=True)
        reading.start()
        try:
            while not self._closed:
                number = self._call.calls
                with self._changed:
                    self._outbox.clear()
                    self._stream = self._open_stream(self._requests(number), self._call)
                try:
                    yield from self._responses(self._stream)
                    return
                except grpc.RpcError as exc:
                    if self._failure is not None:
                        raise self._failure from None
                    if self._closed or self._call.done:
                        return
                    with self._changed:
                        delay = self._call.wait_or_raise(exc)
                        self._changed.notify_all()
                finally:
                    self._stream.cancel()
                time.sleep(delay)
        finally:
            self.close()

    def _responses(self, stream: Any) -> Iterator[TrackingEvent]:
        for response in stream:
            with self._changed:
                event = self._call.received(response)
                self._changed.notify_all()
            if event is not None:
                yield event

    def _requests(self, number: int) -> Iterator[video_pb2.TrackVideoRequest]:
        """The messages of one call, in a thread of gRPC's."""
        while True:
            with self._changed:
                while True:
                    if self._closed or self._call.done or number != self._call.calls:
                        return
                    message = self._call.control()
                    if message is None and self._outbox:
                        message = self._outbox.popleft()
                    if message is not None:
                        break
                    self._changed.wait()
            yield message

    def _read(self) -> None:
        """Reads the media into the outbox, in a thread of its own, as credits allow."""
        number = 0
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or self._call.wants_media)
                    if self._closed:
                        return
                    fresh, number = number != self._call.calls, self._call.calls
                    offset = self._call.offset
                if fresh and offset is not None:
                    self._source.go_to(offset)
                message = self._source.read()
                with self._changed:
                    if number == self._call.calls:
                        self._outbox.append(self._call.media(message))
                        self._changed.notify_all()
        except Exception as exc:  # whatever a caller's file or camera raises is the caller's to see
            self._failure = exc
            self.close()
        finally:
            self._source.close()


class AsyncTracking(_Changing):
    """The same for asyncio: an async iterator, and an async context manager."""

    def __init__(
        self,
        open_stream: OpenStream,
        call: TrackCall,
        source: VideoSource,
        pictures: AsyncIterable[LivePicture] | None = None,
    ) -> None:
        self._open_stream = open_stream
        self._call = call
        self._source = source
        self._pictures = None if pictures is None else aiter(pictures)
        self._changed = asyncio.Event()
        self._outbox: deque[video_pb2.TrackVideoRequest] = deque()
        self._over = -1  # number of the last call that has ended
        self._events = self._run()

    @property
    def resume_token(self) -> str:
        return self._call.resume_token

    @property
    def next_frame(self) -> int:
        return self._call.next_frame

    @property
    def resumed(self) -> int:
        return self._call.resumed

    def change(self, change: PromptChange) -> None:
        self._call.change(change)
        self._changed.set()

    async def close(self) -> None:
        """End the call, wherever it is."""
        await self._events.aclose()

    def __aiter__(self) -> AsyncIterator[TrackingEvent]:
        return self

    async def __anext__(self) -> TrackingEvent:
        return await anext(self._events)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self) -> AsyncGenerator[TrackingEvent, None]:
        reading = asyncio.create_task(self._read())
        try:
            while True:
                self._outbox.clear()
                number = self._call.calls
                stream = self._open_stream(self._requests(), self._call)
                reading.add_done_callback(partial(_cancel_failed, stream))
                try:
                    async for response in stream:
                        event = self._call.received(response)
                        self._changed.set()
                        if event is not None:
                            yield event
                    return
                except grpc.aio.AioRpcError as exc:
                    _raise_failure(reading)
                    if self._call.done:
                        return
                    delay = self._call.wait_or_raise(await _true_error(stream, exc))
                    self._changed.set()
                except asyncio.CancelledError:
                    _raise_failure(reading)
                    raise
                finally:
                    stream.cancel()
                    # gRPC would wait for the next message of a call that failed, for good.
                    self._over = number
                    self._changed.set()
                await asyncio.sleep(delay)
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await reading
            self._source.close()

    async def _requests(self) -> AsyncIterator[video_pb2.TrackVideoRequest]:
        number = self._call.calls
        while not self._call.done and self._over < number == self._call.calls:
            message = self._call.control()
            if message is None and self._outbox:
                message = self._outbox.popleft()
            if message is None:
                await self._wait()
            else:
                yield message

    async def _read(self) -> None:
        """Reads the media into the outbox as credits allow."""
        number = 0
        while True:
            while not self._call.wants_media:
                await self._wait()
            fresh, number = number != self._call.calls, self._call.calls
            if fresh and self._call.offset is not None:
                await asyncio.to_thread(self._source.go_to, self._call.offset)
            message = await self._next()
            if number == self._call.calls:
                self._outbox.append(self._call.media(message))
                self._changed.set()

    async def _next(self) -> video_pb2.TrackVideoRequest | None:
        if self._pictures is None or self._source.repeats:
            return await asyncio.to_thread(self._source.read)
        picture = await anext(self._pictures, None)
        return None if picture is None else await asyncio.to_thread(self._source.picture, picture)

    async def _wait(self) -> None:
        """Until something has changed; each waiter looks for itself what."""
        self._changed.clear()
        await self._changed.wait()


async def _true_error(stream: Any, exc: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
    """How the call ended. grpcio says INTERNAL when it was writing as the status arrived, and has
    the status itself a little later (tried with grpcio 1.85).
    """
    if not _is_cores(exc.code(), exc.details()):
        return exc
    until = time.monotonic() + _STATUS_S
    while _is_cores(code := await stream.code(), details := await stream.details()):
        if time.monotonic() > until:
            code, details = grpc.StatusCode.UNAVAILABLE, "the connection was lost while writing"
            break
        await asyncio.sleep(0.01)
    return grpc.aio.AioRpcError(
        code, exc.initial_metadata(), await stream.trailing_metadata(), details
    )


def _is_cores(code: grpc.StatusCode, details: str | None) -> bool:
    return code is grpc.StatusCode.INTERNAL and (details or "").startswith(_CORE)


def _raise_failure(reading: "asyncio.Task[None]") -> None:
    if reading.done() and not reading.cancelled() and (failure := reading.exception()):
        raise failure


def _cancel_failed(stream: Any, task: "asyncio.Task[None]") -> None:
    """End a call whose media cannot be read."""
    if not task.cancelled() and task.exception() is not None:
        stream.cancel()
