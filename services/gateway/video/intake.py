"""What a client sends after its config: media, which go to the stream's source; changes; credits.

Credits and changes are seen at once. Media wait, at most `MEDIA_WINDOW` messages of them, until the
source takes them, and are given back as credits when it has.

A call that ends while its client writes is one whose status many clients do not learn: gRPC's own
fault in writing comes first (tried with grpcio 1.85). So what else comes is read and dropped until
the client has sent all that it may without a credit, or falls silent.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Protocol

from limelight.paths import FieldPath
from limelight.v1 import video_pb2
from limelight.values import PromptChange
from services.errors import InvalidRequest, Reason
from services.gateway.video.reading import CHUNK, CONFIG, FRAME, read_change
from services.gateway.video.rules import TrackRules

# As the contract says.
MEDIA_WINDOW = 8
MAX_CHUNK_BYTES = 2**20
# How long after the end of the requests a call must still stand for the media to be complete.
HALF_CLOSE_S = 0.25
# How long a client that could write is silent before its call may end, and the most that is waited.
QUIET_S = 0.2
SETTLE_S = 2.0


class MediaSource(Protocol):
    """Where media go."""

    @property
    def media_bytes(self) -> int:
        """Bytes taken."""

    async def chunk(self, content: bytes) -> None:
        """Take the next bytes of a file, once there is room."""

    async def frame(self, content: bytes, timestamp_s: float) -> None:
        """Take the next live frame."""

    async def end(self) -> None:
        """No more media will come. Raises `InvalidMedia` if there were none at all."""


class Intake:
    """One call's messages.

    Args:
        live: whether frames are awaited, instead of chunks.
        source: takes the media.
        rules: for changes.
        changed: told each change.
        granted: told the frames that the client has taken.
        half_closed: told that the client will send nothing more.
        took: told the bytes of each message with media that was taken.
        owing: called when there is enough to give back to be worth a message.
    """

    def __init__(
        self,
        live: bool,
        source: MediaSource,
        rules: TrackRules,
        changed: Callable[[PromptChange], None],
        granted: Callable[[int], None],
        half_closed: Callable[[], None],
        took: Callable[[int], None],
        owing: Callable[[], None],
    ) -> None:
        self._live = live
        self._source = source
        self._rules = rules
        self._changed = changed
        self._granted = granted
        self._half_closed = half_closed
        self._took = took
        self._owing = owing
        self._waiting: deque[video_pb2.TrackVideoRequest | None] = deque()
        self._arrived = asyncio.Event()
        self._owed = 0
        self._under_way = 0
        self._ended = False
        self._closed = False
        self._heard = asyncio.Event()
        self._fault: InvalidRequest | None = None
        self._refused = asyncio.Event()
        self._dropping = False
        self.heard_at = time.monotonic()
        """When the client last sent something."""

    @property
    def hungry(self) -> bool:
        """Whether everything that came was taken, and more could come."""
        return not self._waiting and not self._ended

    @property
    def closed(self) -> bool:
        """Whether the client has closed its side."""
        return self._closed

    @property
    def owes(self) -> bool:
        """Whether credits should be given back, also by a message that holds nothing else."""
        return 2 * self._owed >= MEDIA_WINDOW

    def owed(self) -> int:
        """The credits to give back now; they count as given."""
        credits, self._owed = self._owed, 0
        self._under_way -= credits
        return credits

    async def read(self, requests: AsyncIterator[video_pb2.TrackVideoRequest]) -> None:
        """Take all that the client sends, until it closes its side; `refuse` tells its faults."""
        async for request in requests:
            self.heard_at = time.monotonic()
            self._heard.set()
            try:
                self._take(request)
            except InvalidRequest as fault:
                self._fault = self._fault or fault
                self._refused.set()
        # A connection that breaks looks the same at first, and then the call is canceled.
        await asyncio.sleep(HALF_CLOSE_S)
        self._closed = True
        self._heard.set()
        self._end()
        self._half_closed()

    async def refuse(self) -> None:
        """Wait for a message that may not come, for ever if need be.

        Raises:
            InvalidRequest: of the first such message.
        """
        await self._refused.wait()
        assert self._fault is not None
        raise self._fault

    def drop(self) -> None:
        """Take nothing of what else comes."""
        self._dropping = True
        self._waiting.clear()

    async def settle(self) -> None:
        """Wait until the client writes no more media, as far as that can be known; not for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while not self._ended and self._under_way < MEDIA_WINDOW:
                    self._heard.clear()
                    async with asyncio.timeout(QUIET_S):
                        await self._heard.wait()

    async def feed(self) -> None:
        """Give the media to the source, to their end. Raises what the source says of them."""
        while True:
            while not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            request = self._waiting[0]
            if request is None:
                await self._source.end()
                return
            if self._live:
                await self._source.frame(request.frame.image.content, request.frame.timestamp_s)
            else:
                await self._source.chunk(request.chunk)
            self._waiting.popleft()
            self._took(len(request.chunk) + len(request.frame.image.content))
            self._owed += 1
            if self.owes:
                self._owing()

    def _take(self, request: video_pb2.TrackVideoRequest) -> None:
        """Raises `InvalidRequest` for a message that may not come."""
        kind = request.WhichOneof("step")
        if self._dropping:
            self._under_way += kind in ("chunk", "frame")
            self._ended = self._ended or request.media_end
            return
        if request.credits < 0:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"credits must not be negative, not {request.credits}",
                field=FieldPath(("credits",)),
            )
        if request.credits:
            self._granted(request.credits)
        match kind:
            case "config":
                raise _misplaced("there is one config, and it comes first", CONFIG)
            case "chunk" | "frame":
                self._media(request)
            case "change":
                self._changed(read_change(request.change, self._rules))
            case "media_end" if request.media_end:
                self._end()

    def _media(self, request: video_pb2.TrackVideoRequest) -> None:
        kind, path = ("frame", FRAME) if self._live else ("chunk", CHUNK)
        if request.WhichOneof("step") != kind:
            other = "chunk" if self._live else "frame"
            what = "live input has frames" if self._live else "a video comes in chunks"
            raise _misplaced(what, FieldPath((other,)))
        if self._ended:
            raise _misplaced("the media have ended", path)
        if not self._live and len(request.chunk) > MAX_CHUNK_BYTES:
            raise _misplaced(
                f"a chunk of {len(request.chunk)} bytes; at most {MAX_CHUNK_BYTES}", path
            )
        self._under_way += 1
        if self._under_way > MEDIA_WINDOW:
            raise _misplaced(
                f"more than {MEDIA_WINDOW} requests with media were sent without a credit", path
            )
        self._waiting.append(request)
        self._arrived.set()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._waiting.append(None)
            self._arrived.set()


def _misplaced(message: str, path: FieldPath) -> InvalidRequest:
    return InvalidRequest(Reason.MESSAGE_INVALID, message, field=path)
