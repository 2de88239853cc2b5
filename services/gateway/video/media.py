"""A video file on its way: spooled as it comes, demuxed into groups as sessions take them.

The spool keeps the whole file, so a session that goes on elsewhere has the file demuxed once more
and skips what it has; nothing else is kept for it. What demuxes or decodes runs in processes of its
own (`workers`, `demuxing`), which ask for the file's bytes; threads wait for them.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from limelight.values import TimeRange
from services.codecs.videos.gops import GopHeader
from services.codecs.videos.limits import VideoLimits
from services.codecs.videos.spool import Spool
from services.domain import MediaEnd, PacketGroup
from services.errors import InvalidMedia, Reason
from services.gateway.video import demuxing
from services.gateway.video.demuxing import VideoWish
from services.gateway.video.reading import CHUNK, CONFIG
from services.gateway.video.sources import (
    BlockingWork,
    KeyPicture,
    LivePoint,
    SourceItem,
)
from services.gateway.video.tasks import TrackTask
from services.gateway.video.workers import VideoWorkers
from services.isolation.pool import WorkerLost

# Processes that are asked where those before ended through no fault of the video.
_TRIES = 3


class VideoFileSource:
    """The media of one stream that is a file.

    Args:
        task: of the stream.
        limits: what the file may be.
        workers: read the file.
        work: runs what blocks; a stream keeps one thread busy, and at times a second.
        ahead_bytes: taken before sessions can use them.
        held: told by how many bytes what is spooled grows or, below 0, shrinks.
    """

    def __init__(
        self,
        task: TrackTask,
        limits: VideoLimits,
        workers: VideoWorkers,
        work: BlockingWork,
        ahead_bytes: int,
        held: Callable[[int], None],
    ) -> None:
        self._task = task
        self._range = task.range or TimeRange()
        self._wish = VideoWish(limits, CHUNK, self._range, task.stride, task.max_side)
        self._workers = workers
        self._work = work
        self._ahead_bytes = ahead_bytes
        self._held = held
        self._held_bytes = 0
        self._moved = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._spool = Spool(limits.max_bytes, field=CHUNK, on_starved=self._starved)
        self._given = (-1, 0)
        """The last group that was given to a session, and the bytes up to its end."""
        self._header: GopHeader | None = None
        self._start_group = 0
        self._closed = False
        self.frames_given = 0
        self.warning = ""

    @property
    def media_bytes(self) -> int:
        return self._spool.size

    @property
    def header(self) -> bytes:
        return b"" if self._header is None else self._header.encode()

    @property
    def starving(self) -> bool:
        return self._spool.starved and not self._closed

    @property
    def frames_expected(self) -> int:
        if self._header is None:
            return 0
        info = self._header.info
        rate, frames = info.average_rate or 0.0, info.frames or 0
        if not frames and info.duration_s:
            frames = round(info.duration_s * rate)
        if self._task.range is not None and rate:
            end_s = min(frames / rate, self._range.end_s or math.inf)
            frames = round(max(0.0, end_s - self._range.start_s) * rate)
        return math.ceil(frames / self._task.stride)

    async def chunk(self, content: bytes) -> None:
        while not self._has_room() and not self._closed:
            self._moved.clear()
            await self._moved.wait()
        if not self._closed:  # what comes after the end of the range is not looked at
            await self._work.run("spool", self._spool.write, content)
            if not self._closed:
                self._note_held(self._spool.size)

    async def frame(self, content: bytes, timestamp_s: float) -> None:
        raise AssertionError("the intake has no live frames for a file")

    async def end(self) -> None:
        if not self._closed:
            await self._work.run("spool", self._spool.finish)

    async def prepare(self) -> None:
        header, self._start_group = await self._alone("demux", demuxing.beginning)
        self._opened(header)

    async def first_picture(self) -> KeyPicture:
        found = await self._alone("picture", demuxing.first_picture)
        header, self._start_group, picture = found
        self._opened(header)
        if picture is None:
            raise InvalidMedia(
                Reason.VIDEO_MISSING,
                "no frame of the video is within the range",
                field=CONFIG / "range",
            )
        return KeyPicture(*picture)

    async def picture(self, frame_index: int) -> KeyPicture | None:
        picture = await self._alone("picture", demuxing.picture_of, frame_index)
        return None if picture is None else KeyPicture(*picture)

    async def items(
        self, group: int, *, watch_cuts: Callable[[], bool]
    ) -> AsyncIterator[SourceItem]:
        group = max(group, self._start_group)
        worker = self._workers.worker(self._spool, self._work)
        begun, tries = False, 0
        try:
            while True:
                self._moved.set()
                try:
                    if not begun:
                        wish = (self._wish, group)
                        self._opened(await worker.run("demux", demuxing.begin_items, *wish))
                        begun = True
                    item = await worker.run("demux", demuxing.next_item, watch_cuts())
                except WorkerLost:
                    begun, tries = False, tries + 1
                    if tries == _TRIES:
                        raise
                    continue
                if "group" not in item:
                    self.warning = item["warning"] or self.warning
                    break
                group, tries = item["index"] + 1, 0
                yield self._item(item)
            yield SourceItem(MediaEnd())
        finally:
            worker.end()

    def _item(self, item: dict[str, Any]) -> SourceItem:
        index, first_frame = item["index"], item["first_frame"]
        self.frames_given = max(self.frames_given, first_frame + item["frames"])
        if index > self._given[0]:
            self._given = index, self._given[1] + item["size"]
        cut = None if item["cut"] is None else KeyPicture(*item["cut"])
        return SourceItem(PacketGroup(item["group"], index), cut, first_frame)

    def answered(self, frame_index: int) -> None:
        pass

    def dropped(self) -> list[int]:
        return []

    def live_point(self) -> LivePoint | None:
        return None

    def go_on(self, point: LivePoint) -> None:
        raise AssertionError("a file is sent again from its beginning")

    def close(self) -> None:
        self._closed = True
        self._moved.set()
        self._spool.close()
        self._note_held(0)

    def _note_held(self, size: int) -> None:
        self._held(size - self._held_bytes)
        self._held_bytes = size

    def _has_room(self) -> bool:
        """A reader that waits must get what it waits for, however much there is already."""
        return self._spool.starved or self._spool.size - self._given[1] < self._ahead_bytes

    def _starved(self) -> None:
        """Let chunks in that a reader, in its thread, waits for."""
        with suppress(RuntimeError):  # the loop has ended before the thread
            self._loop.call_soon_threadsafe(self._moved.set)

    async def _alone(self, stage: str, function: Callable[..., Any], *args: object) -> Any:
        """What a function of `demuxing` answers in a process that is asked nothing else."""
        self._moved.set()
        worker = self._workers.worker(self._spool, self._work)
        try:
            for _ in range(_TRIES - 1):
                with suppress(WorkerLost):
                    return await worker.run(stage, function, self._wish, *args)
            return await worker.run(stage, function, self._wish, *args)
        finally:
            worker.end()

    def _opened(self, header: bytes) -> None:
        self._header = GopHeader.decode(header)
