"""GOPs to frames: uint8 RGB as a viewer shows them, each once, with its number and time.

The segmenter keeps one `VideoDecoder` a stream and gives it the GOPs in order; a fresh one begins
at `Gop.resume_from` of the GOP it is to go on with. The gateway takes `decode_key_frame` to show
the planner something.

Decisions:
- Rotation and mirroring are applied and pixels are made square. Alpha is put on white where the
  codec is a picture's (GIF, PNG, WebP), and ignored elsewhere. Sound is not here.
- 10 bits and more become 8; PQ and HLG are tone-mapped (`color`); other video is taken as
  displayed, by BT.709's matrix for 720 lines and more where the stream names none, else BT.601's.
- Interlaced streams are deinterlaced by yadif, a frame from a frame.
- A stream whose coded frames change size is refused in mid-stream (VIDEO_UNSUPPORTED).
- A frame that cannot be decoded is left out, its number with it, and is counted in `lost`; over
  `VideoLimits.max_lost_frames` the stream is corrupt. What can be shown of a damaged one is.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av
import numpy as np
from av.filter import Graph
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from limelight.paths import FieldPath
from services.codecs.videos import geometry, pyav
from services.codecs.videos.color import tone_mapped
from services.codecs.videos.gops import EncodedPacket, Gop, GopHeader
from services.codecs.videos.limits import (
    DEFAULT_VIDEO_LIMITS,
    VIDEO_CONTENT,
    Stop,
    VideoLimits,
    corrupt,
    never,
    unsupported,
)
from services.codecs.videos.selection import EVERY_FRAME, FrameSelection
from services.codecs.videos.webp import WebPCanvas, on_white
from services.errors import Cancelled, Reason, TooLarge

Rgb = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """One frame of a video."""

    index: int
    """Its number in the whole video, from 0, in the order of showing."""
    time_s: float
    """When it is shown, in seconds from the first frame."""
    pixels: Rgb
    """uint8 (H, W, 3) RGB, C-contiguous."""


class VideoDecoder:
    """Decodes the GOPs of one stream, in order. Not for more than one thread at a time.

    Args:
        header: of the stream.
        limits: what the stream may be; frames before `first_frame` count too.
        selection: which frames come out, and how large.
        first_frame: frames before it are decoded and left out: the first wanted after resuming.
        field: the request's field that errors name.
        stop: asked between packets; True ends with `Cancelled`.

    Raises (from `decode` and `flush`):
        InvalidMedia: VIDEO_CORRUPT, VIDEO_UNSUPPORTED.
        TooLarge: VIDEO_TOO_LARGE, VIDEO_TOO_LONG.
        Cancelled: `stop` said so.
        ValueError: the GOPs are not those of a stream in order, from a key frame on.
    """

    def __init__(
        self,
        header: GopHeader,
        limits: VideoLimits = DEFAULT_VIDEO_LIMITS,
        selection: FrameSelection = EVERY_FRAME,
        *,
        first_frame: int = 0,
        field: FieldPath = VIDEO_CONTENT,
        stop: Stop = never,
    ) -> None:
        info = header.info
        limits.check_size(info.coded_width, info.coded_height, field)
        limits.check_size(info.width, info.height, field)
        self._header = header
        self._limits = limits
        self._selection = selection
        self._first_frame = first_frame
        self._field = field
        self._stop = stop
        self._pictures: _Pictures = (
            _WebPPictures(header, selection.max_side)
            if header.decoder == "webp"
            else _AvPictures(header, limits, selection.max_side, field)
        )
        self._next_gop: int | None = None
        # Frames that are still inside the decoder: number and time by packet.
        self._expected: dict[int, tuple[int, int]] = {}
        self._next_index = 0
        self._ticks = -1
        self._decoded = 0
        self._spent_s = 0.0
        self.lost = 0
        """Frames that could not be decoded so far."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the frames that come out."""
        info = self._header.info
        width, height = geometry.fitted(info.width, info.height, self._selection.max_side)
        return height, width

    @property
    def held(self) -> int:
        """Frames given and not yet out: none after a GOP that drains."""
        return len(self._expected)

    def decode(self, gop: Gop) -> Iterator[DecodedFrame]:
        """The frames that `gop` completes, in order of showing.

        All of its own come out if `gop.drains`; otherwise some come with the next GOP. A caller
        that lets a window of GOPs be under way must therefore allow at least two.
        """
        if self._next_gop is None:
            if not gop.key:
                raise ValueError("a fresh decoder begins at a key frame")
            self._next_index = gop.first_frame
        elif gop.index != self._next_gop:
            raise ValueError(f"GOP {gop.index} after GOP {self._next_gop - 1}")
        self._next_gop = gop.index + 1
        for at, number in zip(gop.order(), range(gop.first_frame, 1 << 62), strict=False):
            self._expected[gop.first_packet + at] = (number, gop.packets[at].ticks)
        self._limits.check_frames(gop.first_frame + gop.frames, self._field)
        for number, packet in enumerate(gop.packets, start=gop.first_packet):
            yield from self._taken(self._timed(number, packet))
        if gop.drains:
            yield from self._drained()

    def flush(self) -> Iterator[DecodedFrame]:
        """What is left after the last GOP; nothing if that one drained."""
        yield from self._drained()

    def _timed(self, number: int, packet: EncodedPacket) -> Iterator[tuple[int | None, "_Picture"]]:
        if self._stop():
            raise Cancelled()
        if self._spent_s > self._limits.max_decode_seconds:
            raise TooLarge(
                Reason.VIDEO_TOO_LONG,
                f"the video takes more than {self._limits.max_decode_seconds:g} seconds to decode",
                field=self._field,
            )
        started = time.monotonic()
        try:
            found = self._pictures.put(number, packet)
        except (av.FFmpegError, ValueError):
            found = []
        self._spent_s += time.monotonic() - started
        yield from found

    def _drained(self) -> Iterator[DecodedFrame]:
        try:
            left = self._pictures.drain()
        except (av.FFmpegError, ValueError):
            left = []
        yield from self._taken(iter(left))
        gone = [number for number, _ in self._expected.values()]
        self._expected.clear()
        self._lose(gone)
        if gone and not self._decoded:
            raise corrupt("has no frame that can be decoded", self._field)
        self._next_index = max((self._next_index, *(number + 1 for number in gone)))

    def _taken(self, found: Iterator[tuple[int | None, "_Picture"]]) -> Iterator[DecodedFrame]:
        """The frames that pictures of these packets are."""
        info = self._header.info
        for packet, picture in found:
            if (picture.width, picture.height) != (info.coded_width, info.coded_height):
                raise unsupported(
                    f"changes its size to {picture.width}x{picture.height} at frame "
                    f"{self._next_index}",
                    self._field,
                )
            place = self._place(packet)
            if place is None:
                continue
            index, ticks = place
            self._ticks = max(ticks, self._ticks + 1)
            self._decoded += 1
            if self._decoded * info.coded_width * info.coded_height > self._limits.max_total_pixels:
                raise TooLarge(
                    Reason.VIDEO_TOO_LARGE,
                    f"the video has more than {self._limits.max_total_pixels} pixels in all frames",
                    field=self._field,
                )
            seconds = float(self._ticks * self._header.time_base)
            self._limits.check_seconds(seconds, self._field)
            if index < self._first_frame or not self._selection.has(index, seconds):
                continue
            started = time.monotonic()
            pixels = picture.rgb()
            self._spent_s += time.monotonic() - started
            yield DecodedFrame(index, seconds, pixels)

    def _place(self, packet: int | None) -> tuple[int, int] | None:
        """Number and ticks of the picture that came for `packet`; None where it is not shown."""
        if not self._expected:
            return None
        by_number = min(self._expected, key=self._expected.__getitem__)
        if self._header.by_order or packet is None:
            index, ticks = self._expected.pop(by_number)
        elif packet in self._expected:
            index, ticks = self._expected.pop(packet)
        else:
            return None
        if index < self._next_index:
            self._lose([index])
            return None
        if index > self._next_index:
            passed = [key for key, (number, _) in self._expected.items() if number < index]
            self._lose([self._expected.pop(key)[0] for key in passed])
        self._next_index = index + 1
        return index, ticks

    def _lose(self, frames: list[int]) -> None:
        # Before the first frame wanted, leading frames without what they refer to are no loss.
        self.lost += sum(number >= self._first_frame for number in frames)
        if self.lost > self._limits.max_lost_frames:
            raise corrupt(
                f"has more than {self._limits.max_lost_frames} frames that cannot be decoded",
                self._field,
            )


