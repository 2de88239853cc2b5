"""Malformed and hostile videos, made at run time from valid ones by the least change.

Each must end in an error of `services.errors` that names its reason, or give frames that are the
clip's own; none may take long, take memory, or open anything.
"""

import io
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import av
import numpy as np
from PIL import Image

from services.codecs.videos.decode import DecodedFrame, VideoDecoder
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.gops import Gop, GopHeader
from services.codecs.videos.limits import VideoLimits
from services.codecs.videos.spool import Spool
from services.errors import InvalidMedia, Reason, ServiceError, TooLarge
from tests.codecs.videos.clips import KINDS, VPX, X264, Clip, animated_webp, picture, saved

LIMITS = VideoLimits(max_frames=1_000, max_seconds=60, max_pixels=1 << 21, max_side=4096)

LARGE = {Reason.VIDEO_TOO_LARGE}
LONG = {Reason.VIDEO_TOO_LONG}
OTHER = {Reason.VIDEO_UNSUPPORTED}
SPOILED = {Reason.VIDEO_CORRUPT}
SHAPE = {Reason.VIDEO_BAD_SHAPE}

_HUGE = struct.pack(">I", 0x7FFFFFFF)


@dataclass(frozen=True)
class HostileVideo:
    """A file, and how it must end."""

    name: str
    data: bytes
    reasons: frozenset[Reason]
    """With which errors it may be refused."""
    may_pass: bool
    """Whether frames may come out to the end instead: the damage may be where nothing shows it."""


Case = tuple[str, bytes, set[Reason], bool]


def hostile_videos() -> Iterator[HostileVideo]:
    """The whole corpus, in a fixed order; names are unique."""
    for name, data, reasons, may_pass in (
        *_not_videos(),
        *_references(),
        *_cut_off(),
        *_flipped(),
        *_lying_mp4s(),
        *_lying_others(),
        *_bombs(),
        *_shapes(),
        *_changing(),
        *_boundaries(),
        *_moving_pictures(),
        *_clocks(),
        *_locked(),
    ):
        yield HostileVideo(name, data, frozenset(reasons), may_pass)


def through(data: bytes) -> tuple[list[DecodedFrame], ServiceError | None]:
    """What a service would do with it: spool, demux, GOPs as bytes, decode."""
    frames = []
    try:
        with Spool(64 << 20, memory_bytes=1 << 16) as spool:
            for start in range(0, len(data), 1 << 14):
                spool.write(data[start : start + (1 << 14)])
            spool.finish()
            with Demuxer(spool, LIMITS) as demuxer:
                header = GopHeader.decode(demuxer.header.encode())
                decoder = VideoDecoder(header, LIMITS)
                for gop in demuxer.gops():
                    frames += list(decoder.decode(Gop.decode(gop.encode())))
                frames += list(decoder.flush())
                return frames, demuxer.fault
    except (InvalidMedia, TooLarge) as error:
        return frames, error


@cache
def clip(kind: str) -> bytes:
    return animated_webp() if kind == "webp" else KINDS[kind].make()


def noise(seed: int, length: int = 50_000) -> bytes:
    return random.Random(seed).randbytes(length)


def _not_videos() -> Iterator[Case]:
    mp4 = clip("mp4-h264")
    yield "empty", b"", {Reason.VIDEO_MISSING}, False
    yield "one-byte", b"\0", OTHER, False
    yield "text", b"This is not a video.\n" * 100, OTHER, False
    yield "text-as-mp4", b"\0\0\0\x18ftypmp42 and then some text " * 50, SPOILED, False
    yield "zeros", bytes(100_000), OTHER, False
    yield "random", noise(0), OTHER, False
    yield "random-mkv", b"\x1a\x45\xdf\xa3" + noise(1), SPOILED, False
    yield "random-avi", b"RIFF\xff\xff\0\0AVI " + noise(2), SPOILED, False
    yield "random-gif", b"GIF89a" + noise(3), SPOILED | LARGE, False
    yield "random-mp4", struct.pack(">I4s", 50_008, b"moov") + noise(4), SPOILED, False
    yield "jpeg", _jpeg(), OTHER, False
    yield "pdf", b"%PDF-1.7\n" + bytes(1000), OTHER, False
    yield "zip", b"PK\3\4" + mp4, OTHER, False
    yield "svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", OTHER, False
    yield "still-webp", saved([Image.fromarray(picture(1))], "WEBP"), OTHER, False
    yield "sound-only", _sound_only(), OTHER, False
    yield "html-after-ftyp", mp4[:32] + b"<html></html>" * 100, SPOILED, False


