"""Live frames on their way: the latest wins, and which ones it won over is told.

At most `UNANSWERED` frames are with a session; what comes meanwhile waits in one place, where a
later frame takes the place of an earlier one.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

from services.codecs.images import ImageHeader
from services.domain import EncodedFrame, MediaEnd
from services.errors import InvalidMedia, InvalidRequest, Reason
from services.gateway.pixels import PixelWorkers
from services.gateway.rules import TaskRules
from services.gateway.video.reading import FRAME
from services.gateway.video.sources import KeyPicture, LivePoint, SourceItem
from services.gateway.video.tasks import TrackTask
from services.stages import StageTimer

UNANSWERED = 2
# Answered frames that are kept for the planner to look at.
_KEPT = 2

CONTENT = FRAME / "image" / "content"


class LiveSource:
    """The media of one stream that is live.

    Args:
        task: of the stream.
        rules: for each frame's image.
        pixels: decode what the planner is to see.
        timer: of the stream; decoding counts as `picture`.
    """

    def __init__(
        self, task: TrackTask, rules: TaskRules, pixels: PixelWorkers, timer: StageTimer
    ) -> None:
        self._task = task
        self._rules = rules
        self._pixels = pixels
        self._timer = timer
        self._size: ImageHeader | None = None
        self._count = 0
        self._begun = False
        self._latest_s = -float("inf")
        self._first: EncodedFrame | None = None
        self._place: EncodedFrame | None = None
        self._sent: deque[EncodedFrame] = deque()
        self._answered: deque[EncodedFrame] = deque(maxlen=_KEPT)
        self._dropped: list[int] = []
        self._points: deque[LivePoint] = deque()
        """After each frame that came and was neither answered nor passed by one that was."""
        self._point = LivePoint()
        self._ended = False
        self._moved = asyncio.Event()
        self._waiting = 0
        self.media_bytes = 0
        self.frames_given = 0
        self.warning = ""

    @property
    def header(self) -> bytes:
        return b""

    @property
    def starving(self) -> bool:
        return self._waiting > 0 and not self._ended and len(self._sent) < UNANSWERED

    @property
    def frames_expected(self) -> int:
        return 0

    async def chunk(self, content: bytes) -> None:
        raise AssertionError("the intake has no chunks for live input")

    async def frame(self, content: bytes, timestamp_s: float) -> None:
        header = await self._rules.header(content, CONTENT, damaged=False)
        if self._size is None:
            self._size = header
        if (header.width, header.height) != (self._size.width, self._size.height):
            raise InvalidMedia(
                Reason.IMAGE_BAD_SHAPE,
                f"the frame is {header.width}x{header.height}, and those before it "
                f"{self._size.width}x{self._size.height}",
                field=CONTENT,
            )
        if not self._latest_s <= timestamp_s < float("inf"):
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"a frame at {timestamp_s:g} s after one at {self._latest_s:g} s",
                field=FRAME / "timestamp_s",
            )
        self._latest_s = timestamp_s
        self.media_bytes += len(content)
        index, self._count = self._count, self._count + 1
        self._points.append(LivePoint(self._count, self.media_bytes, timestamp_s))
        if index % self._task.stride:
            return
        frame = EncodedFrame(content, index, timestamp_s)
        if not self._begun:
            self._begun = True
            # The planner sees it, so it is tracked whatever comes meanwhile.
            self._first = frame
        else:
            if self._place is not None:
                self._dropped.append(self._place.index)
            self._place = frame
        self._moved.set()

    async def end(self) -> None:
        if not self._count:
            raise InvalidMedia(Reason.VIDEO_MISSING, "there was no frame", field=FRAME)
        self._ended = True
        self._moved.set()

    async def prepare(self) -> None:
        while self._first is None:
            await self._move()

    async def first_picture(self) -> KeyPicture:
        await self.prepare()
        assert self._first is not None
        return await self._picture(self._first)

    async def picture(self, frame_index: int) -> KeyPicture | None:
        for frame in (*self._answered, *self._sent):
            if frame.index == frame_index:
                return await self._picture(frame)
        return None

    async def items(
        self, group: int, *, watch_cuts: Callable[[], bool]
    ) -> AsyncIterator[SourceItem]:
        for again in list(self._sent):
            yield SourceItem(again, first_frame=again.index)
        while True:
            if len(self._sent) < UNANSWERED and (frame := self._taken()) is not None:
                self._sent.append(frame)
                yield SourceItem(frame, first_frame=frame.index)
            elif self._ended and self._first is None and self._place is None:
                yield SourceItem(MediaEnd())
                return
            else:
                await self._move()

    def answered(self, frame_index: int) -> None:
        while self._points and self._points[0].next_index <= frame_index + 1:
            self._point = self._points.popleft()
        while self._sent and self._sent[0].index <= frame_index:
            self._answered.append(self._sent.popleft())
        self._moved.set()

    def live_point(self) -> LivePoint | None:
        return self._point

    def go_on(self, point: LivePoint) -> None:
        self._point = point
        self._count, self.media_bytes = point.next_index, point.media_bytes
        if point.latest_s is not None:
            self._latest_s = point.latest_s

    def dropped(self) -> list[int]:
        dropped, self._dropped = self._dropped, []
        return dropped

    def close(self) -> None:
        self._first = self._place = None
        self._sent.clear()
        self._answered.clear()

    def _taken(self) -> EncodedFrame | None:
        """The next frame to send, if there is one."""
        frame = self._first or self._place
        if frame is self._first:
            self._first = None
        else:
            self._place = None
        return frame

    async def _picture(self, frame: EncodedFrame) -> KeyPicture:
        assert self._size is not None
        begin = time.perf_counter()
        shown = await self._pixels.live_picture(
            frame.content, self._size, self._task.max_side, CONTENT
        )
        self._timer.add("picture", time.perf_counter() - begin)
        return KeyPicture(frame.index, shown)

    async def _move(self) -> None:
        self._waiting += 1
        try:
            self._moved.clear()
            await self._moved.wait()
        finally:
            self._waiting -= 1
