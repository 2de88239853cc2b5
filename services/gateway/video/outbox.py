"""Messages on their way to a client: in order, as many as it takes, kept until it has them.

An outbox outlives the calls of its stream: what a client that comes back has not got is sent again.
It holds few messages that were never sent, so that whoever makes them waits for a slow client.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeAlias

from limelight.v1 import video_pb2
from services.errors import InvalidRequest, Reason
from services.gateway.video.reading import CONFIG

# Messages that may wait to be sent for the first time.
WAITING = 4

Response: TypeAlias = video_pb2.TrackVideoResponse


@dataclass(slots=True)
class _Entry:
    message: Response
    frame: int | None
    size: int
    sent: bool = False


class Outbox:
    """The messages of one stream.

    Args:
        window: frames that may be under way to the client; 0: as many as the connection takes.
        kept_bytes: of sent messages that are kept for a client that gives no credits.
    """

    def __init__(self, window: int, kept_bytes: int) -> None:
        self._window = window
        self._kept_bytes = kept_bytes
        self._entries: deque[_Entry] = deque()
        self._next = 0
        """Index in `_entries` of the next to send."""
        self._sent_bytes = 0
        self._under_way = 0
        self._given_up = -1
        """The last frame that was sent and is no longer kept."""
        self._skipped_to = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._failure: Exception | None = None
        self._lifted = False

    @property
    def done(self) -> bool:
        """Whether the last message was sent."""
        return self._ended and self._next == len(self._entries)

    @property
    def waits_for_credits(self) -> bool:
        """Whether a frame cannot go out before the client says that it took others."""
        return self._blocked() and self._next < len(self._entries)

    @property
    def kept_bytes(self) -> int:
        """Bytes of all messages that are here."""
        return sum(entry.size for entry in self._entries)

    async def put(self, message: Response, frame: int | None = None) -> None:
        """Add a message, that of the frame `frame` if it is one's, once there is room."""
        if frame is not None and frame < self._skipped_to:
            return
        await self.room()
        self._entries.append(_Entry(message, frame, message.ByteSize()))
        self._wake()

    async def room(self) -> None:
        """Wait until there is room for another message."""
        while len(self._entries) - self._next >= WAITING:
            await self._wait()

    def end(self) -> None:
        """No other message will come."""
        self._ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """This call ends with `error`, after what can be sent before."""
        self._failure = self._failure or error
        self._wake()

    def poke(self) -> None:
        """Let `messages` look whether there is something to say besides."""
        self._wake()

    def grant(self, credits: int) -> None:
        """The client has taken `credits` more frames."""
        if not self._window:
            return
        credits = min(credits, self._under_way)
        self._under_way -= credits
        while credits:
            entry = self._drop()
            credits -= entry.frame is not None
        self._wake()

    def lift(self) -> None:
        """The client can give no more credits: send as the connection takes it."""
        self._lifted = True
        self._wake()

    def skip_to(self, next_frame: int) -> None:
        """Leave out the frames before `next_frame`: the client has them from elsewhere."""
        self._skipped_to = next_frame
        self._given_up = max(self._given_up, next_frame - 1)

    @property
    def given_up(self) -> int:
        """The last frame that was sent and is no longer kept; -1: none."""
        return self._given_up

    def restart(self, next_frame: int) -> None:
        """A new call of the client, which lacks the frames from `next_frame` on.

        Raises:
            InvalidRequest: they are no longer kept (STREAM_UNKNOWN).
        """
        if next_frame <= self._given_up:
            raise InvalidRequest(
                Reason.STREAM_UNKNOWN,
                f"frame {next_frame} is no longer kept; frames up to {self._given_up} are gone",
                field=CONFIG / "next_frame",
            )
        has = [
            at
            for at, entry in enumerate(self._entries)
            if entry.frame is not None and entry.frame < next_frame
        ]
        for _ in range(has[-1] + 1 if has else 0):
            self._drop()
        self._next = 0
        self._sent_bytes = 0
        self._under_way = 0
        self._failure = None
        self._lifted = False

    @property
    def first_frame(self) -> int | None:
        """The first frame that is kept; None without one."""
        return next((e.frame for e in self._entries if e.frame is not None), None)

    async def messages(self, besides: Callable[[], Response | None]) -> AsyncIterator[Response]:
        """The messages from the next one on, to the last.

        `besides` is asked before each, and at every `poke`, for a message that is not kept.

        Raises:
            Exception: what `fail` was given, as soon as nothing can be sent before it.
        """
        while True:
            extra = besides()
            if extra is not None:
                yield extra
                continue
            if self._next < len(self._entries) and not self._blocked():
                entry = self._entries[self._next]
                self._count(entry)
                yield entry.message
                continue
            if self.done:
                return
            if self._failure is not None:
                raise self._failure
            await self._wait()

    def _count(self, entry: _Entry) -> None:
        entry.sent = True
        self._next += 1
        self._sent_bytes += entry.size
        self._under_way += entry.frame is not None
        if not self._window:
            while self._sent_bytes > self._kept_bytes and self._next > 1:
                self._drop()
        self._wake()

    def _drop(self) -> _Entry:
        entry = self._entries.popleft()
        if self._next:
            self._next -= 1
            self._sent_bytes -= entry.size
        if entry.frame is not None:
            self._given_up = max(self._given_up, entry.frame)
        return entry

    def _blocked(self) -> bool:
        """Whether the next message is a frame that the client has no room for."""
        if not self._window or self._lifted or self._next >= len(self._entries):
            return False
        return self._entries[self._next].frame is not None and self._under_way >= self._window

    def _wake(self) -> None:
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
