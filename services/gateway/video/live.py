"""Live frames on their way: the latest wins, and which ones it won over is told.

At most `UNANSWERED` frames are with a session; what comes meanwhile waits in one place, where a
later frame takes the place of an earlier one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor

from services.codecs.images import ImageHeader
from services.codecs.videos.live import LiveDecoder, LiveFrame
from services.domain import EncodedFrame, MediaEnd
from services.errors import InvalidMedia, InvalidRequest, Reason
from services.gateway.rules import TaskRules
from services.gateway.video.reading import FRAME
from services.gateway.video.sources import BlockingWork, KeyPicture, SourceItem, encoded_picture
from services.gateway.video.tasks import TrackTask

UNANSWERED = 2
# Answered frames that are kept for the planner to look at.
_KEPT = 2

CONTENT = FRAME / "image" / "content"


class LiveSource:
    """The media of one stream that is live.

    Args:
        task: of the stream.
        rules: for each frame's image.
        executor: for what blocks.
    """

    def __init__(self, task: TrackTask, rules: TaskRules, executor: Executor) -> None:
        self._task = task
        self._rules = rules
        self._work = BlockingWork(executor)
        self._size: ImageHeader | None = None
        self._count = 0
        self._latest_s = -float("inf")
        self._first: EncodedFrame | None = None
        self._place: EncodedFrame | None = None
        self._sent: deque[EncodedFrame] = deque()
        self._answered: deque[EncodedFrame] = deque(maxlen=_KEPT)
        self._dropped: list[int] = []
        self._ended = False
        self._moved = asyncio.Event()
        self._waiting = 0
        self.media_bytes = 0
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
        header = self._rules.header(content, CONTENT, damaged=False)
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
        if index % self._task.stride:
            return
        frame = EncodedFrame(content, index, timestamp_s)
        if index == 0:
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
        return await self._work.run(self._picture, self._first)

    async def picture(self, frame_index: int) -> KeyPicture | None:
        for frame in (*self._answered, *self._sent):
            if frame.index == frame_index:
                return await self._work.run(self._picture, frame)
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
        while self._sent and self._sent[0].index <= frame_index:
            self._answered.append(self._sent.popleft())
        self._moved.set()

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

    def _picture(self, frame: EncodedFrame) -> KeyPicture:
        decoder = LiveDecoder(self._rules.image_limits, self._task.max_side, field=CONTENT)
        shown = decoder.decode(LiveFrame(frame.index, frame.timestamp_s, frame.content))
        return encoded_picture(frame.index, shown.pixels)

    async def _move(self) -> None:
        self._waiting += 1
        try:
            self._moved.clear()
            await self._moved.wait()
        finally:
            self._waiting -= 1
