"""What an image file says of itself, read without any decoder.

First stop of every image: `images.probe` and `images.decode` ask `read_header` before Pillow sees a
byte. It knows just enough of each container to find the sizes, the orientation and the parts that
pixels depend on. Only those parts (`Header.essential`) go on to a decoder, so comments, profiles,
thumbnails, later frames and unknown chunks, whose parsers have been slow or worse on crafted files,
are never parsed, and a header that promises more pixels than its bytes can hold is known for it.

Sources: PNG 3rd edition; ITU-T T.81; GIF89a; RFC 9649 (WebP); TIFF 6.0; Exif 2.3; ISO/IEC 14496-12
and 23008-12 (HEIF); Microsoft's BITMAPINFOHEADER.
"""

import math
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from services.errors import Reason

# What is counted below is what a decoder goes through before, or instead of, the pixels.
# Real files have tens of blocks before their pixels, and image data in blocks of 4 KiB and more.
_MAX_BLOCKS = 4096
_MAX_PNG_CHUNKS = 65536
# A GIF of 32 MiB has some 130,000 sub-blocks; what stands before its pixels is small.
_MAX_GIF_SUB_BLOCKS = 1 << 18
_MAX_GIF_PREFIX = 4 << 20
# Each scan makes a JPEG's decoder go over the whole image again. A sequential one has at most one
# a component; libjpeg writes a progressive one with 10, or with 6 a component where it has inks.
_MAX_SCANS = 32
_SCANS_A_COMPONENT = 6
# What further scans may add to the work, in pixels gone over.
_EXTRA_SCAN_PIXELS = 200_000_000

_MAX_JPEG_JUNK = 1 << 16

# The most that a byte of file can hold, generously. JPEG: a block of 64 pixels takes a bit. PNG:
# deflate's limit is 1032. LZW: codes of at least 9 bits, strings of at most 4096.
_JPEG_PIXELS_A_BYTE = 1024
_DEFLATE_RATIO = 1040
_LZW_RATIO = 4096
_FAX_RATIO = 1 << 14  # a bit a row
_MODERN_RATIO = 1 << 15  # LZMA and Zstandard, of a plain picture
# Formats that predict whole pictures have no such limit: a plain one of any size takes a few bytes,
# and as long to decode as any other. Up to an empty frame of 4K they are taken on trust.
_FREE_PIXELS = 1 << 23
_LOSSY_PIXELS_A_BYTE = 1024
_PREDICTED_PIXELS_A_BYTE = 4096
# What an animation's first frame leaves bare of its canvas costs no bytes at all, but as much work.
_BARE_PIXELS = 1 << 22


class Malformed(Exception):
    """The file is none we read, or contradicts itself; `message` completes "the image ..."."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Header:
    """An image as its file declares it, before orientation is applied.

    `declared` are the sizes (width, height) it names: one, or for AVIF and HEIF, where only their
    own libraries can tell which counts, one for each item; `frames` is at least how many there are;
    `orientation` is Exif's, 1 to 8; `min_is_white` marks 16-bit TIFFs whose zero is white;
    `essential` is a file of the same format without what pixels do not need, its ends put right
    where the file was cut after its pixels; `fault` says which pixels it has not, as far as that
    can be seen without decoding, and is empty where it has all.
    """

    format: str
    declared: tuple[tuple[int, int], ...]
    frames: int
    orientation: int
    essential: bytes
    most_pixels: int = 1 << 62
    min_is_white: bool = False
    fault: str = ""


def read_header(data: bytes) -> Header:
    """The header of the image file `data`; raises `Malformed`."""
    try:
        return _reader(data)(data)
    except (struct.error, IndexError) as error:
        raise _corrupt("ends within its header") from error


def exif_orientation(exif: bytes) -> int:
    """Exif's orientation, 1 to 8; 1 where there is none or it cannot be read."""
    if exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    try:
        order = _byte_order(exif)
        (offset,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, offset)
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, length, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION:
                return value if (kind, length) == (3, 1) and 1 <= value <= 8 else 1
    except (struct.error, Malformed):
        pass
    return 1


def _corrupt(message: str) -> Malformed:
    return Malformed(Reason.IMAGE_CORRUPT, message)


