"""What a worker does with a video file, which is read, demuxed and decoded in no other process.

Runs in workers (`services.isolation`), one to a video and a purpose; nothing of gRPC is imported.
The file stays with the gateway (`services.gateway.video.workers`), which may not have all of it:
its bytes are asked for. What is answered is plain, with the processor seconds it took.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from limelight.paths import FieldPath
from limelight.values import TimeRange
from services.codecs.videos.decode import VideoDecoder, decode_key_frame
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.gops import Gop, GopHeader
from services.codecs.videos.limits import Stop, VideoLimits, never
from services.codecs.videos.selection import FrameSelection
from services.codecs.videos.spool import GrowingReader
from services.errors import InvalidMedia
from services.gateway.rendering import key_picture
from services.gateway.video.cuts import LOOK_SIDE, CutWatch
from services.isolation.zygote import ask

P = ParamSpec("P")
R = TypeVar("R")

Picture = tuple[int, bytes]
"""A frame's number, and the frame as the planner sees it."""

# What the gateway answers.
READ, END, FINISHED = "read", "end", "finished"
# Asked for at once: a question takes a tenth of a millisecond.
_READ_BYTES = 1 << 18

_giver: "_Giver | None" = None
"""In a worker that gives the groups of a video, what does."""


@dataclass(frozen=True, slots=True)
class VideoWish:
    """What is wanted of a file.

    Attributes:
        limits: what it may be.
        field: what errors name.
        range: the part that is tracked.
        stride: of the frames that are.
        max_side: of pictures.
    """

    limits: VideoLimits
    field: FieldPath
    range: TimeRange
    stride: int
    max_side: int


class AskedFile:
    """A growing file that the gateway has: what `Spool` is there."""

    @property
    def finished(self) -> bool:
        """Whether the last byte has come."""
        return bool(ask(FINISHED))

    def reader(self, *, stop: Stop = never) -> "AskedReader":
        """A reader at the first byte. Whoever no longer wants it ends the process."""
        return AskedReader()


class AskedReader(GrowingReader):
    """Reads what the gateway holds."""

    def __init__(self) -> None:
        super().__init__()
        self._held = b""
        self._held_at = 0

    def read(self, length: int) -> bytes:
        """At most `length` bytes, at least one before the end of the file.

        Raises:
            ServiceError: what the file was failed with.
        """
        within = self._at - self._held_at
        if not 0 <= within < len(self._held):
            self._held = ask(READ, self._at, _READ_BYTES)
            self._held_at, within = self._at, 0
        data = self._held[within : within + length]
        self._at += len(data)
        return data

    def _end(self) -> int:
        return int(ask(END))


def _timed(function: Callable[P, R]) -> Callable[P, tuple[R, float]]:
    """Answers with the processor seconds as well."""

    def timed(*args: P.args, **kwargs: P.kwargs) -> tuple[R, float]:
        begin = time.process_time()
        result = function(*args, **kwargs)
        return result, time.process_time() - begin

    timed.__qualname__, timed.__module__ = function.__qualname__, function.__module__
    return timed


@_timed
def beginning(wish: VideoWish) -> tuple[bytes, int]:
    """The header, and the group to begin with.

    Raises:
        InvalidMedia, TooLarge: at the field of `wish`.
    """
    with closing(_opened(wish)) as demuxer:
        return demuxer.header.encode(), _first_group(wish, demuxer)


@_timed
def first_picture(wish: VideoWish) -> tuple[bytes, int, Picture | None]:
    """As `beginning`, and the first frame that will be tracked; None: there is none."""
    with closing(_opened(wish)) as demuxer:
        header, group = demuxer.header.encode(), _first_group(wish, demuxer)
        if wish.range.start_s <= 0:  # no group has been read
            return header, group, _decoded(wish, demuxer, group, 0, wish.range, wish.stride)
    with closing(_opened(wish)) as demuxer:
        return header, group, _decoded(wish, demuxer, group, 0, wish.range, wish.stride)


@_timed
def picture_of(wish: VideoWish, frame: int) -> Picture | None:
    """The frame of that number; None where there is none."""
    with closing(_opened(wish)) as demuxer:
        group = _group_where(demuxer, lambda gop: frame < gop.first_frame + gop.frames)
    with closing(_opened(wish)) as demuxer:
        return _decoded(wish, demuxer, group, frame, TimeRange(), 1)


