"""Encoded frames on their way from the demuxer to a decoder in another process, as bytes.

A stream is one `GopHeader` and then GOPs in order. A GOP is a key frame and what follows it up to
the next, in decoding order; a long one comes in parts. `Gop.resume_from` names the GOP (or part) at
which a fresh decoder must begin so that this one's frames come out right:

- of a closed GOP, itself;
- of an open GOP, whose leading frames (shown before the key frame, decoded after it) refer to the
  GOP before, that one; the frames it gives on the way are left out by the decoder;
- of a part, what its key frame's GOP begins at.

Frames are numbered from 0 in the order they are shown. Edit lists are applied by the container's
demuxer: frames outside them are decoded and have no number.

Wire format (ours, version 1; all little-endian): a header is `LMH1`, the length of a JSON text and
of the codec's extradata, and both; a GOP is `LMG1`, fixed fields, a table with a row a packet, and
the packets.
"""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from fractions import Fraction
from typing import Any

_HEADER = struct.Struct("<4sII")
_GOP = struct.Struct("<4sBIIIII")
_ROW = struct.Struct("<BqI")
_HEADER_MAGIC = b"LMH1"
_GOP_MAGIC = b"LMG1"

# Flags of a GOP.
_KEY, _DRAINS = 1, 2
# Flags of a packet.
_SHOWN, _WHOLE = 1, 2


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What is known of a video once its first frame has been decoded."""

    container: str
    """mp4 (MOV too), matroska (WebM too), avi, gif or webp."""
    codec: str
    """libavcodec's name, as h264; webp for animated WebP."""
    width: int
    """Of a frame as a viewer shows it, in pixels: rotated, its pixels square."""
    height: int
    coded_width: int
    """Of a frame as it is decoded."""
    coded_height: int
    rotation: int
    """Clockwise degrees from the coded frame to the shown one: 0, 90, 180 or 270."""
    mirrored: bool
    """Whether the frame is mirrored left to right before it is rotated."""
    average_rate: float | None
    """Frames a second, as the container says or its first frames suggest."""
    duration_s: float | None
    """What the container claims."""
    frames: int | None
    """What the container claims."""
    start_s: float
    """The container's time of the first frame; frames' times count from it."""
    pixel_format: str
    """libavutil's name, as yuv420p10le."""
    bit_depth: int
    hdr: str
    """pq or hlg where frames are tone-mapped; empty for standard range."""
    interlaced: bool


@dataclass(frozen=True, slots=True)
class GopHeader:
    """What a decoder must know before the first GOP."""

    info: VideoInfo
    decoder: str
    """libavcodec's decoder, or webp."""
    codec_tag: str
    """The container's four characters for the codec; empty where it has none."""
    extradata: bytes
    time_base: Fraction
    """Seconds a tick, of the times in the GOPs."""
    orientation: int
    """How the coded frame is shown, in Exif's numbers, 1 to 8."""
    pixel_aspect: Fraction
    """Width over height of a coded pixel."""
    reorder_depth: int
    """Frames that the decoder holds back to put them in the order they are shown."""
    by_order: bool
    """The container has no times of showing (AVI): frames are numbered as they come out."""

    def encode(self) -> bytes:
        """The header as bytes, for `decode`."""
        fields = {
            "info": asdict(self.info),
            "decoder": self.decoder,
            "codec_tag": self.codec_tag,
            "time_base": [self.time_base.numerator, self.time_base.denominator],
            "orientation": self.orientation,
            "pixel_aspect": [self.pixel_aspect.numerator, self.pixel_aspect.denominator],
            "reorder_depth": self.reorder_depth,
            "by_order": self.by_order,
        }
        text = json.dumps(fields, separators=(",", ":")).encode()
        return _HEADER.pack(_HEADER_MAGIC, len(text), len(self.extradata)) + text + self.extradata

    @classmethod
    def decode(cls, data: bytes) -> "GopHeader":
        """The header that `encode` wrote.

        Raises:
            ValueError: `data` is not such a header.
        """
        if len(data) < _HEADER.size:
            raise ValueError("a header of a video is cut off")
        magic, text_length, extra_length = _HEADER.unpack_from(data)
        if magic != _HEADER_MAGIC or len(data) != _HEADER.size + text_length + extra_length:
            raise ValueError("not a header of a video")
        try:
            fields: dict[str, Any] = json.loads(data[_HEADER.size : _HEADER.size + text_length])
            fields["info"] = VideoInfo(**fields["info"])
            for name in ("time_base", "pixel_aspect"):
                fields[name] = Fraction(*fields[name])
            return cls(extradata=data[_HEADER.size + text_length :], **fields)
        except (TypeError, KeyError, ZeroDivisionError, AttributeError) as error:
            raise ValueError("not a header of a video") from error


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """One encoded frame. `ticks` is when it is shown, counted from the stream's first frame."""

    data: bytes
    ticks: int
    shown: bool
    """False: decoded for others' sake only (an invisible frame, or outside the edit list)."""
    key: bool = False
    """The container calls it a key frame, which some decoders want to know."""