def _references() -> Iterator[Case]:
    """What libav would follow to other files and addresses if it chose the format itself."""
    hls = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n"
    yield "hls", hls + b"file:///etc/passwd\n", OTHER, False
    yield "hls-http", hls + b"http://127.0.0.1:9/a.ts\n", OTHER, False
    yield "concat", b"ffconcat version 1.0\nfile '/etc/passwd'\n", OTHER, False
    yield "sdp", b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n", OTHER, False
    yield "dash", b"<?xml version='1.0'?><MPD><BaseURL>file:///etc/</BaseURL></MPD>", OTHER, False
    yield "image-pattern", b"/etc/%03d.png", OTHER, False
    yield "mov-alias", _external_mov(b"alis"), SPOILED | OTHER, True
    yield "mov-url", _external_mov(b"url "), SPOILED | OTHER, True
    yield "mov-redirect", _redirect(), SPOILED | OTHER, False


def _cut_off() -> Iterator[Case]:
    for kind in ("mp4-h264", "mp4-faststart", "mp4-fragmented", "webm-vp9", "mkv-h264"):
        for share in (0.01, 0.1, 0.5, 0.9, 0.999):
            data = clip(kind)
            yield f"{kind}-{share:g}", data[: max(20, int(len(data) * share))], SPOILED, True
    for kind in ("avi-h264", "avi-mjpeg", "gif", "webp", "mov-prores", "mp4-av1"):
        for share in (0.05, 0.6, 0.98):
            data = clip(kind)
            yield f"{kind}-{share:g}", data[: max(20, int(len(data) * share))], SPOILED, True


def _flipped() -> Iterator[Case]:
    kinds = ("mp4-h264", "mp4-fragmented", "mp4-hevc", "webm-vp9", "webm-vp8", "mkv-ffv1",
             "avi-mpeg4", "avi-mjpeg", "gif", "webp", "mp4-av1", "mov-prores")  # fmt: skip
    for kind in kinds:
        for seed in range(3):
            data = flipped(clip(kind), f"{kind}{seed}")
            yield f"flipped-{kind}-{seed}", data, SPOILED | OTHER | LARGE | LONG | SHAPE, True