def _unsupported(message: str) -> Malformed:
    return Malformed(Reason.IMAGE_UNSUPPORTED, message)


_FOREIGN = (
    (b"%PDF", "is a PDF document"),
    (b"PK\x03\x04", "is a ZIP archive"),
    (b"%!PS", "is a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "is a PostScript document"),
    (b"\x1f\x8b", "is a gzip archive"),
    (b"8BPS", "is a Photoshop document"),
    (b"\x00\x00\x01\x00", "is an icon"),
    (b"\x00\x00\x00\x0cjP  ", "is a JPEG 2000 file"),
    (b"\x00\x00\x00\x0cJXL ", "is a JPEG XL file"),
    (b"\xff\x0a", "is a JPEG XL file"),
    (b"\x1aE\xdf\xa3", "is a Matroska or WebM video"),
    (b"II+\0", "is a BigTIFF file"),
    (b"MM\0+", "is a BigTIFF file"),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}


def _reader(data: bytes) -> Callable[[bytes], Header]:
    """The function that reads a file that begins as `data` does."""
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp
    if data.startswith((b"II*\0", b"MM\0*")):
        return _tiff
    if data.startswith(b"BM"):
        return _bmp
    if data[4:8] == b"ftyp":
        return _heif
    for magic, what in _FOREIGN:
        if data.startswith(magic):
            raise _unsupported(what)
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in start:
        raise _unsupported("is an SVG drawing")
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        raise _unsupported("is an HTML page")
    raise _unsupported("is of no format known here (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, HEIC)")


# --- JPEG ---------------------------------------------------------------------------------------

_SOF_DECODED = {0xC0, 0xC1, 0xC2}
_SOF = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]", re.DOTALL)


def _jpeg(data: bytes) -> Header:
    parts = [data[:2]]
    frame: bytes | None = None
    progressive = False
    orientation = 1
    frames = 1
    at = 2
    for _ in range(_MAX_BLOCKS):
        # Between segments there may be fill bytes and, in practice, junk.
        found = _MARKER.search(data, at, at + _MAX_JPEG_JUNK)
        if found is None:
            raise _corrupt("ends before its pixels begin")
        at = found.start()
        marker = data[at + 1]
        if marker == 0xD9:
            raise _corrupt("ends before its pixels begin")
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        if length < 2 or end > len(data):
            raise _corrupt("has a segment that is longer than the file")
        body = data[at + 4 : end] if length < 65536 else b""
        if marker in _SOF:
            if frame is not None:
                raise _corrupt("has two frame headers")
            if marker not in _SOF_DECODED:
                raise _unsupported("is a lossless, hierarchical or arithmetic-coded JPEG")
            if body[0] != 8:
                raise _unsupported(f"is a JPEG of {body[0]} bits a sample; 8 are supported")
            frame, progressive = body, marker == 0xC2
        if marker == 0xE1 and body.startswith(b"Exif\0\0") and orientation == 1:
            orientation = exif_orientation(body)
        if marker == 0xE2 and body.startswith(b"MPF\0"):
            frames = 2
        if marker == 0xDA:
            break
        # Application data and comments stay behind, but for the two that say what the colors are.
        if marker < 0xE0 or marker in (0xE0, 0xEE):
            parts.append(data[at:end])
        at = end
    else:
        raise _corrupt(f"has more than {_MAX_BLOCKS} segments before its pixels")
    if frame is None:
        raise _corrupt("has pixels but no frame header")
    height, width = struct.unpack_from(">HH", frame, 1)
    scans = _most_scans(frame, progressive)
    if data.count(b"\xff\xda", at) > scans:
        _check_scans(data, at, scans)
    fault = ""
    if data.find(b"\xff\xd9", at) >= 0:
        parts.append(data[at:])
    else:
        end, fault = _last_scan(data, at, frame, progressive)
        parts += [data[at:end], b"\xff\xd9"]
    most = _JPEG_PIXELS_A_BYTE * (len(data) - at)
    return Header(
        "JPEG", ((width, height),), frames, orientation, b"".join(parts), most, fault=fault
    )