@dataclass(frozen=True, slots=True)
class Gop:
    """Packets in decoding order, of the frames `first_frame` to `first_frame + frames - 1`."""

    index: int
    """Counted over GOPs and parts from 0."""
    first_frame: int
    first_packet: int
    """Packets of the stream before these."""
    resume_from: int
    """Index of the GOP or part at which a fresh decoder must begin."""
    key: bool
    """It begins with a key frame; False for every part but a GOP's first."""
    drains: bool
    """Nothing that follows refers to it: all its frames come out when it is decoded."""
    packets: Sequence[EncodedPacket]

    @property
    def frames(self) -> int:
        """How many frames have a number."""
        return sum(packet.shown for packet in self.packets)

    @property
    def size(self) -> int:
        """Bytes of the packets."""
        return sum(len(packet.data) for packet in self.packets)

    def order(self) -> list[int]:
        """Positions in `packets` of the frames shown, in the order they are shown."""
        shown = [at for at, packet in enumerate(self.packets) if packet.shown]
        return sorted(shown, key=lambda at: (self.packets[at].ticks, at))

    def encode(self) -> bytes:
        """The GOP as bytes, for `decode`."""
        flags = _KEY * self.key | _DRAINS * self.drains
        fixed = (
            self.index,
            self.first_frame,
            self.first_packet,
            self.resume_from,
            len(self.packets),
        )
        rows = [
            _ROW.pack(_SHOWN * packet.shown | _WHOLE * packet.key, packet.ticks, len(packet.data))
            for packet in self.packets
        ]
        data = [packet.data for packet in self.packets]
        return b"".join((_GOP.pack(_GOP_MAGIC, flags, *fixed), *rows, *data))

    @classmethod
    def decode(cls, data: bytes) -> "Gop":
        """The GOP that `encode` wrote.

        Raises:
            ValueError: `data` is not such a GOP.
        """
        if len(data) < _GOP.size:
            raise ValueError("a GOP is cut off")
        magic, flags, index, first_frame, first_packet, resume_from, count = _GOP.unpack_from(data)
        start = _GOP.size + count * _ROW.size
        if magic != _GOP_MAGIC or len(data) < start:
            raise ValueError("not a GOP")
        packets = []
        for marks, ticks, length in _ROW.iter_unpack(data[_GOP.size : start]):
            shown, whole = bool(marks & _SHOWN), bool(marks & _WHOLE)
            packets.append(EncodedPacket(data[start : start + length], ticks, shown, whole))
            start += length
        if start != len(data):
            raise ValueError("a GOP is not as long as its packets")
        key, drains = bool(flags & _KEY), bool(flags & _DRAINS)
        return cls(index, first_frame, first_packet, resume_from, key, drains, tuple(packets))


# H.264's and HEVC's decoders put at most 16 frames in another order; a part is cut where this many
# packets ahead hold nothing that is shown before what is already in it.
_LOOKAHEAD = 32


@dataclass(frozen=True, slots=True)
class DemuxedPacket:
    """An encoded frame as it comes out of a container, in decoding order."""

    data: bytes
    pts: int
    """When it is shown, in the container's ticks."""
    _: KW_ONLY
    shown: bool
    """Whether it has a frame that is shown."""
    key: bool
    """Whether the container calls it a key frame."""
    begins: bool
    """Whether a GOP begins with it: a key frame, but not every one where all are."""
    fresh: bool
    """Whether it lets nothing after it refer to what is before, as far as the codec tells."""


