"""A video's bytes to GOPs: cheap, in the gateway, with one frame decoded to know what it is.

`Demuxer` reads a spool (while it still fills, where the container allows) or a file, and gives a
`GopHeader` and then `Gop`s. MP4, MOV, WebM, Matroska, AVI and GIF are libav's; animated WebP is
read here. Sound, subtitles and all but the first video track that is not a cover are left out.

Decisions:
- A file that is cut off or damaged gives the GOPs up to the fault, and then `Demuxer.fault` holds
  the error; it is raised if not one frame came out. The caller decides whether to tell or to fail.
- A container's claims (duration, frames) are in `VideoInfo` and are not believed.
- Times that run backwards or stand still are moved on by a tick.
"""

import math
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from limelight.paths import FieldPath
from services.codecs.videos import bitstream, geometry, pyav
from services.codecs.videos.containers import (
    SNIFFED_BYTES,
    GuardedFile,
    SeekableFile,
    canvas_of,
    container_of,
)
from services.codecs.videos.gops import DemuxedPacket, Gop, GopAssembler, GopHeader, VideoInfo
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
from services.codecs.videos.spool import GrowingFile
from services.codecs.videos.webp import WebPFile, read_frame
from services.errors import Cancelled, InvalidMedia, Reason, ServiceError, TooLarge

# A table may declare more frames than are allowed if fewer are asked for.
_MAX_SAMPLES = 1_000_000
# In which the first frame must be found.
_PROBED_PACKETS = 64
_PROBED_BYTES = 64 << 20
_HDR = {16: "pq", 18: "hlg"}
# Codecs of key frames alone, of which this many are one GOP.
_INTRA_ONLY = ("mjpeg", "prores", "dnxhd", "huffyuv", "png")
_INTRA_GOP = 8
# Codecs that reorder frames; in AVI, which has no times of showing, they are numbered as they come.
_REORDERING = ("h264", "hevc")