def _last_scan(data: bytes, at: int, frame: bytes, progressive: bool) -> tuple[int, str]:
    """Where the scans of a JPEG without an end marker end, and what they leave out if anything.

    Its first scan's header is at `at`. Whether the last scan is whole, its decoder will find; which
    scans are missing, it would not notice.
    """
    # By component: the bit below which each coefficient is still unknown; -1 where all of it is.
    known = {frame[6 + 3 * i]: [-1] * 64 for i in range(frame[5])}
    for _ in range(_MAX_BLOCKS):
        marker = data[at + 1]
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0] if at + 4 <= len(data) else at
        if end <= at or end > len(data):
            break  # cut within a segment, which is after the last scan that can be read
        if marker == 0xDA:
            components = data[at + 5 : at + 5 + 2 * data[at + 4] : 2]
            first, last, approximation = data[end - 3 : end]
            span = range(first, min(last, 63) + 1) if progressive else range(64)
            for component in set(components) & known.keys():
                for index in span:
                    known[component][index] = approximation & 15 if progressive else 0
        found = _MARKER.search(data, end)
        if found is None:
            at = len(data)
            break
        at = found.start()
    if all(bit == 0 for bits in known.values() for bit in bits):
        return at, ""
    return at, "it ends before its last scans"


def _most_scans(frame: bytes, progressive: bool) -> int:
    """How many scans a JPEG of this frame header may have."""
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    components = max(1, min(frame[5], 4))
    if not progressive:
        return components
    extra = _EXTRA_SCAN_PIXELS // max(1, height * width)
    return min(_MAX_SCANS, _SCANS_A_COMPONENT * components + extra)


def _check_scans(data: bytes, at: int, most: int) -> None:
    """Raises where a JPEG whose first scan is at `at` has more scans than `most`."""
    scans = 0
    for _ in range(_MAX_BLOCKS):
        found = _MARKER.search(data, at)
        if found is None:
            return
        at = found.start()
        marker = data[at + 1]
        if marker == 0xD9 or at + 4 > len(data):
            return
        scans += marker == 0xDA
        if scans > most:
            raise _corrupt(f"has more than {most} scans")
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise _corrupt(f"has more than {_MAX_BLOCKS} segments among its pixels")


# --- PNG ----------------------------------------------------------------------------------------

_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def _png(data: bytes) -> Header:
    length, kind, width, height, depth, color, method, filtering, interlace = struct.unpack_from(
        ">I4sIIBBBBB", data, 8
    )
    if (length, kind) != (13, b"IHDR"):
        raise _corrupt("does not begin with an IHDR chunk")
    if depth not in _PNG_DEPTHS.get(color, ()) or method or filtering or interlace > 1:
        raise _corrupt("has an IHDR chunk that no PNG can have")
    parts = [data[:33]]
    packed = 0
    has_palette = False
    frames = orientation = 1
    at = 33
    for _ in range(_MAX_PNG_CHUNKS):
        if at + 8 > len(data):
            if packed == 0:
                raise _corrupt("is cut off before its pixels")
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            # What follows the pixels is not missed, and whether all of them are there is seen when
            # they are inflated.
            if kind == b"IDAT":
                there = data[at + 8 : at + 8 + length]
                parts.append(_png_chunk(kind, there))
                packed += len(there)
            if packed == 0:
                raise _corrupt("is cut off before its pixels")
            break
        if kind in (b"IDAT", b"PLTE", b"tRNS"):
            parts.append(data[at:end])
        if kind == b"IDAT":
            packed += length
        elif kind == b"PLTE":
            has_palette = True
        elif kind == b"acTL" and length == 8:
            frames = max(1, struct.unpack_from(">I", data, at + 8)[0])
        elif kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : at + 8 + min(length, 65536)])
        at = end
        if kind == b"IEND":
            break
    else:
        raise _corrupt(f"has more than {_MAX_PNG_CHUNKS} chunks")
    if packed == 0:
        raise _corrupt("has no pixels")
    if color == 3 and not has_palette:
        raise _corrupt("has palette pixels but no palette")
    parts.append(_png_chunk(b"IEND", b""))
    most = _DEFLATE_RATIO * (packed + 1) * 8 // (depth * _PNG_CHANNELS[color])
    return Header("PNG", ((width, height),), frames, orientation, b"".join(parts), most)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# --- GIF ----------------------------------------------------------------------------------------