@_timed
def begin_items(wish: VideoWish, group: int) -> bytes:
    """Begin to give groups, from `group` on; the header."""
    global _giver
    demuxer = _opened(wish)
    _giver = _Giver(wish, demuxer, group)
    return demuxer.header.encode()


@_timed
def next_item(watch_cuts: bool) -> dict[str, Any]:
    """The next group; the last item has none, but a `warning` of what could not be read.

    Args:
        watch_cuts: whether it is to be told how a new scene looks that begins with it.
    """
    assert _giver is not None
    _giver.watch_cuts = watch_cuts
    return next(_giver.items)


def _opened(wish: VideoWish) -> Demuxer:
    return Demuxer(AskedFile(), wish.limits, field=wish.field)


def _first_group(wish: VideoWish, demuxer: Demuxer) -> int:
    if wish.range.start_s <= 0:
        return 0
    base = float(demuxer.header.time_base)
    return _group_where(demuxer, lambda gop: _latest(gop) * base >= wish.range.start_s)


def _group_where(demuxer: Demuxer, holds: Callable[[Gop], bool]) -> int:
    """Where a decoder must begin for the first group for which `holds`."""
    return next((gop.resume_from for gop in demuxer.gops() if holds(gop)), 0)


def _decoded(
    wish: VideoWish, demuxer: Demuxer, group: int, first_frame: int, part: TimeRange, stride: int
) -> Picture | None:
    """The first frame from `first_frame` on that is in `part`, beginning at `group`."""
    selection = FrameSelection(part.start_s, part.end_s, stride, wish.max_side)
    decoder = VideoDecoder(
        demuxer.header, wish.limits, selection, first_frame=first_frame, field=wish.field
    )
    for gop in demuxer.gops():
        if gop.index < group:
            continue
        for frame in decoder.decode(gop):
            return frame.index, key_picture(frame.pixels)
    for frame in decoder.flush():
        return frame.index, key_picture(frame.pixels)
    return None


class _Giver:
    """The items of a video, from a group on."""

    def __init__(self, wish: VideoWish, demuxer: Demuxer, group: int) -> None:
        self.watch_cuts = False
        self._watch = CutWatch()
        self.items = self._given(wish, demuxer, group)

    def _given(self, wish: VideoWish, demuxer: Demuxer, group: int) -> Iterator[dict[str, Any]]:
        base = float(demuxer.header.time_base)
        with closing(demuxer):
            for gop in demuxer.gops():
                if gop.index < group:
                    continue
                time_s = _earliest(gop) * base
                if wish.range.end_s is not None and time_s >= wish.range.end_s:
                    yield {"warning": ""}
                    return
                cut = None
                if gop.key and self.watch_cuts:
                    cut = _cut(wish, demuxer.header, gop, self._watch, time_s)
                yield {
                    "group": gop.encode(),
                    "index": gop.index,
                    "first_frame": gop.first_frame,
                    "frames": gop.frames,
                    "size": gop.size,
                    "cut": cut,
                }
            yield {"warning": "" if demuxer.fault is None else demuxer.fault.message}


def _cut(
    wish: VideoWish, header: GopHeader, gop: Gop, watch: CutWatch, time_s: float
) -> Picture | None:
    """What a new scene looks like, if one begins with `gop`."""
    if not watch.due(time_s):
        return None
    limits, field = wish.limits, wish.field
    try:
        look = decode_key_frame(header, gop, limits, max_side=LOOK_SIDE, field=field)
        if not watch.begins_scene(look.pixels, time_s):
            return None
        whole = decode_key_frame(header, gop, limits, max_side=wish.max_side, field=field)
    except InvalidMedia:
        return None  # a damaged key frame: the replica tells what it makes of it
    return whole.index, key_picture(whole.pixels)


def _earliest(gop: Gop) -> float:
    return min((packet.ticks for packet in gop.packets if packet.shown), default=-math.inf)


def _latest(gop: Gop) -> float:
    return max((packet.ticks for packet in gop.packets if packet.shown), default=-math.inf)