class Demuxer:
    """The GOPs of one video.

    Args:
        source: what to read; a plain file must be seekable and complete.
        limits: what the video may be.
        field: the request's field that errors name.
        stop: asked between packets and while bytes are awaited; True ends with `Cancelled`.

    Raises (from the constructor, which waits for what it must read, and from `gops`):
        InvalidMedia: VIDEO_MISSING, VIDEO_UNSUPPORTED, VIDEO_CORRUPT, VIDEO_BAD_SHAPE.
        TooLarge: VIDEO_TOO_LARGE, VIDEO_TOO_LONG.
        Cancelled: `stop` said so, or the spool was closed.
        ServiceError: what the spool was failed with.
    """

    def __init__(
        self,
        source: GrowingFile | SeekableFile,
        limits: VideoLimits = DEFAULT_VIDEO_LIMITS,
        *,
        field: FieldPath = VIDEO_CONTENT,
        stop: Stop = never,
    ) -> None:
        self._limits = limits
        self._field = field
        self._stop = stop
        self.fault: InvalidMedia | None = None
        """Why the stream ended before the file said so; known after the last GOP."""
        growing = source if isinstance(source, GrowingFile) else None
        file = source.reader(stop=stop) if isinstance(source, GrowingFile) else source
        head = _beginning(file)
        if not head:
            raise InvalidMedia(Reason.VIDEO_MISSING, "the video is empty", field=field)
        name = container_of(head, field)
        file.seek(0)
        self._input: InputContainer | None = None
        self._guard: GuardedFile | None = None
        self._watched: pyav.WatchedFile | None = None
        self._packets: Iterator[DemuxedPacket]
        if name == "webp":
            self._open_webp(file)
        else:
            if (canvas := canvas_of(name, head)) is not None:
                limits.check_size(*canvas, field)
            if name == "mp4":
                file = self._guard = GuardedFile(
                    file,
                    _MAX_SAMPLES,
                    field,
                    lambda: growing is None or growing.finished,
                )
            # Matroska is read in order, without a look at the index that stands at its end.
            self._watched = pyav.WatchedFile(file, seekable=name != "matroska")
            self._open_av(self._watched, name)

    header: GopHeader

    @property
    def info(self) -> VideoInfo:
        """What the video is."""
        return self.header.info

    def close(self) -> None:
        """Give back what libav holds; the source stays open."""
        if self._input is not None:
            self._input.close()
            self._input = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def gops(self, selection: FrameSelection = EVERY_FRAME) -> Iterator[Gop]:
        """The GOPs in order, once; the numbers of GOPs and frames are those of the whole video.

        GOPs before the first that `selection` needs are left out where nothing refers to them, and
        reading stops once its end has passed. The rest of the selection is the decoder's.
        """
        begun = False
        for gop in self._all_gops():
            times = [p.ticks * self.header.time_base for p in gop.packets if p.shown]
            if times and selection.is_past(float(min(times))):
                return
            begun = begun or not (gop.drains and times and float(max(times)) < selection.start_s)
            if begun:
                yield gop

    def _all_gops(self) -> Iterator[Gop]:
        limits = self._limits
        assembler = GopAssembler(limits.max_gop_packets, limits.max_gop_bytes)
        frames = 0
        latest = -math.inf
        try:
            for packet in self._packets:
                if self._stop():
                    raise Cancelled()
                if len(packet.data) > limits.max_packet_bytes:
                    raise TooLarge(
                        Reason.VIDEO_TOO_LARGE,
                        f"a frame of the video has more than {limits.max_packet_bytes} bytes",
                        field=self._field,
                    )
                frames += packet.shown
                limits.check_frames(frames, self._field)
                if packet.shown and assembler.origin is not None:
                    seconds = float((packet.pts - assembler.origin) * self.header.time_base)
                    limits.check_seconds(seconds, self._field)
                for gop in assembler.push(packet):
                    latest = self._checked(gop, latest)
                    yield gop
        except InvalidMedia as fault:
            self.fault = fault
        last = assembler.finish()
        for gop in last:
            latest = self._checked(gop, latest)
        yield from last
        if latest == -math.inf:
            raise self.fault or corrupt("has no frame that can be decoded", self._field)

    def _checked(self, gop: Gop, latest: float) -> float:
        """When the last frame of `gop` is shown, in ticks."""
        ticks = [packet.ticks for packet in gop.packets if packet.shown]
        if not ticks:
            return latest
        self._limits.check_seconds(float(max(ticks) * self.header.time_base), self._field)
        return max(latest, *ticks)

    # --- libav --------------------------------------------------------------------------------

    def _open_av(self, file: pyav.WatchedFile, name: str) -> None:
        with _FaultsNamed(self._field, file):
            self._input = pyav.open_input(file, name, self._limits)
            stream = self._video_stream(self._input)
            if not stream.width or not stream.height:
                raise corrupt("does not say its size", self._field)
            self._limits.check_size(stream.width, stream.height, self._field)
            self._first: list[av.Packet[VideoStream]] = []
            self._av_packets = self._input.demux(stream)
            frame = self._first_frame(stream)
            self.header = self._header_of(stream, name, frame)
        info = self.header.info
        self._limits.check_size(info.coded_width, info.coded_height, self._field)
        self._limits.check_size(info.width, info.height, self._field)
        self._packets = self._demuxed()

    def _video_stream(self, container: InputContainer) -> VideoStream:
        """The first video track that is not a cover; the other tracks are not read."""
        chosen: VideoStream | None = None
        for stream in container.streams:
            if (
                chosen is None
                and isinstance(stream, VideoStream)
                and not stream.disposition & (Disposition.attached_pic | Disposition.still_image)
            ):
                chosen = stream
            else:
                stream.discard = Discard.all
        if not len(container.streams):
            raise corrupt("has no tracks", self._field)
        if chosen is None:
            raise unsupported("has no video track", self._field)
        if chosen.codec_context is None or _codec_of(chosen) not in pyav.DECODERS:
            raise unsupported("is of a codec that is not supported", self._field)
        return chosen

    def _first_frame(self, stream: VideoStream) -> av.VideoFrame:
        """The first frame that can be decoded; the packets before it are kept."""
        context = stream.codec_context
        pyav.limited(context, self._limits, None)
        kept = 0
        for packet in self._av_packets:
            if self._stop():
                raise Cancelled()
            self._first.append(packet)
            kept += packet.size
            try:
                frames = context.decode(packet if packet.size else None)
            except av.FFmpegError:
                frames = []
            if frames:
                return frames[0]
            if len(self._first) > _PROBED_PACKETS or kept > _PROBED_BYTES:
                break
        raise corrupt("has no frame that can be decoded", self._field)

    def _header_of(self, stream: VideoStream, name: str, frame: av.VideoFrame) -> GopHeader:
        context = stream.codec_context
        codec = _codec_of(stream)
        orientation = geometry.orientation_of(pyav.matrix_of(frame))
        rotation, mirrored = geometry.turn_of(orientation)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        size = geometry.squared(frame.width, frame.height, Fraction(aspect))
        width, height = geometry.turned(*size, orientation)
        time_base = Fraction(stream.time_base or Fraction(1, 1000))
        container = self._input
        assert container is not None
        duration: float | None = None
        if stream.duration and stream.duration > 0:
            duration = float(stream.duration * time_base)
        elif name != "mp4" and container.duration and container.duration > 0:
            # libav guesses it from the size of the file where an MP4 does not say.
            duration = container.duration / 1e6
        rate = stream.average_rate
        first = [packet.pts for packet in self._first if packet.pts is not None]
        info = VideoInfo(
            container=name,
            codec=codec,
            width=width,
            height=height,
            coded_width=frame.width,
            coded_height=frame.height,
            rotation=rotation,
            mirrored=mirrored,
            average_rate=float(rate) if rate else None,
            duration_s=duration,
            frames=stream.frames or None,
            start_s=float(min(first) * time_base) if first else 0.0,
            pixel_format=frame.format.name,
            bit_depth=max((part.bits for part in frame.format.components), default=8),
            hdr=_HDR.get(frame.color_trc, ""),
            interlaced=frame.interlaced_frame,
        )
        return GopHeader(
            info=info,
            decoder=pyav.DECODERS[codec],
            codec_tag=_tag_of(context),
            extradata=bytes(context.extradata or b""),
            time_base=time_base,
            orientation=orientation,
            pixel_aspect=Fraction(aspect) if aspect > 0 else Fraction(1),
            reorder_depth=context.reorder_depth,
            by_order=name == "avi" and codec in _REORDERING,
        )

    def _demuxed(self) -> Iterator[DemuxedPacket]:
        codec = self.info.codec
        by_order = self.header.by_order
        every = _INTRA_GOP if codec in _INTRA_ONLY else 1
        number = expected = 0
        step = 1
        if self.info.average_rate:
            step = max(1, round(1 / self.info.average_rate / float(self.header.time_base)))
        # Held back by one: the last packet of a file that is cut off may be a part of one, which
        # libav does not say.
        last: DemuxedPacket | None = None
        try:
            for packet in self._whole_packets():
                data = bytes(packet)
                time = packet.dts if by_order or packet.pts is None else packet.pts
                if time is None or abs(time) > 1 << 60:
                    time = expected
                expected = time + step
                key = packet.is_keyframe
                if last is not None:
                    yield last
                last = DemuxedPacket(
                    data,
                    time,
                    shown=not packet.is_discard and bitstream.is_shown(codec, data),
                    key=key,
                    begins=key and number % every == 0,
                    fresh=key and bitstream.is_fresh(codec, data, self.header.extradata),
                )
                number += 1
            if self._guard is not None and self._guard.torn:
                last = None
                raise corrupt("is cut off", self._field)
        except InvalidMedia:
            if last is not None:
                yield last
            raise
        if last is not None:
            yield last

    def _whole_packets(self) -> "Iterator[av.Packet[VideoStream]]":
        """Those that were read to find the first frame, and the rest."""
        waiting = iter(self._first)
        while True:
            with _FaultsNamed(self._field, self._watched):
                packet = next(waiting, None)
                if packet is None:
                    self._first = []
                    packet = next(self._av_packets, None)
            if packet is None:
                return
            if packet.is_corrupt:
                raise corrupt("is cut off", self._field)
            # One without bytes is the end, or AVI's way of showing a frame for longer.
            if packet.size:
                yield packet

    # --- WebP ---------------------------------------------------------------------------------

    def _open_webp(self, file: SeekableFile) -> None:
        webp = WebPFile(file, self._limits, self._field)
        self._limits.check_size(webp.width, webp.height, self._field)
        info = VideoInfo(
            container="webp",
            codec="webp",
            width=webp.width,
            height=webp.height,
            coded_width=webp.width,
            coded_height=webp.height,
            rotation=0,
            mirrored=False,
            average_rate=None,
            duration_s=None,
            frames=None,
            start_s=0.0,
            pixel_format="rgba",
            bit_depth=8,
            hdr="",
            interlaced=False,
        )
        self.header = GopHeader(
            info=info,
            decoder="webp",
            codec_tag="",
            extradata=b"",
            time_base=Fraction(1, 1000),
            orientation=1,
            pixel_aspect=Fraction(1),
            reorder_depth=0,
            by_order=False,
        )
        self._packets = self._unpacked(webp)

    def _unpacked(self, webp: WebPFile) -> Iterator[DemuxedPacket]:
        now = 0
        for number, data in enumerate(webp.packets()):
            try:
                frame = read_frame(data)
            except ValueError as error:
                raise corrupt(f"has {error}", self._field) from error
            key = number == 0 or frame.covers(webp.width, webp.height)
            yield DemuxedPacket(data, now, shown=True, key=key, begins=key, fresh=key)
            now += max(1, frame.duration_ms)


