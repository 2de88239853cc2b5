"""Animated WebP, which libav's demuxers do not read: its frames apart, and together again.

The demuxer hands each `ANMF` chunk on as a packet; `WebPCanvas` decodes it with Pillow and puts it
on the canvas. Transparency is on white, as in `services.codecs.images`.

Source: RFC 9649.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.WebPImagePlugin import WebPImageFile

from limelight.paths import FieldPath
from services.codecs.videos.containers import SeekableFile
from services.codecs.videos.limits import VideoLimits, corrupt, unsupported

Rgb = NDArray[np.uint8]

_ANIMATED = 0x02
_DISPOSE, _NO_BLEND = 0x01, 0x02
# What stands beside the frames: profiles, metadata, unknown chunks.
_MAX_CHUNKS = 1 << 16


@dataclass(frozen=True, slots=True)
class WebPFrame:
    """The rectangle of a frame on the canvas, in pixels, and how it is put there."""

    x: int
    y: int
    width: int
    height: int
    duration_ms: int
    dispose: bool
    """The rectangle becomes transparent before the next frame."""
    blend: bool
    """It is put over what is there; otherwise in its place."""

    def covers(self, width: int, height: int) -> bool:
        """Whether nothing of what was before is left on a canvas of that size."""
        return not self.blend and (self.width, self.height) == (width, height)


def read_frame(data: bytes) -> WebPFrame:
    """The head of an `ANMF` chunk's content.

    Raises:
        ValueError: it is too short.
    """
    if len(data) < 24:
        raise ValueError("a frame without pixels")
    x, y, width, height, duration = (
        int.from_bytes(data[at : at + 3], "little") for at in range(0, 15, 3)
    )
    flags = data[15]
    return WebPFrame(
        2 * x,
        2 * y,
        width + 1,
        height + 1,
        duration,
        bool(flags & _DISPOSE),
        not flags & _NO_BLEND,
    )


class WebPFile:
    """The frames of an animated WebP, read in order.

    Raises:
        InvalidMedia: it is a still picture (VIDEO_UNSUPPORTED) or makes no sense (VIDEO_CORRUPT).
    """

    def __init__(self, file: SeekableFile, limits: VideoLimits, field: FieldPath) -> None:
        self._file = file
        self._limits = limits
        self._field = field
        head = self._exactly(20)
        (self._size,) = struct.unpack_from("<I", head, 4)
        self._at = 12
        first, size = head[12:16], struct.unpack_from("<I", head, 16)[0]
        if first != b"VP8X":
            raise unsupported("is a still picture", field)
        if size < 10:
            raise corrupt("has a header that is too short", field)
        body = self._exactly(size + size % 2)
        if not body[0] & _ANIMATED:
            raise unsupported("is a still picture", field)
        self.width = 1 + int.from_bytes(body[4:7], "little")
        self.height = 1 + int.from_bytes(body[7:10], "little")
        self._at += 8 + len(body)

    def packets(self) -> Iterator[bytes]:
        """The content of each `ANMF` chunk.

        Raises:
            InvalidMedia: the file is cut off or has no more room for what it declares; the frames
                before came out.
        """
        for _ in range(_MAX_CHUNKS):
            if self._at >= self._size + 8:
                return
            kind, size = struct.unpack("<4sI", self._exactly(8))
            if size > self._limits.max_packet_bytes:
                raise corrupt("has a chunk of absurd length", self._field)
            body = self._exactly(size)
            if size % 2:
                self._file.read(1)
            self._at += 8 + size + size % 2
            if kind == b"ANMF":
                yield body
        raise corrupt(f"has more than {_MAX_CHUNKS} chunks", self._field)

    def _exactly(self, length: int) -> bytes:
        parts = []
        while length > 0:
            part = self._file.read(min(length, 1 << 20))
            if not part:
                raise corrupt("is cut off", self._field)
            parts.append(part)
            length -= len(part)
        return b"".join(parts)


class WebPCanvas:
    """Puts frames together: what a viewer shows after each."""

    def __init__(self, width: int, height: int) -> None:
        self._shape = (height, width)
        self._canvas = np.zeros((height, width, 4), np.uint8)
        self._disposed: WebPFrame | None = None

    def clear(self) -> None:
        """Forget every frame; the next one covers the canvas."""
        self._canvas[:] = 0
        self._disposed = None

    def put(self, data: bytes) -> Rgb:
        """The canvas after an `ANMF` chunk's content, uint8 (H, W, 3); a new array.

        Raises:
            ValueError: the frame cannot be decoded, is of another size than it declares, or lies
                outside the canvas.
        """
        frame = read_frame(data)
        height, width = self._shape
        if frame.x + frame.width > width or frame.y + frame.height > height:
            raise ValueError("a frame lies outside the canvas")
        rgba = _decoded(data[16:], frame)
        if (gone := self._disposed) is not None:
            self._canvas[gone.y : gone.y + gone.height, gone.x : gone.x + gone.width] = 0
        place = self._canvas[frame.y : frame.y + frame.height, frame.x : frame.x + frame.width]
        if frame.blend:
            place[:] = _over(rgba, place)
        else:
            place[:] = rgba
        self._disposed = frame if frame.dispose else None
        return on_white(self._canvas)


def _decoded(chunks: bytes, frame: WebPFrame) -> NDArray[np.uint8]:
    """The RGBA pixels of a frame's chunks, as a picture of its own."""
    alpha = 0x10 if chunks[:4] in (b"ALPH", b"VP8L") else 0
    sizes = (frame.width - 1).to_bytes(3, "little") + (frame.height - 1).to_bytes(3, "little")
    head = b"VP8X" + struct.pack("<II", 10, alpha) + sizes
    body = b"WEBP" + head + chunks
    file = b"RIFF" + struct.pack("<I", len(body)) + body
    try:
        image = WebPImageFile(io.BytesIO(file))
        if image.size != (frame.width, frame.height):
            raise ValueError("a frame is not of the size it declares")
        return np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError, EOFError, struct.error) as error:
        raise ValueError("a frame cannot be decoded") from error


def _over(above: NDArray[np.uint8], below: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Straight alpha over straight alpha, (H, W, 4) each (Porter and Duff 1984)."""
    upper = above.astype(np.float32)
    lower = below.astype(np.float32)
    alpha = upper[..., 3:] / 255
    behind = lower[..., 3:] / 255 * (1 - alpha)
    total = alpha + behind
    colors = (upper[..., :3] * alpha + lower[..., :3] * behind) / np.maximum(total, 1e-6)
    return np.concatenate((np.round(colors), np.round(255 * total)), axis=-1).astype(np.uint8)


def on_white(rgba: NDArray[np.uint8]) -> Rgb:
    """uint8 (H, W, 4) of straight alpha on white: uint8 (H, W, 3)."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