class GopAssembler:
    """Cuts a stream of packets into GOPs, and long GOPs into parts.

    A GOP comes out when the one after it is known, since whether it `drains` depends on that one.
    """

    def __init__(self, max_packets: int, max_bytes: int) -> None:
        self._max_packets = max_packets
        self._max_bytes = max_bytes
        self._parked: list[DemuxedPacket] = []
        self._parked_bytes = 0
        self._held: tuple[int, int, int, int, bool, tuple[EncodedPacket, ...]] | None = None
        self._index = 0
        self._frames = 0
        self._packets = 0
        # Where the GOP of the last key frame begins, and where a decoder of it must.
        self._key_index = 0
        self._key_resume = 0
        self.origin: int | None = None
        """The time of the first frame shown, in the container's ticks; None before it is known."""

    @property
    def pending_bytes(self) -> int:
        """What is kept until more is known."""
        return self._parked_bytes

    def push(self, packet: DemuxedPacket) -> list[Gop]:
        """Take the next packet in decoding order; the GOPs that are complete now.

        What comes before the first key frame cannot be decoded and is left out.
        """
        done: list[Gop] = []
        if not self._parked and not packet.begins and self._packets == 0:
            return done
        if packet.begins and self._parked:
            done += self._emit(len(self._parked))
        self._parked.append(packet)
        self._parked_bytes += len(packet.data)
        while (cut := self._split()) is not None:
            done += self._emit(cut)
        return done

    def finish(self) -> list[Gop]:
        """The GOPs that are left at the end of the stream."""
        done = self._emit(len(self._parked)) if self._parked else []
        if self._held is not None:
            done.append(Gop(*self._held[:5], True, self._held[5]))
            self._held = None
        return done

    def _split(self) -> int | None:
        """Before which packet to cut what is parked, if there is too much of it."""
        over = len(self._parked) - _LOOKAHEAD
        if over < 1 or (over < self._max_packets and self._parked_bytes < 2 * self._max_bytes):
            return None
        # The longest part within both bounds that ends where the order of showing may be cut.
        size, most = 0, 0
        for packet in self._parked[: min(over, self._max_packets)]:
            size += len(packet.data)
            if most and size > self._max_bytes:
                break
            most += 1
        ahead: float = min(packet.pts for packet in self._parked[most:])
        latest = [-math.inf]
        for packet in self._parked[:most]:
            latest.append(max(latest[-1], packet.pts))
        for cut in range(most, 0, -1):
            if latest[cut] < ahead:
                return cut
            ahead = min(ahead, self._parked[cut - 1].pts)
        return most  # times that no encoder gives: the order of the frames will be wrong

    def _emit(self, count: int) -> list[Gop]:
        """Makes a GOP of the first `count` packets and gives back the one before it."""
        packets, self._parked = self._parked[:count], self._parked[count:]
        self._parked_bytes -= sum(len(packet.data) for packet in packets)
        first = packets[0]
        begins = first.begins
        shown = [packet.shown for packet in packets]
        if begins:
            leading = any(packet.shown and packet.pts < first.pts for packet in packets)
            closed = first.fresh and not leading
            if self._index == 0:
                # Its leading frames refer to what is not there.
                shown = [packet.shown and packet.pts >= first.pts for packet in packets]
                closed = True
            self._key_resume, self._key_index = (
                self._index if closed else self._key_index,
                self._index,
            )
        resume = self._key_resume
        if self.origin is None and any(shown):
            self.origin = min(p.pts for p, s in zip(packets, shown, strict=True) if s)
        origin = self.origin if self.origin is not None else first.pts
        made = tuple(
            EncodedPacket(packet.data, packet.pts - origin, is_shown, packet.key)
            for packet, is_shown in zip(packets, shown, strict=True)
        )
        done: list[Gop] = []
        if self._held is not None:
            done.append(Gop(*self._held[:5], resume == self._index, self._held[5]))
        self._held = (self._index, self._frames, self._packets, resume, begins, made)
        self._index += 1
        self._frames += sum(shown)
        self._packets += count
        return done