def _gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    parts = [data[:at]]
    control = b""
    for _ in range(_MAX_BLOCKS):
        block = data[at]
        if block == 0x2C:
            break
        if block == 0x3B:
            raise _corrupt("has no pixels")
        if block != 0x21:
            raise _corrupt("has a block of no known kind")
        end = _after_sub_blocks(data, at + 2)
        if data[at + 1] == 0xF9:
            control = data[at:end]
        at = end
        if at > _MAX_GIF_PREFIX:
            raise _corrupt(f"has more than {_MAX_GIF_PREFIX} bytes before its pixels")
    else:
        raise _corrupt(f"has more than {_MAX_BLOCKS} blocks before its pixels")
    x, y, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", data, at + 1)
    if frame_width == 0 or frame_height == 0:
        raise Malformed(Reason.IMAGE_BAD_SHAPE, "has a first frame of no size")
    screen = max(width, x + frame_width), max(height, y + frame_height)
    bare = math.prod(screen) - frame_width * frame_height
    most = min(bare, _bare_pixels(data)) + _LZW_RATIO * (len(data) - at)
    parts += [control, data[at:]]
    pixels = at + 10 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0) + 1
    # A frame may reach beyond the screen it is declared on; viewers enlarge the screen.
    return Header("GIF", (screen,), _gif_frames(data, pixels), 1, b"".join(parts), most)


def _bare_pixels(data: bytes) -> int:
    """How much of an animation's canvas its first frame may leave bare."""
    return _BARE_PIXELS + _LOSSY_PIXELS_A_BYTE * len(data)


def _gif_frames(data: bytes, at: int) -> int:
    """2 where another frame follows the one whose pixels begin at `at`, as far as we look."""
    try:
        at = _after_sub_blocks(data, at)
        for _ in range(8):
            if data[at] != 0x21:
                break
            at = _after_sub_blocks(data, at + 2)
        return 2 if data[at] == 0x2C else 1
    except (IndexError, Malformed):
        return 1  # cut off in the first frame, which the decoder will find


def _after_sub_blocks(data: bytes, at: int) -> int:
    for _ in range(_MAX_GIF_SUB_BLOCKS):
        size = data[at]
        at += 1 + size
        if size == 0:
            return at
    raise _corrupt("has more blocks than a GIF needs")


# --- WebP ---------------------------------------------------------------------------------------


def _webp(data: bytes) -> Header:
    first = data[12:16]
    frames = orientation = 1
    essential, shown = _webp_pixels(data)
    most = _FREE_PIXELS + len(data) * (
        _LOSSY_PIXELS_A_BYTE if first == b"VP8 " else _PREDICTED_PIXELS_A_BYTE
    )
    if first == b"VP8X":
        flags = data[20]
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        if len(data) < 30:
            raise _corrupt("ends within its header")
        frames = 2 if flags & 0x02 else 1
        if shown is not None:
            most = min(most, shown) + min(width * height, _bare_pixels(data))
        if flags & 0x08:
            orientation = exif_orientation(_riff_chunk(data, b"EXIF"))
    elif first == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise _corrupt("has no lossless WebP signature")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif first == b"VP8 ":
        if data[23:26] != b"\x9d\x01\x2a":
            raise _corrupt("does not begin with a key frame")
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise _corrupt("does not begin with a WebP chunk")
    return Header("WEBP", ((width, height),), frames, orientation, essential, most)


