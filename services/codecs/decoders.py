"""From an opened image file to its pixels, and a word on those it has lost.

`images` calls `load` after it has judged the file's header. A picture is judged by its pixels and
not by the bytes around them: one that has them all is whole, whatever its end looks like. What
libjpeg calls a warning, since it can go on with made-up pixels, is a loss; Pillow swallows these
warnings, so JPEGs are decoded by simplejpeg, which reports them (and takes a third of the time).
"""

import io
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngImageFile

from services.codecs.headers import Header

Rgb = NDArray[np.uint8]

# Pixels converted at a time: bounds what conversion adds to the decoder's own memory.
_BAND_PIXELS = 1 << 20
# Bytes inflated at a time.
_BAND_BYTES = 1 << 16

# libjpeg's warnings (jerror.h) that say that it made up pixels.
_JPEG_LOSSES = (
    "premature end",  # of a data segment, or of the file
    "bad huffman code",
    "instead of rst",  # a restart marker is missing or out of order
)
# Zeros at the end of a file that may be all that is left of its pixels.
_PADDING = bytes(64)


def prepare(threads: int) -> None:
    """Load every decoder's library, and let those that use threads have at most so many."""
    from PIL import AvifImagePlugin

    AvifImagePlugin.DEFAULT_MAX_THREADS = threads
    with suppress(ImportError):
        from pillow_heif import options

        options.DECODE_THREADS = threads


def load(image: ImageFile.ImageFile, header: Header, *, damaged: bool) -> tuple[Rgb, str]:
    """The pixels, uint8 (H, W, 3) as stored, and what is wrong with them; "" where nothing is.

    Args:
        image: opened, not decoded.
        header: of the same file.
        damaged: give what is left of a picture that has lost pixels; the rest is of one color.

    Raises:
        Exception: whatever the decoder raises; for a file that has lost pixels, unless `damaged`.
    """
    declared = image.size
    if header.format == "JPEG":
        return _jpeg(image, header, damaged=damaged)
    fault = header.fault
    try:
        image.load()
    except Exception as error:
        rewritten = _rewritten_png(header.essential) if header.format == "PNG" else None
        if rewritten is not None:
            image = PngImageFile(io.BytesIO(rewritten))
            image.load()
        elif damaged and _has_something(image, declared):
            image.tile = []
            fault = _said(error)
        else:
            raise
    if image.size != declared:
        raise ValueError("its pixels are not of the size it declares")
    if header.format == "PNG" and not fault and _may_lack_rows(image):
        present, needed = _png_lengths(header.essential)
        if present < needed:
            fault = f"its rows end after {present} of {needed} bytes"
    return _to_rgb(image, min_is_white=header.min_is_white), fault