def decode_key_frame(
    header: GopHeader,
    gop: Gop,
    limits: VideoLimits = DEFAULT_VIDEO_LIMITS,
    *,
    max_side: int = 0,
    field: FieldPath = VIDEO_CONTENT,
) -> DecodedFrame:
    """The key frame that `gop` begins with, decoded alone.

    Raises:
        InvalidMedia: it cannot be decoded (VIDEO_CORRUPT).
        ValueError: `gop` is a part that begins with no key frame.
    """
    if not gop.key:
        raise ValueError("a part of a GOP has no key frame")
    first = gop.packets[0]
    if not first.shown:
        # Outside the edit list, or invisible: the first frame that is shown will do.
        decoder = VideoDecoder(header, limits, FrameSelection(max_side=max_side), field=field)
        for frame in decoder.decode(gop):
            return frame
        raise corrupt("has no key frame that can be decoded", field)
    number = gop.first_frame + gop.order().index(0)
    alone = Gop(0, number, gop.first_packet, 0, True, True, (first,))
    decoder = VideoDecoder(header, limits, FrameSelection(max_side=max_side), field=field)
    for frame in decoder.decode(alone):
        return frame
    raise corrupt("has no key frame that can be decoded", field)


# --- pictures -------------------------------------------------------------------------------------