def _beginning(file: SeekableFile) -> bytes:
    head = b""
    while len(head) < SNIFFED_BYTES and (part := file.read(SNIFFED_BYTES - len(head))):
        head += part
    return head


def _codec_of(stream: VideoStream) -> str:
    """libavcodec's name of the codec, whichever of its decoders was taken."""
    return str(stream.codec_context.codec.canonical_name)


def _tag_of(context: av.VideoCodecContext) -> str:
    try:
        tag = context.codec_tag
    except UnicodeDecodeError:
        return ""
    return tag if tag.isprintable() else ""


class _FaultsNamed:
    """Turns what libav raises within the block into `InvalidMedia` (VIDEO_CORRUPT) at `field`.

    Where reading `file` has failed, that failure is what is raised.
    """

    def __init__(self, field: FieldPath, file: pyav.WatchedFile | None) -> None:
        self._field = field
        self._file = file

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._file is not None and self._file.failure is not None:
            raise self._file.failure
        if exc is None or isinstance(exc, ServiceError):
            return
        if isinstance(exc, MemoryError):
            raise TooLarge(
                Reason.VIDEO_TOO_LARGE, "the video is too large to decode", field=self._field
            ) from exc
        if isinstance(exc, PermissionError):
            raise unsupported("refers to another file", self._field) from exc
        if isinstance(exc, Exception):
            detail = getattr(exc, "strerror", None) or type(exc).__name__
            raise corrupt(f"cannot be read: {detail}", self._field) from exc