_WEBP_PIXELS = (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
# What VP8X says of chunks that are left out: a profile, Exif and XMP.
_WEBP_METADATA = 0x20 | 0x08 | 0x04


def _webp_pixels(data: bytes) -> tuple[bytes, int | None]:
    """The file without its metadata and the frames after its first, its sizes those of what there
    is; and the pixels of that frame, None for a still picture.

    The size in its first bytes has been wrong in files whose pixels are all there.
    """
    shown: int | None = None
    parts: list[bytes] = []
    declared = 8 + struct.unpack_from("<I", data, 4)[0]
    at = 12
    has_picture = False
    for _ in range(_MAX_BLOCKS):
        if at + 8 > len(data):
            break
        kind, size = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + size]
        if kind in _WEBP_PIXELS:
            if len(body) < size:
                if has_picture:
                    break  # a later frame, which is not shown
                raise _corrupt("is cut off within its pixels")
            if kind == b"VP8X" and body:
                body = bytes([body[0] & ~_WEBP_METADATA]) + body[1:]
            parts += [struct.pack("<4sI", kind, size), body, b"\0" * (size & 1)]
            has_picture |= kind in (b"ANMF", b"VP8 ", b"VP8L")
            if kind == b"ANMF":
                sides = (1 + int.from_bytes(body[i : i + 3], "little") for i in (6, 9))
                shown = math.prod(sides)
                break  # the first frame is the picture
        elif at >= declared:
            break  # not the file's
        at += 8 + size + (size & 1)
    content = b"".join(parts)
    return b"RIFF" + struct.pack("<I", 4 + len(content)) + b"WEBP" + content, shown


def _riff_chunk(data: bytes, name: bytes) -> bytes:
    at = 12
    for _ in range(_MAX_BLOCKS):
        if at + 8 > len(data):
            break
        kind, size = struct.unpack_from("<4sI", data, at)
        if kind == name:
            return data[at + 8 : at + 8 + min(size, 65536)]
        at += 8 + size + (size & 1)
    return b""


# --- TIFF ---------------------------------------------------------------------------------------

_ORIENTATION = 274
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _SAMPLES, _ROWS, _STRIP_BYTES = 273, 277, 278, 279
_TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTES, _SAMPLE_FORMAT = 322, 323, 324, 325, 339
# Every tag that pixels can depend on: those above, then fill order, fax options, planar
# configuration, predictor, color map, ink set, extra samples, JPEG tables and the YCbCr tags.
_TIFF_KEPT = {
    _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _ROWS,
    _STRIP_BYTES, _TILE_WIDTH, _TILE_LENGTH, _TILE_OFFSETS, _TILE_BYTES, _SAMPLE_FORMAT,
    266, 284, 292, 293, 317, 320, 332, 338, 347, 529, 530, 531, 532,
}  # fmt: skip
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
# None, CCITT (three), LZW, JPEG, deflate (two numbers), PackBits, LZMA, Zstandard. Not the JPEG of
# TIFF 6.0 (6), which nothing has written for decades and readers disagree on.
_TIFF_COMPRESSIONS = {1, 2, 3, 4, 5, 7, 8, 32946, 32773, 34925, 50000}
_TIFF_RATIOS = {
    1: 1, 2: _FAX_RATIO, 3: _FAX_RATIO, 4: _FAX_RATIO, 5: _LZW_RATIO, 7: 5 * _JPEG_PIXELS_A_BYTE,
    8: _DEFLATE_RATIO, 32946: _DEFLATE_RATIO, 32773: 128,
    34925: _MODERN_RATIO, 50000: _MODERN_RATIO,
}  # fmt: skip
# Some writers let plain tiles share their bytes; a decoder reads them once for each.
_TIFF_SHARED = 8
# A JPEG within a TIFF is sequential, so it has at most one scan a component.
_TIFF_SCANS = 4