class _Picture(Protocol):
    """A decoded frame that has not become RGB yet; `width` and `height` are the coded ones."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def rgb(self) -> Rgb: ...


class _Pictures(Protocol):
    """A decoder of packets; numbers say which packet a picture came of."""

    def put(self, number: int, encoded: EncodedPacket) -> "list[tuple[int | None, _Picture]]": ...
    def drain(self) -> "list[tuple[int | None, _Picture]]": ...


@dataclass(frozen=True, slots=True)
class _WebPPicture:
    pixels: Rgb
    size: tuple[int, int]

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def rgb(self) -> Rgb:
        if self.size == (self.width, self.height):
            return self.pixels
        return pyav.resized(self.pixels, *self.size)


class _WebPPictures:
    def __init__(self, header: GopHeader, max_side: int) -> None:
        info = header.info
        self._canvas = WebPCanvas(info.coded_width, info.coded_height)
        self._size = geometry.fitted(info.width, info.height, max_side)

    def put(self, number: int, encoded: EncodedPacket) -> list[tuple[int | None, _Picture]]:
        return [(number, _WebPPicture(self._canvas.put(encoded.data), self._size))]

    def drain(self) -> list[tuple[int | None, _Picture]]:
        self._canvas.clear()
        return []


class _AvPictures:
    """libav's decoder. A packet's time is its number, which comes out with the picture."""

    def __init__(
        self, header: GopHeader, limits: VideoLimits, max_side: int, field: FieldPath
    ) -> None:
        context: Any = av.CodecContext.create(header.decoder, "r")
        if header.extradata:
            # PyAV leaves the padding that decoders read beyond the end as it finds it; what was
            # longer and zero leaves zeros there.
            context.extradata = header.extradata + bytes(64)
            context.extradata = header.extradata
        # Some decoders do not find the size in the stream.
        context.width, context.height = header.info.coded_width, header.info.coded_height
        if len(header.codec_tag) == 4:
            context.codec_tag = header.codec_tag
        pyav.limited(context, limits, header.reorder_depth)
        try:
            context.open()
        except av.FFmpegError as error:
            raise corrupt("has a header that its decoder refuses", field) from error
        self._context = context
        self._header = header
        self._show = _Show(header, max_side)
        self._graph: _Deinterlacer | None = None

    def put(self, number: int, encoded: EncodedPacket) -> list[tuple[int | None, _Picture]]:
        packet = av.Packet(
            len(encoded.data)
        )  # libav's own memory: decoders read beyond a packet's end
        packet.update(encoded.data)
        packet.is_keyframe = encoded.key
        packet.pts = packet.dts = number
        return self._found(self._context.decode(packet))

    def drain(self) -> list[tuple[int | None, _Picture]]:
        try:
            found = self._found(self._context.decode(None))
            if self._graph is not None:
                found += self._wrapped(self._graph.drain())
                self._graph = None
            return found
        finally:
            self._context.flush_buffers()
            self._context.reorder_depth = self._header.reorder_depth

    def _found(self, frames: list[av.VideoFrame]) -> list[tuple[int | None, _Picture]]:
        info = self._header.info
        if not info.interlaced:
            return self._wrapped([(frame.pts, frame) for frame in frames])
        found = []
        for frame in frames:
            if (frame.width, frame.height) != (info.coded_width, info.coded_height):
                return self._wrapped([(frame.pts, frame)])
            if self._graph is None:
                self._graph = _Deinterlacer(frame)
            found += self._graph.put(frame)
        return self._wrapped(found)

    def _wrapped(
        self, frames: list[tuple[int | None, av.VideoFrame]]
    ) -> list[tuple[int | None, _Picture]]:
        return [(number, _AvPicture(frame, self._show)) for number, frame in frames]


class _Deinterlacer:
    """yadif, one frame from one frame; frames that are not flagged as interlaced pass."""

    def __init__(self, frame: av.VideoFrame) -> None:
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
        )
        yadif = self._graph.add("yadif", "mode=send_frame:parity=auto:deint=interlaced")
        self._graph.link_nodes(source, yadif, self._graph.add("buffersink")).configure()

    def put(self, frame: av.VideoFrame) -> list[tuple[int | None, av.VideoFrame]]:
        frame.time_base = Fraction(1)
        self._graph.vpush(frame)
        return self._pulled()

    def drain(self) -> list[tuple[int | None, av.VideoFrame]]:
        self._graph.vpush(None)
        return self._pulled()

    def _pulled(self) -> list[tuple[int | None, av.VideoFrame]]:
        found: list[tuple[int | None, av.VideoFrame]] = []
        while True:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return found
            number = None if frame.pts is None else round(frame.pts * (frame.time_base or 1))
            found.append((number, frame))


@dataclass(frozen=True, slots=True)
class _AvPicture:
    frame: av.VideoFrame
    show: "_Show"

    @property
    def width(self) -> int:
        return self.frame.width

    @property
    def height(self) -> int:
        return self.frame.height

    def rgb(self) -> Rgb:
        return self.show.rgb(self.frame)


# libavutil's AVColorSpace to the matrices of libswscale.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
_BT2020_PRIMARIES = 9


class _Show:
    """Makes decoded frames what a viewer shows."""

    def __init__(self, header: GopHeader, max_side: int) -> None:
        info = header.info
        width, height = geometry.fitted(info.width, info.height, max_side)
        # Before it is turned.
        self._size = geometry.turned(width, height, header.orientation)
        self._orientation = header.orientation
        self._hdr = info.hdr
        self._reformatter = VideoReformatter()

    def rgb(self, frame: av.VideoFrame) -> Rgb:
        """uint8 (H, W, 3) of a frame; a new array."""
        layout = frame.format
        if layout.is_rgb and any(part.is_alpha for part in layout.components):
            pixels = on_white(self._converted(frame, "rgba", None))
        else:
            matrix = None
            if not layout.is_rgb:
                default = Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
                matrix = _MATRICES.get(frame.colorspace, default)
            if self._hdr:
                deep = self._converted(frame, "rgb48le", matrix)
                wide = frame.color_primaries == _BT2020_PRIMARIES
                pixels = tone_mapped(deep, self._hdr, wide=wide)
            else:
                pixels = self._converted(frame, "rgb24", matrix)
        return geometry.oriented(pixels, self._orientation)

    def _converted(self, frame: av.VideoFrame, layout: str, matrix: Colorspace | None) -> Any:
        """The samples of a frame as `layout`, at our size; not the decoder's own memory."""
        width, height = self._size
        if width * height < frame.width * frame.height:
            interpolation = Interpolation.AREA
        elif (width, height) == (frame.width, frame.height):
            interpolation = Interpolation.BILINEAR  # of the chroma; others are ten times slower
        else:
            interpolation = Interpolation.BICUBIC
        made = self._reformatter.reformat(
            frame,
            width,
            height,
            layout,
            src_colorspace=matrix,
            dst_color_range=ColorRange.JPEG,
            interpolation=interpolation,
            threads=1,
        )
        samples = made.to_ndarray()
        return samples.copy() if made is frame else samples
