"""PNG files written and read with numpy and zlib alone, as far as masks and arrays need it.

The format is https://www.w3.org/TR/png-3/. Arrays of pixels are written losslessly with the "up"
filter; masks are written and read as 1-bit grayscale, white where the mask is.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from limelight.faults import InvalidRequest, Reason
from limelight.masks import MASK
from limelight.paths import FieldPath

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES = {1: 0, 3: 2, 4: 6}  # channels -> grayscale, RGB, RGBA
_UP = 2
_MAX_PIXELS = 1 << 30


def encode_pixels(pixels: NDArray[np.uint8], *, level: int = 1) -> bytes:
    """`pixels`, uint8 (h, w), (h, w, 3) RGB or (h, w, 4) RGBA, as a PNG; `level` is zlib's.

    Raises:
        ValueError: another type or shape, or no pixel.
    """
    if pixels.dtype != np.uint8:
        raise ValueError(f"an image array must be uint8, 0 to 255, not {pixels.dtype}")
    if isinstance(pixels, np.ma.MaskedArray):
        raise ValueError("an image array must not be a masked array: what is masked has no color")
    channels = 1 if pixels.ndim == 2 else pixels.shape[-1] if pixels.ndim == 3 else 0
    if channels not in _COLOR_TYPES or pixels.size == 0:
        raise ValueError(
            f"an image array must be [h, w], [h, w, 3] or [h, w, 4], not {pixels.shape}"
        )
    height, width = pixels.shape[:2]
    rows = np.ascontiguousarray(pixels).reshape(height, width * channels)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return _file(width, height, 8, _COLOR_TYPES[channels], zlib.compress(filtered.tobytes(), level))


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """`mask`, bool (h, w), as a 1-bit grayscale PNG, white where it is true."""
    height, width = mask.shape
    bits = np.packbits(np.ascontiguousarray(mask, np.bool_), axis=1)
    rows = np.zeros((height, 1 + bits.shape[1]), np.uint8)
    rows[:, 0] = _UP
    rows[0, 1:] = bits[0]
    np.subtract(bits[1:], bits[:-1], out=rows[1:, 1:])
    return _file(width, height, 1, 0, zlib.compress(rows.tobytes(), 6))


def decode_mask(data: bytes, *, field: FieldPath = MASK) -> NDArray[np.bool_]:
    """The mask in a grayscale PNG of 1 or 8 bits: bool (h, w), true where half white or more.

    Raises:
        InvalidRequest: CANDIDATE_INVALID at `field`, for any other file and for a damaged one.
    """
    try:
        return _decoded(data)
    except (ValueError, struct.error, zlib.error) as error:
        message = f"the mask is not a grayscale PNG that can be read: {error}"
        raise InvalidRequest(Reason.CANDIDATE_INVALID, message, field=field) from error


def _decoded(data: bytes) -> NDArray[np.bool_]:
    if not data.startswith(_SIGNATURE):
        raise ValueError("it does not begin as a PNG does")
    at, header, packed = len(_SIGNATURE), b"", bytearray()
    while True:
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
        if checksum != zlib.crc32(name + body):
            raise ValueError("a checksum does not match")
        at += 12 + length
        if name == b"IHDR":
            header = body
        elif name == b"IDAT":
            packed += body
        elif name == b"IEND":
            break
    width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", header)
    if color != 0 or depth not in (1, 8) or interlace:
        raise ValueError("it is not plain grayscale of 1 or 8 bits")
    if not 0 < width * height <= _MAX_PIXELS:
        raise ValueError(f"it cannot be {height} high and {width} wide")
    stride = 1 + (width * depth + 7) // 8
    inflate = zlib.decompressobj()
    raw = inflate.decompress(bytes(packed), height * stride)
    if len(raw) != height * stride:
        raise ValueError("its pixels are cut off")
    rows = _unfiltered(np.frombuffer(raw, np.uint8).reshape(height, stride))
    if depth == 1:
        return np.unpackbits(rows, axis=1, count=width).astype(np.bool_)
    return rows >= 128


def _unfiltered(filtered: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The rows with each one's filter taken back; all filters work on bytes one apart here."""
    rows = filtered[:, 1:].copy()
    above = np.zeros(rows.shape[1], np.uint8)
    for row, kind in zip(rows, filtered[:, 0].tolist(), strict=True):
        if kind == 1:
            np.cumsum(row, dtype=np.uint8, out=row)
        elif kind == _UP:
            np.add(row, above, out=row)
        elif kind in (3, 4):
            _unfilter_sequentially(row, above, average=kind == 3)
        elif kind != 0:
            raise ValueError(f"it uses the unknown filter {kind}")
        above = row
    return rows


def _unfilter_sequentially(
    row: NDArray[np.uint8], above: NDArray[np.uint8], *, average: bool
) -> None:
    """The average and Path filters, which need the byte before; only foreign encoders use them."""
    left = upper_left = 0
    values = row.tolist()
    for index, up in enumerate(above.tolist()):
        if average:
            guess = (left + up) // 2
        else:
            base = left + up - upper_left
            guess = min((left, up, upper_left), key=lambda value: abs(base - value))
        left = values[index] = (values[index] + guess) & 0xFF
        upper_left = up
    row[:] = values


def _file(width: int, height: int, depth: int, color: int, packed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