def flipped(data: bytes, seed: str) -> bytes:
    """`data` with one bit in some 3,000 turned over, none of them in the first 16 bytes."""
    rng = random.Random(seed)
    spoiled = bytearray(data)
    for _ in range(max(3, len(data) // 400)):
        spoiled[rng.randrange(16, len(data))] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def _patched(data: bytes, name: bytes, offset: int, value: bytes) -> bytes:
    """`value` written `offset` bytes after the name of the first table `name`."""
    at = data.index(name) + 4 + offset
    return data[:at] + value + data[at + len(value) :]


def _lying_mp4s() -> Iterator[Case]:
    mp4 = clip("mp4-h264")
    longer = _patched(_patched(mp4, b"mvhd", 16, _HUGE), b"mdhd", 16, _HUGE)
    yield "duration-huge", longer, set(), True
    yield "duration-zero", _patched(mp4, b"mvhd", 16, bytes(4)), set(), True
    yield "declared-frames", _patched(mp4, b"stsz", 8, _HUGE), LONG, False
    constant = struct.pack(">II", 1, 100_000_000)
    yield "constant-size", _patched(mp4, b"stsz", 4, constant), LONG, False
    yield "run-lengths", _patched(mp4, b"stts", 8, _HUGE), LONG, False
    yield "offsets", _patched(mp4, b"ctts", 8, _HUGE), LONG, False
    yield "size-in-container", _patched(mp4, b"avc1", 24, b"\xff\xff\xff\xff"), LARGE, True
    yield "size-zero", _patched(mp4, b"avc1", 24, bytes(4)), SPOILED, True
    yield "chunks-beyond", _patched(mp4, b"stco", 8, _HUGE), SPOILED, False
    yield "no-samples", _patched(mp4, b"stsz", 8, bytes(4)), SPOILED, False
    yield "no-timescale", _patched(mp4, b"mdhd", 12, bytes(4)), SPOILED, True
    yield "timescale-one", _patched(mp4, b"mdhd", 12, struct.pack(">I", 1)), LONG, True
    yield "edits", _edits(mp4, 5000), LONG | SPOILED | LARGE, True
    yield "unknown-codec", mp4.replace(b"avc1", b"xyz1"), OTHER, False
    yield "no-extradata", mp4.replace(b"avcC", b"free"), SPOILED, False
    yield "no-index", mp4.replace(b"moov", b"mdat"), SPOILED, False
    yield "nested", _nested(20_000), SPOILED | OTHER, False
    yield "compressed-index", _compressed(), OTHER, False
    yield "fragment-bomb", _fragment_bomb(clip("mp4-fragmented")), LONG, False
    yield "twice", mp4 + mp4, set(), True
    yield "boxes", mp4[:32] + struct.pack(">I4s", 8, b"free") * 100_000, SPOILED, False


def _lying_others() -> Iterator[Case]:
    webm = clip("webm-vp9")
    at = webm.index(b"\xb0\x81\x60")  # PixelWidth, in one byte: 96
    yield "webm-width", webm[: at + 2] + b"\x7f" + webm[at + 3 :], SPOILED | OTHER, True
    yield "webm-no-cluster", webm[: webm.index(b"\x1f\x43\xb6\x75")], SPOILED, False
    at = webm.index(b"\x44\x89")  # Duration, a double
    endless = webm[: at + 3] + struct.pack(">d", 1e300) + webm[at + 11 :]
    yield "webm-duration", endless, set(), True
    yield "webm-doctype", webm.replace(b"webm", b"evil", 1), SPOILED, True
    avi = clip("avi-mjpeg")
    yield "avi-frames", _patched(avi, b"avih", 20, b"\xff\xff\xff\x7f"), set(), True
    yield "avi-scale-zero", _patched(avi, b"strh", 24, bytes(8)), SPOILED, True
    yield "avi-rate-huge", _patched(avi, b"strh", 24, b"\1\0\0\0\xff\xff\xff\x7f"), set(), True
    yield "avi-rate-tiny", _patched(avi, b"strh", 24, b"\xff\xff\xff\x7f\1\0\0\0"), LONG, False
    yield "avi-size", _patched(avi, b"strf", 8, b"\0\0\1\0\0\0\1\0"), LARGE, True
    yield "avi-no-frames", avi.replace(b"movi", b"junk"), SPOILED, True
    yield "gif-no-frames", clip("gif")[:13] + bytes(768) + b"\x3b", SPOILED, False
    webp = animated_webp()
    yield "webp-no-frames", webp[:44], SPOILED, False
    yield "webp-frame-outside", _patched(webp, b"ANMF", 4, b"\xff\xff\xff"), SPOILED, True
    yield "webp-chunk", webp.replace(b"ANMF", b"ANMF\xff\xff\xff\x7f", 1), SPOILED, False
    yield "webp-spoiled", webp.replace(b"VP8L", b"VP8X"), SPOILED, False


def _bombs() -> Iterator[Case]:
    yield "gif-canvas", gif(60_000, 60_000), LARGE, False
    yield "gif-wide", gif(65_535, 8), LARGE, False
    frame = gif(64, 64, frame=(60_000, 60_000))
    yield "gif-frame", frame, LARGE | SPOILED | OTHER | SHAPE, True
    webp = bytearray(animated_webp())
    webp[24:30] = b"\xff\x3f\0\xff\x3f\0"
    yield "webp-canvas", bytes(webp), LARGE, False
    yield "webp-frames", _many_webp_frames(2_000), LONG, False
    yield "gif-frames", _many_gif_frames(60_000), LONG, False
    yield "mjpeg-canvas", _jpegs_sized(60_000, 60_000, first=0), LARGE | SPOILED, False
    yield "h264-canvas", _h264_sized(), LARGE | OTHER | SPOILED, False


def _shapes() -> Iterator[Case]:
    yield "tiny", gif(4, 4), SHAPE, False
    yield "thread", gif(2000, 8), SHAPE, False
    mp4 = replace(KINDS["mp4-h264"], frames=3, aspect=None).make()
    aspect = mp4.replace(b"btrt" + mp4[mp4.index(b"btrt") + 4 :][:8], _pixel_aspect(60_000, 1))
    yield "pixel-aspect", aspect, SHAPE | LARGE, False


def _changing() -> Iterator[Case]:
    mp4 = clip("mp4-h264")
    yield "changes-mjpeg", _jpegs_sized(96, 64, first=10), OTHER, False
    yield "changes-vp9", _changing_webm(), OTHER, False
    polyglot = b"GIF89a" + mp4
    yield "polyglot", polyglot, SPOILED | OTHER | LARGE | SHAPE, False
    yield "mp4-then-zip", mp4 + b"PK\3\4" + bytes(2000), set(), True
    script = struct.pack(">I4s", 108, b"free") + b"<script>" * 12 + b"1234"
    yield "html-before-mp4", script + mp4, SPOILED, True


def _boundaries() -> Iterator[Case]:
    """Cut off right before, within and after the header of each box or element."""
    for kind in ("mp4-h264", "mp4-faststart", "mp4-fragmented"):
        data = clip(kind)
        at = 0
        for number, (name, size) in enumerate(_boxes(data)):
            if number:
                yield f"{kind}-before-{number}-{name}", data[:at], SPOILED, True
            yield f"{kind}-within-{number}-{name}", data[: at + 6], SPOILED | OTHER, True
            yield f"{kind}-after-{number}-{name}", data[: at + 8], SPOILED | OTHER, True
            at += size
            if number == 4:
                break
    webm = clip("webm-vp9")
    for name, mark in (("tracks", b"\x16\x54\xae\x6b"), ("cluster", b"\x1f\x43\xb6\x75")):
        at = webm.index(mark)
        for cut in (at, at + 2, at + 9):
            yield f"webm-{name}-{cut - at}", webm[:cut], SPOILED, False


def _moving_pictures() -> Iterator[Case]:
    """Another size in the middle of a stream, where nothing but the stream says so."""
    yield "changes-h264", _changing_h264(), OTHER, False
    yield "changes-back", _changing_h264(again=True), OTHER, False
    yield "grows-mjpeg", _jpegs_sized(4096, 4096, first=20), LARGE | OTHER | SPOILED, True
    yield (
        "apng-in-mov",
        clip("mov-png").replace(b"IHDR\0\0\0\x60", b"IHDR\0\xff\xff\xff"),
        (LARGE | OTHER | SPOILED),
        True,
    )
    canvas = bytearray(animated_webp())
    canvas[24:30] = b"\x03\0\0\x03\0\0"  # 4 x 4, and frames of 96 x 64
    yield "webp-canvas-small", bytes(canvas), SPOILED | SHAPE, False


def _clocks() -> Iterator[Case]:
    """Times before zero, times that jump, rates that no camera has."""
    yield "before-zero", _timed_mkv(range(-2000, -400, 40)), set(), True
    yield "far-future", _timed_mkv([40 * n + (1 << 40) for n in range(40)]), SPOILED | LONG, True
    yield (
        "one-jump",
        _timed_mkv([*range(0, 800, 40), *range(3_600_000, 3_600_800, 40)]),
        LONG,
        (False),
    )
    yield "all-at-once", _timed_mkv([n // 20 for n in range(40)]), set(), True
    webm = clip("webm-vp9")
    scale = webm.index(b"\x2a\xd7\xb1\x83") + 4  # nanoseconds a tick, in three bytes
    for name, ticks in (("zero", b"\0\0\0"), ("one", b"\0\0\1"), ("most", b"\xff\xff\xff")):
        data = webm[:scale] + ticks + webm[scale + 3 :]
        yield f"webm-scale-{name}", data, SPOILED | LONG, True
    mp4 = clip("mp4-h264")
    fast = struct.pack(">I", 0x7FFFFFFF)
    yield "timescale-most", _patched(mp4, b"mdhd", 12, fast), SPOILED, True
    yield "steps-of-zero", _patched(mp4, b"stts", 12, bytes(4)), SPOILED | LONG, True
    yield "steps-of-most", _patched(mp4, b"stts", 12, b"\x7f\xff\xff\xff"), LONG | SPOILED, True
    yield (
        "gif-no-delay",
        clip("gif").replace(b"\x21\xf9\4", b"\x21\xf9\4\0\0\0")[:400],
        (SPOILED | LARGE),
        True,
    )
    slow = saved([Image.fromarray(picture(n)) for n in range(3)], "GIF", duration=600_000)
    yield "gif-slow", slow, LONG, True


def _locked() -> Iterator[Case]:
    """What only its owner can play, and what is wrapped in what is not a video."""
    mp4 = clip("mp4-h264")
    yield "encrypted", mp4.replace(b"avc1", b"encv"), OTHER | SPOILED, False
    sinf = _box(b"sinf", _box(b"frma", b"avc1"), _box(b"schm", bytes(4), b"cenc", bytes(4)))
    yield "encrypted-sinf", mp4.replace(b"avc1", b"encv") + sinf, OTHER | SPOILED, True
    large = struct.pack(">I4sQ", 1, b"mdat", 1 << 62)
    yield "atom-of-exabytes", mp4[:32] + large + mp4[32:], SPOILED, False
    yield "atom-smaller-than-itself", mp4[:32] + struct.pack(">I4s", 4, b"moov"), SPOILED, False
    yield "garbage-after-moov", clip("mp4-faststart")[:2200] + noise(7), SPOILED | OTHER, True
    yield "garbage-after-tracks", clip("webm-vp9")[:400] + noise(8), SPOILED, True
    yield "garbage-after-riff", clip("avi-mjpeg")[:600] + noise(9), SPOILED | OTHER, True
    yield "bmp", saved_still("BMP"), OTHER, False
    yield "png", saved_still("PNG"), OTHER, False
    yield "ico-of-sizes", b"\0\0\1\0\xff\xff" + bytes(4000), OTHER, False
    yield "wav", b"RIFF\x24\x10\0\0WAVEfmt " + bytes(4096), OTHER, False
    yield "flac", b"fLaC" + noise(10), OTHER, False
    yield "mp3", b"ID3\4\0\0\0\0\0\0" + noise(11), OTHER, False


# --- how they are made ----------------------------------------------------------------------------


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(1)).save(buffer, "JPEG")
    return buffer.getvalue()


def saved_still(format: str) -> bytes:
    """A picture, where a video is awaited."""
    buffer = io.BytesIO()
    Image.fromarray(picture(1)).save(buffer, format)
    return buffer.getvalue()


def _boxes(data: bytes) -> Iterator[tuple[str, int]]:
    """Name and size of each box at the top of an MP4."""
    at = 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        yield name.decode("ascii"), size
        at += size


def _changing_h264(*, again: bool = False) -> bytes:
    """Annex B in Matroska whose parameter sets change with the second key frame (and once more)."""
    options = X264 | {"bf": "0", "preset": "ultrafast"}
    sizes = [(96, 64), (128, 96), *([(96, 64)] if again else [])]
    parts = [Clip("h264", frames=12, size=size, codec_options=options).make() for size in sizes]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = None
        number = 0
        for part in parts:
            with av.open(io.BytesIO(part), format="h264") as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.time_base = Fraction(1, 25)
                        packet.pts = packet.dts = number
                        packet.duration = 1
                        packet.stream = stream
                        output.mux(packet)
                        number += 1
    return buffer.getvalue()


def _timed_mkv(ticks: Sequence[int]) -> bytes:
    """40 frames shown at these milliseconds, as no encoder would put them."""
    with av.open(io.BytesIO(clip("avi-mjpeg"))) as source:
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        template = source.streams.video[0]
        buffer = io.BytesIO()
        options = {"avoid_negative_ts": "disabled"}
        with av.open(buffer, "w", format="matroska", container_options=options) as output:
            stream = output.add_stream_from_template(template)
            for data, tick in zip(packets, ticks, strict=True):
                packet = av.Packet(data)
                packet.time_base = Fraction(1, 1000)
                packet.pts = packet.dts = tick
                packet.is_keyframe = True
                packet.stream = stream
                output.mux(packet)
    return buffer.getvalue()


def _sound_only() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("aac", rate=44100)
        for number in range(20):
            silence = np.zeros((1, 1024), np.float32)
            frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, 1024 * number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def _external_mov(kind: bytes) -> bytes:
    """A MOV whose samples are in another file."""
    data = clip("mov-h264")
    at = data.index(b"dref") + 16  # the first entry's name, after version, count and its size
    return data[:at] + kind + b"\0\0\0\0" + data[at + 8 :]  # flags 0: not in this file


def _box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", len(body) + 8, name) + body


def _pixel_aspect(across: int, down: int) -> bytes:
    return b"pasp" + struct.pack(">II", across, down)


def _redirect() -> bytes:
    """A reference movie, which sends a player to another file."""
    url = b"file:///etc/passwd\0"
    reference = _box(b"rdrf", bytes(4), b"url ", struct.pack(">I", len(url)), url)
    movie = _box(b"moov", _box(b"rmra", _box(b"rmda", reference)))
    return _box(b"ftyp", b"qt  ", bytes(4)) + movie


def _nested(depth: int) -> bytes:
    sizes = range(8 * depth, 0, -8)
    body = b"".join(struct.pack(">I4s", size, b"udta") for size in sizes)
    return _box(b"ftyp", b"isom", bytes(4)) + _box(b"moov", body)


def _compressed() -> bytes:
    """An index of zlib's, that could grow a thousandfold."""
    packed = zlib.compress(bytes(1 << 20))
    size = struct.pack(">I", 1 << 20)
    cmov = _box(b"cmov", _box(b"dcom", b"zlib"), _box(b"cmvd", size, packed))
    return _box(b"ftyp", b"qt  ", bytes(4)) + _box(b"moov", cmov)


def _edits(data: bytes, count: int) -> bytes:
    """An edit list of `count` times the whole clip, in boxes that are made larger for it."""
    start = data.index(b"elst") - 4
    (size,) = struct.unpack_from(">I", data, start)
    entry = data[start + 16 : start + 28]
    longer = _box(b"elst", bytes(4), struct.pack(">I", count), entry * count)
    out = bytearray(data[:start] + longer + data[start + size :])
    for parent in (b"edts", b"trak", b"moov"):
        at = out.rindex(parent, 0, start + 4) - 4
        (old,) = struct.unpack_from(">I", out, at)
        struct.pack_into(">I", out, at, old + len(longer) - size)
    return bytes(out)


def _fragment_bomb(data: bytes) -> bytes:
    """A run of two billion frames that says nothing of any, and so takes no bytes."""
    at = data.index(b"trun")
    return data[: at + 4] + b"\0\0\0\0" + struct.pack(">I", 0x7FFFFFF0) + data[at + 12 :]


def gif(width: int, height: int, frame: tuple[int, int] | None = None) -> bytes:
    """One frame that fills a GIF of any size, whose pixels end at once."""
    across, down = frame or (width, height)
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + b"\0\0\0\xff\xff\xff\x2c"
        + struct.pack("<HHHHB", 0, 0, across, down, 0)
        + b"\2\2\x44\1\0\x3b"
    )


def _many_gif_frames(count: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 16, 16, 0) + b"\2\2\x44\1\0"
    return head + (b"\x21\xf9\4\4\4\0\0\0" + frame) * count + b"\x3b"


def _many_webp_frames(count: int) -> bytes:
    """The same frame again and again, in a file that says that it goes on."""
    data = animated_webp(2)
    at = data.index(b"ANMF")
    (size,) = struct.unpack_from("<I", data, at + 4)
    frame = data[at : at + 8 + size + size % 2]
    return data[:4] + b"\xff\xff\xff\x7f" + data[8:at] + frame * count


def _jpegs_sized(height: int, width: int, first: int) -> bytes:
    """Motion JPEG whose pictures from `first` on say another size than their container."""
    data = clip("avi-mjpeg")
    at = data.index(b"movi")
    for number in range(40):
        at = data.index(b"\xff\xc0", at + 1)
        if number >= first:
            data = data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
    return data


def _h264_sized() -> bytes:
    """A stream whose parameter sets say another size than its container."""
    options = {"preset": "ultrafast"}
    large = Clip(frames=2, size=(4096, 4096), codec_options=options).make()
    return _patched(large, b"avc1", 24, struct.pack(">HH", 96, 64))


def _changing_webm() -> bytes:
    """VP9 that goes on with the key frames of a clip of another size."""
    parts = [
        Clip("webm", "libvpx-vp9", frames=24, size=size, codec_options=VPX).make()
        for size in ((96, 64), (128, 96))
    ]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="webm") as output:
        stream = None
        for number, part in enumerate(parts):
            with av.open(io.BytesIO(part)) as source:
                stream = stream or output.add_stream_from_template(source.streams.video[0])
                for packet in source.demux(video=0):
                    if packet.size:
                        packet.pts = packet.dts = packet.pts + 960 * number
                        packet.stream = stream
                        output.mux(packet)
    return buffer.getvalue()
