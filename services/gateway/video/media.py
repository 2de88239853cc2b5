"""A video file on its way: spooled as it comes, demuxed into groups as sessions take them.

The spool keeps the whole file, so a session that goes on elsewhere has the file demuxed once more
and skips what it has; nothing else is kept for it. What reads or decodes runs in threads.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress
from typing import TypeVar

from limelight.values import TimeRange
from services.codecs.videos.decode import VideoDecoder, decode_key_frame
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.gops import Gop, GopHeader
from services.codecs.videos.limits import Stop, VideoLimits
from services.codecs.videos.selection import FrameSelection
from services.codecs.videos.spool import Spool
from services.domain import MediaEnd, PacketGroup
from services.errors import InvalidMedia, Reason
from services.gateway.video.cuts import LOOK_SIDE, CutWatch
from services.gateway.video.reading import CHUNK, CONFIG
from services.gateway.video.sources import (
    BlockingWork,
    KeyPicture,
    LivePoint,
    SourceItem,
    encoded_picture,
)
from services.gateway.video.tasks import TrackTask

R = TypeVar("R")


class VideoFileSource:
    """The media of one stream that is a file.

    Args:
        task: of the stream.
        limits: what the file may be.
        work: runs what blocks; a stream keeps one thread busy, and at times a second.
        ahead_bytes: taken before sessions can use them.
        held: told by how many bytes what is spooled grows or, below 0, shrinks.
    """

    def __init__(
        self,
        task: TrackTask,
        limits: VideoLimits,
        work: BlockingWork,
        ahead_bytes: int,
        held: Callable[[int], None],
    ) -> None:
        self._task = task
        self._range = task.range or TimeRange()
        self._limits = limits
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
        await self._read("demux", self._prepare)

    async def first_picture(self) -> KeyPicture:
        picture = await self._read("picture", self._first_picture)
        if picture is None:
            raise InvalidMedia(
                Reason.VIDEO_MISSING,
                "no frame of the video is within the range",
                field=CONFIG / "range",
            )
        return picture

    async def picture(self, frame_index: int) -> KeyPicture | None:
        return await self._read("picture", self._picture_of, frame_index)

    async def items(
        self, group: int, *, watch_cuts: Callable[[], bool]
    ) -> AsyncIterator[SourceItem]:
        stopped = asyncio.Event()
        found = self._items(max(group, self._start_group), watch_cuts, stopped.is_set)
        try:
            while True:
                item = await self._read("demux", lambda stop: next(found, None))
                if item is None:
                    break
                yield item
            yield SourceItem(MediaEnd())
        finally:
            stopped.set()

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

    async def _read(self, stage: str, function: Callable[..., R], *args: object) -> R:
        """The result of `function(*args, stop)`, which is told to stop when this is canceled."""
        self._moved.set()
        stopped = asyncio.Event()
        try:
            return await self._work.run(stage, function, *args, stopped.is_set)
        finally:
            stopped.set()

    # --- in threads ---------------------------------------------------------------------------

    def _open(self, stop: Stop) -> Demuxer:
        demuxer = Demuxer(self._spool, self._limits, field=CHUNK, stop=stop)
        self._header = demuxer.header
        return demuxer

    def _prepare(self, stop: Stop) -> None:
        """Read the header, and find the group to begin with."""
        if self._range.start_s > 0:
            self._start_group = self._group_where(
                lambda gop: self._latest_s(gop) >= self._range.start_s, stop
            )
        else:
            self._open(stop).close()

    def _first_picture(self, stop: Stop) -> KeyPicture | None:
        self._prepare(stop)
        return self._decoded(self._start_group, 0, self._range, self._task.stride, stop)

    def _picture_of(self, frame_index: int, stop: Stop) -> KeyPicture | None:
        group = self._group_where(lambda gop: frame_index < gop.first_frame + gop.frames, stop)
        return self._decoded(group, frame_index, TimeRange(), 1, stop)

    def _group_where(self, holds: Callable[[Gop], bool], stop: Stop) -> int:
        """Where a decoder must begin for the first group for which `holds`."""
        with closing(self._open(stop)) as demuxer:
            return next((gop.resume_from for gop in demuxer.gops() if holds(gop)), 0)

    def _decoded(
        self, group: int, first_frame: int, part: TimeRange, stride: int, stop: Stop
    ) -> KeyPicture | None:
        """The first frame from `first_frame` on that is in `part`, beginning at `group`."""
        with closing(self._open(stop)) as demuxer:
            selection = FrameSelection(part.start_s, part.end_s, stride, self._task.max_side)
            decoder = VideoDecoder(
                demuxer.header,
                self._limits,
                selection,
                first_frame=first_frame,
                field=CHUNK,
                stop=stop,
            )
            for gop in demuxer.gops():
                if gop.index < group:
                    continue
                for frame in decoder.decode(gop):
                    return encoded_picture(frame.index, frame.pixels)
            for frame in decoder.flush():
                return encoded_picture(frame.index, frame.pixels)
        return None

    def _items(
        self, group: int, watch_cuts: Callable[[], bool], stop: Stop
    ) -> Iterator[SourceItem]:
        watch = CutWatch()
        with closing(self._open(stop)) as demuxer:
            for gop in demuxer.gops():
                if gop.index < group:
                    continue
                if self._range.end_s is not None and self._earliest_s(gop) >= self._range.end_s:
                    return
                cut = None
                if gop.key and watch_cuts():
                    cut = self._cut(demuxer.header, gop, watch)
                self.frames_given = max(self.frames_given, gop.first_frame + gop.frames)
                if gop.index > self._given[0]:
                    self._given = gop.index, self._given[1] + gop.size
                yield SourceItem(PacketGroup(gop.encode(), gop.index), cut, gop.first_frame)
            if demuxer.fault is not None:
                self.warning = demuxer.fault.message

    def _cut(self, header: GopHeader, gop: Gop, watch: CutWatch) -> KeyPicture | None:
        """What a new scene looks like, if one begins with `gop`."""
        time_s = self._earliest_s(gop)
        if not watch.due(time_s):
            return None
        try:
            look = decode_key_frame(header, gop, self._limits, max_side=LOOK_SIDE, field=CHUNK)
            if not watch.begins_scene(look.pixels, time_s):
                return None
            side = self._task.max_side
            whole = decode_key_frame(header, gop, self._limits, max_side=side, field=CHUNK)
        except InvalidMedia:
            return None  # a damaged key frame: the replica tells what it makes of it
        return encoded_picture(whole.index, whole.pixels)

    def _earliest_s(self, gop: Gop) -> float:
        assert self._header is not None
        ticks = [packet.ticks for packet in gop.packets if packet.shown]
        return float(min(ticks) * self._header.time_base) if ticks else -math.inf

    def _latest_s(self, gop: Gop) -> float:
        assert self._header is not None
        ticks = [packet.ticks for packet in gop.packets if packet.shown]
        return float(max(ticks) * self._header.time_base) if ticks else -math.inf