def _tiff(data: bytes) -> Header:
    order = _byte_order(data)
    (directory,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, directory)
    if count > _MAX_BLOCKS:
        raise _corrupt("has a directory of absurd length")
    kept: dict[int, bytes] = {}
    values: dict[int, tuple[int, ...]] = {}
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        tag, kind, length = struct.unpack_from(order + "HHI", data, entry)
        if tag not in _TIFF_KEPT and tag != _ORIENTATION:
            continue
        size = _TIFF_SIZES.get(kind, 0) * length
        at = entry + 8 if size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
        if size == 0 or at + size > len(data):
            raise _corrupt(f"has a tag (number {tag}) that lies outside the file")
        if tag in values:
            raise _corrupt(f"has a tag (number {tag}) twice")
        code = {1: "B", 3: "H", 4: "I"}.get(kind)
        values[tag] = (
            struct.unpack_from(f"{order}{min(length, 16)}{code}", data, at) if code else ()
        )
        values[-tag] = (length,)
        if tag != _ORIENTATION:
            kept[tag] = data[entry : entry + 12]

    def one(tag: int, default: int) -> int:
        return (values.get(tag) or (default,))[0]

    width, height = one(_WIDTH, 0), one(_LENGTH, 0)
    samples, bits = one(_SAMPLES, 1), one(_BITS, 1)
    compression = one(_COMPRESSION, 1)
    if compression not in _TIFF_COMPRESSIONS:
        raise _unsupported(f"is a TIFF of compression {compression}, which is not supported")
    if bits not in (1, 2, 4, 8, 16) or set(values.get(_BITS, (1,))) != {bits}:
        raise _unsupported("is a TIFF of other than 1, 2, 4, 8 or 16 bits a sample")
    if set(values.get(_SAMPLE_FORMAT, (1,))) != {1}:
        raise _unsupported("is a TIFF of signed or floating-point samples")
    if not 1 <= samples <= 5:
        raise _unsupported(f"is a TIFF of {samples} samples a pixel")
    _check_tiff_layout(values, width, height, samples)
    ratio = _TIFF_RATIOS[compression]
    # A new directory after everything else, with no successor, and the header pointing to it.
    lengths = b"\0" * (len(data) % 2)
    fault = ""
    for offsets, counts in ((_STRIP_OFFSETS, _STRIP_BYTES), (_TILE_OFFSETS, _TILE_BYTES)):
        if offsets in kept and counts in kept:
            columns = _tiff_strips(data, order, kept[offsets], kept[counts])
            _check_strips(data, columns, compression)
            there, last = _tiff_lengths(data, order, columns)
            if there and not _tiff_ends(compression, last):
                fault = "a strip or tile is cut off"
            if len(there) > 4:
                place = struct.pack(order + "I", len(data) + len(lengths))
                lengths += there
            else:
                place = there
            if there:
                kept[counts] = struct.pack(order + "HHI", counts, 4, len(there) // 4) + place
    essential = b"".join((
        data[:4], struct.pack(order + "I", len(data) + len(lengths)), data[8:], lengths,
        struct.pack(order + "H", len(kept)), *kept.values(), b"\0\0\0\0",
    ))  # fmt: skip
    orientation = one(_ORIENTATION, 1)
    (following,) = struct.unpack_from(order + "I", data, directory + 2 + 12 * count)
    return Header(
        "TIFF",
        ((width, height),),
        2 if following else 1,
        orientation if 1 <= orientation <= 8 else 1,
        essential,
        ratio * len(data) * 8 // (samples * bits),
        min_is_white=bits == 16 and one(_PHOTOMETRIC, 0) == 0,
        fault=fault,
    )


_Columns = list[tuple[int, ...]]


def _tiff_strips(data: bytes, order: str, offsets: bytes, counts: bytes) -> _Columns:
    """Where the strips or tiles begin, and the length that each claims; empty where the directory's
    entries `offsets` and `counts` do not say.
    """
    columns = []
    for entry in (offsets, counts):
        _, kind, length = struct.unpack_from(order + "HHI", entry)
        code = {3: "H", 4: "I"}.get(kind)
        if code is None:
            return []
        fits = length * struct.calcsize(code) <= 4
        source, at = (entry, 8) if fits else (data, struct.unpack_from(order + "I", entry, 8)[0])
        columns.append(struct.unpack_from(f"{order}{length}{code}", source, at))
    return columns if len(columns[0]) == len(columns[1]) else []


def _check_strips(data: bytes, columns: _Columns, compression: int) -> None:
    """Raises where reading every strip or tile is far more work than reading the file."""
    if not columns:
        return
    starts, claimed = columns
    held = [max(0, min(length, len(data) - at)) for at, length in zip(starts, claimed, strict=True)]
    if sum(held) > _TIFF_SHARED * len(data):
        raise _corrupt("has strips or tiles that together are far longer than the file")
    if compression == 7 and data.count(b"\xff\xda") > _TIFF_SCANS * len(held):
        spans = zip(starts, held, strict=True)
        scans = max(data.count(b"\xff\xda", at, at + length) for at, length in spans)
        if scans > _TIFF_SCANS:
            raise _corrupt(f"has a strip or tile of more than {_TIFF_SCANS} scans")


def _tiff_lengths(data: bytes, order: str, columns: _Columns) -> tuple[bytes, bytes]:
    """The lengths of the strips or tiles as far as the file has them, as 32-bit numbers, and the
    bytes of the first that is shorter than it claims.

    Empty where none claims a byte beyond the file's end: a decoder must not take for pixels what we
    put there.
    """
    if not columns:
        return b"", b""
    there = [max(0, min(n, len(data) - at)) for at, n in zip(*columns, strict=True)]
    for at, claimed, length in zip(*columns, there, strict=True):
        if length < claimed:
            return struct.pack(f"{order}{len(there)}I", *there), data[at : at + length]
    return b"", b""


# The end of a facsimile block of T.6, twice the end of a line, as the last bits that are not zero.
_END_OF_BLOCK = 0x001001


def _tiff_ends(compression: int, strip: bytes) -> bool:
    """Whether a strip that is shorter than it claims may be whole.

    libtiff fills what a JPEG or a facsimile lacks, without a word: these must have their own end.
    Of all others it says what is missing.
    """
    if compression == 7:
        return strip.rstrip(b"\0").endswith(b"\xff\xd9")
    if compression in (2, 3, 4):
        tail = int.from_bytes(strip.rstrip(b"\0")[-4:], "big")
        while tail and not tail & 1:
            tail >>= 1
        return tail & 0xFFFFFF == _END_OF_BLOCK
    return True


def _check_tiff_layout(
    values: dict[int, tuple[int, ...]], width: int, height: int, samples: int
) -> None:
    """Raises unless the image is cut into as many strips or tiles as its size asks for."""
    if width == 0 or height == 0:
        return  # the caller names that fault better
    if _TILE_OFFSETS in values:
        tile_width, tile_length = (values.get(tag, (0,))[:1] for tag in (_TILE_WIDTH, _TILE_LENGTH))
        if not tile_width or not tile_length or 0 in tile_width + tile_length:
            raise _corrupt("has tiles of no size")
        across, down = tile_width[0], tile_length[0]
        # A tile is decoded whole, however little of it the image shows.
        if across > max(2 * width, 1024) or down > max(2 * height, 1024):
            raise _corrupt("has tiles far larger than itself")
        needed = -(-width // across) * -(-height // down)
        given = values[-_TILE_OFFSETS][0]
    elif _STRIP_OFFSETS in values:
        rows = (values.get(_ROWS) or (height,))[0]
        if rows == 0:
            raise _corrupt("has strips of no rows")
        needed = -(-height // min(rows, height))
        given = values[-_STRIP_OFFSETS][0]
    else:
        raise _corrupt("says nowhere where its pixels are")
    if not needed <= given <= needed * samples + 1:
        raise _corrupt(f"needs {needed} strips or tiles and lists {given}")


def _byte_order(data: bytes) -> str:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise _corrupt("has no TIFF byte order")
    return order


# --- BMP ----------------------------------------------------------------------------------------


def _bmp(data: bytes) -> Header:
    offset, size = struct.unpack_from("<II", data, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    elif size in (40, 52, 56, 64, 108, 124):
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
        height = abs(height)
    else:
        raise _unsupported("is of no format known here: it begins as a BMP but is none")
    if bits not in (1, 4, 8, 16, 24, 32):
        raise _corrupt(f"is a BMP of {bits} bits a pixel, which there is not")
    if compression not in (0, 3):
        raise _unsupported("is a compressed BMP")
    if width < 0:
        raise Malformed(Reason.IMAGE_BAD_SHAPE, "has a negative width")
    row = (width * bits + 31) // 32 * 4
    # The last row's padding is not missed.
    padding = row - (width * bits + 7) // 8
    most = max(0, len(data) - offset + padding) // row * width if row else 0
    missing = min(padding, max(0, offset + row * height - len(data)))
    return Header(
        "BMP", ((width, height),), 1, 1, data + b"\0" * missing if missing else data, most
    )


# --- AVIF and HEIF ------------------------------------------------------------------------------


# An item's size: the box's length and name, its version and flags.
_ISPE = re.compile(rb"\0\0\0\x14ispe\0\0\0\0")
# The boxes that hold boxes, each with what stands before these: a version, a count.
_HEIF_CONTAINERS = {
    b"meta": 4, b"iprp": 0, b"ipco": 0, b"iinf": 6, b"iref": 4, b"grpl": 0, b"dinf": 0,
    b"moov": 0, b"trak": 0, b"edts": 0, b"mdia": 0, b"minf": 0, b"stbl": 0,
}  # fmt: skip
# A picture of 50 megapixels in tiles of 256 pixels has some 800 items, with three boxes each.
_MAX_BOXES = 8192
_MAX_BOX_DEPTH = 8
# Decoders look through all items for each entry of these tables, which are not made of boxes.
_HEIF_TABLES = {b"iinf": 1 << 19, b"iloc": 1 << 18, b"ipma": 1 << 17, b"iref": 1 << 16}


class _BoxCount:
    """Goes through the boxes of one file, and raises where they are too many, long or deep."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._boxes = 0
        self._tables = dict.fromkeys(_HEIF_TABLES, 0)

    def look(self, kind: bytes, at: int, end: int, depth: int = 1) -> None:
        """Count the box `kind`, whose content is from `at` to `end`, and all within it."""
        self._boxes += 1
        if self._boxes > _MAX_BOXES:
            raise _corrupt(f"has more than {_MAX_BOXES} boxes")
        if kind in self._tables:
            self._tables[kind] += end - at
            if self._tables[kind] > _HEIF_TABLES[kind]:
                name = kind.decode("ascii")
                raise _corrupt(f'has more than {_HEIF_TABLES[kind]} bytes in "{name}" boxes')
        before = _HEIF_CONTAINERS.get(kind)
        if before is None:
            return
        if depth > _MAX_BOX_DEPTH:
            raise _corrupt(f"has boxes more than {_MAX_BOX_DEPTH} deep")
        if kind == b"iinf" and at < end and self._data[at] > 0:
            before = 8  # the count has 32 bits
        at += before
        while at + 8 <= end:
            size, inner = struct.unpack_from(">I4s", self._data, at)
            head = 8
            if size == 1 and at + 16 <= end:
                head, size = 16, struct.unpack_from(">Q", self._data, at + 8)[0]
            size = size or end - at
            if size < head or at + size > end:
                return  # its decoder refuses it
            self.look(inner, at + head, at + size, depth + 1)
            at += size


def _heif(data: bytes) -> Header:
    (size,) = struct.unpack_from(">I", data, 0)
    if not 16 <= size <= min(len(data), 4096):
        raise _corrupt("has a file type box of absurd length")
    major = data[8:12]
    brands = {data[at : at + 4] for at in range(16, size - 3, 4)} | {major}
    if major in _AVIF_BRANDS or (major not in _HEIF_BRANDS - {b"mif1"} and brands & _AVIF_BRANDS):
        name = "AVIF"
    elif brands & _HEIF_BRANDS:
        name = "HEIF"
    else:
        raise _unsupported("is a video or another kind of ISO media file")
    at = size
    count = _BoxCount(data)
    described: tuple[tuple[int, int], ...] | None = None
    for _ in range(_MAX_BLOCKS):
        if at + 8 > len(data):
            break
        size, kind = struct.unpack_from(">I4s", data, at)
        content = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            content = at + 16
        size = size or len(data) - at
        if size < 8 or at + size > len(data):
            if described is None or kind == b"mdat":
                raise _corrupt("is cut off within a box")
            break  # bytes after the file's end, or a box that pixels do not need
        count.look(kind, content, at + size)
        if kind == b"meta":
            sizes = islice(_ISPE.finditer(data, at, at + size - 8), _MAX_BOXES + 1)
            described = tuple(struct.unpack_from(">II", data, found.end()) for found in sizes)
            if len(described) > _MAX_BOXES:
                raise _corrupt(f"has more than {_MAX_BOXES} boxes")
        elif kind == b"moov" and described is None:
            described = ()
        at += size
    if described is None:
        raise _corrupt("has no box that describes a picture")
    ratio = _PREDICTED_PIXELS_A_BYTE if name == "AVIF" else _LOSSY_PIXELS_A_BYTE
    return Header(name, described, 1, 1, data[:at], _FREE_PIXELS + ratio * len(data))