def on_white(rgba: NDArray[np.uint8]) -> Rgb:
    """uint8 (H, W, 4) with straight alpha over white: uint8 (H, W, 3)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


# --- JPEG -----------------------------------------------------------------------------------------


def _jpeg(image: ImageFile.ImageFile, header: Header, *, damaged: bool) -> tuple[Rgb, str]:
    """Every pixel that libjpeg makes of the file, and its word on those that it made up."""
    # Of inks only the warnings are asked for; Pillow knows about Adobe's inversion.
    inks = image.mode == "CMYK"
    options: dict[str, Any] = {"colorspace": "RGB"}
    if inks:
        options = {"colorspace": "CMYK", "min_factor": 8}
    fault = header.fault
    try:
        pixels = simplejpeg.decode_jpeg(header.essential, strict=True, **options)
    except ValueError as error:
        message = _said(error)
        if "extraneous" in message and header.essential[:-2].endswith(_PADDING):
            fault = fault or _lost_below_zeros(header.essential, options)
        if any(loss in message.lower() for loss in _JPEG_LOSSES):
            fault = fault or message.removeprefix("Corrupt JPEG data: ")
        if fault and not damaged:
            raise ValueError(f"it has lost pixels, {fault}") from error
        try:
            pixels = simplejpeg.decode_jpeg(header.essential, strict=False, **options)
        except ValueError:
            pixels = None  # perhaps only of sampling factors that it does not read
    if inks or pixels is None:
        image.load()
        return _to_rgb(image, min_is_white=False), fault
    if pixels.shape[1::-1] != image.size:
        raise ValueError("its pixels are not of the size it declares")
    return pixels, fault


def _lost_below_zeros(data: bytes, options: dict[str, Any]) -> str:
    """What is lost of a JPEG that ends in zeros, of which libjpeg makes flat blocks without a word.

    A download that broke off leaves the rest of its file as zeros. They may also stand after the
    last pixel; then nothing is missed without them.
    """
    kept = data[:-2].rstrip(b"\0") + b"\0" + data[-2:]  # one may be of the pixels
    try:
        simplejpeg.decode_jpeg(kept, strict=True, **options)
    except ValueError as error:
        message = _said(error)
        if any(loss in message.lower() for loss in _JPEG_LOSSES):
            return "zeros stand in their place"
    return ""


# --- PNG ------------------------------------------------------------------------------------------

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Adam7's passes: first row and column, steps down and across (PNG 3rd edition, 8.1).
_ADAM7 = (
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _PngStream:
    """The pixels of a PNG as they are packed, and the chunks around them.

    `needed` is the length in bytes of all its rows, unpacked; `trusted` whether the checksum of
    every chunk of `packed` is right; `others` are the signature and the chunks before the pixels.
    """

    packed: bytes
    needed: int
    trusted: bool
    others: bytes


def _png_stream(data: bytes) -> _PngStream:
    width, height, depth, color, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * _PNG_CHANNELS[color]
    spans = _ADAM7 if interlace else ((0, 0, 1, 1),)
    sides = [(-(-(height - y) // down), -(-(width - x) // step)) for y, x, down, step in spans]
    needed = sum(rows * (1 + (columns * bits + 7) // 8) for rows, columns in sides if columns > 0)
    packed, others, trusted = [], [data[:8]], True
    at = 8
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind == b"IDAT":
            body = data[at + 8 : end - 4]
            packed.append(body)
            trusted &= zlib.crc32(kind + body) == int.from_bytes(data[end - 4 : end], "big")
        elif kind != b"IEND":
            others.append(data[at:end])
        at = end
    return _PngStream(b"".join(packed), needed, trusted, b"".join(others))


def _rewritten_png(data: bytes) -> bytes | None:
    """The PNG with its pixels packed anew, if all are there and only their checksum is not right.

    zlib ends its stream with a checksum of its own. Where it is missing, the pixels are complete
    without it; where it is wrong, the checksums of all chunks must be right instead.
    """
    stream = _png_stream(data)
    head = stream.packed[:2]
    if len(head) < 2 or head[0] & 15 != 8 or int.from_bytes(head, "big") % 31:
        return None
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        rows = inflate.decompress(stream.packed[2:], stream.needed)
        # The end of the last block, which holds no row, stands before the checksum.
        inflate.decompress(inflate.unconsumed_tail, 1)
    except zlib.error:
        return None
    if len(rows) < stream.needed:
        return None
    checksum = inflate.unused_data[:4]
    is_wrong = len(checksum) == 4 and int.from_bytes(checksum, "big") != zlib.adler32(rows)
    if is_wrong and not stream.trusted:
        return None
    body = zlib.compress(rows, 0)
    chunks = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IDAT", body), (b"IEND", b""))
    )
    return stream.others + chunks


def _may_lack_rows(image: Image.Image) -> bool:
    """Whether the last row, or for interlaced files the one before, was perhaps never written.

    Pillow takes a PNG whose pixels end after any whole row, and leaves zeros.
    """
    width, height = image.size
    last = np.asarray(image.crop((0, max(0, height - 2), width, height)))
    return any(not row.any() for row in last)


def _png_lengths(data: bytes) -> tuple[int, int]:
    """How many bytes of rows a PNG has, counted to what it needs; and how many that is."""
    stream = _png_stream(data)
    inflate = zlib.decompressobj()
    present = 0
    # A piece at a time: what is left of it is copied with every call.
    for start in range(0, len(stream.packed), _BAND_BYTES):
        packed = stream.packed[start : start + _BAND_BYTES]
        while packed and present < stream.needed:
            rows = inflate.decompress(packed, min(stream.needed - present, _BAND_PIXELS))
            present += len(rows)
            packed = inflate.unconsumed_tail
        if present >= stream.needed or inflate.eof:
            break
    return present, stream.needed


# --- the others -----------------------------------------------------------------------------------


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _has_something(image: ImageFile.ImageFile, declared: tuple[int, int]) -> bool:
    """Whether a decoder that failed has left anything."""
    try:
        core = image.im
    except ValueError:
        return False
    return core is not None and core.size == declared and core.getbbox() is not None


SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


def _to_rgb(image: Image.Image, *, min_is_white: bool) -> Rgb:
    """The pixels of a decoded image of any supported mode, converted a band of rows at a time."""
    width, height = image.size
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.array(image)
    rgb = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    has_alpha = image.mode in ALPHA or (
        "transparency" in image.info and image.mode not in SIXTEEN_BITS
    )
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        if image.mode in SIXTEEN_BITS:
            deep = np.asarray(band).astype(np.uint32)
            gray = ((deep * 255 + 32767) // 65535).astype(np.uint8)
            rgb[top : top + rows] = (255 - gray if min_is_white else gray)[..., None]
        elif has_alpha:
            rgb[top : top + rows] = on_white(np.asarray(band.convert("RGBA")))
        else:
            rgb[top : top + rows] = np.asarray(band.convert("RGB"))
    return rgb
