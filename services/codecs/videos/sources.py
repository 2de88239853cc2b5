"""Where the command line takes a video from: a file, a pipe, a folder of frames, a camera.

A file and a pipe are bytes, which go to the service as they are (`chunks`); a folder and a camera
are frames, which go one by one (`frames`). `source_of` tells them apart by what a person typed.
"""

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av

from services.codecs import images
from services.codecs.videos.live import LiveFrame
from services.errors import InvalidMedia, Reason

CHUNK_BYTES = 1 << 18
"""A message's worth."""

_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".heic")
_DEVICE = re.compile(r"/dev/video\d+|(?:camera|device):(\d+)")
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class FileSource:
    """A video file."""

    path: Path

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, `CHUNK_BYTES` at a time."""
        with self.path.open("rb") as file:
            yield from _chunks(file)


@dataclass(frozen=True, slots=True)
class PipeSource:
    """A video's bytes on standard input, as they come."""

    pipe: BinaryIO

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, at most `CHUNK_BYTES` at a time."""
        yield from _chunks(self.pipe)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """Pictures of one folder, in the order of their names, numbers in them as numbers."""

    folder: Path
    rate: float
    """Frames a second, which pictures do not say."""

    def paths(self) -> list[Path]:
        """The pictures."""
        return sorted(
            (path for path in self.folder.iterdir() if path.suffix.lower() in _PICTURES),
            key=lambda path: [
                (int(part), "") if part.isdigit() else (-1, part)
                for part in re.split(r"(\d+)", path.name)
            ],
        )

    def frames(self) -> Iterator[LiveFrame]:
        """Each picture's own bytes, with its time."""
        for index, path in enumerate(self.paths()):
            yield LiveFrame(index, index / self.rate, path.read_bytes())


@dataclass(frozen=True, slots=True)
class CameraSource:
    """A camera that Video4Linux knows."""

    device: str

    def frames(self) -> Iterator[LiveFrame]:
        """What it sees, as JPEG, until the caller stops asking; times count from the first.

        Raises:
            InvalidMedia: the camera cannot be opened, or stops (VIDEO_MISSING).
        """
        try:
            with av.open(self.device, format="video4linux2", timeout=10.0) as camera:
                started = time.monotonic()
                for index, frame in enumerate(camera.decode(video=0)):
                    pixels: Any = frame.to_ndarray(format="rgb24")
                    jpeg = images.encode(pixels, "jpeg", quality=_JPEG_QUALITY)
                    yield LiveFrame(index, time.monotonic() - started, jpeg)
        except (av.FFmpegError, OSError, ValueError, IndexError) as error:
            raise InvalidMedia(
                Reason.VIDEO_MISSING, f"the camera {self.device} gives no video: {error}"
            ) from error


VideoSource = FileSource | PipeSource | FolderSource | CameraSource


def source_of(text: str, *, rate: float = 25.0, pipe: BinaryIO | None = None) -> VideoSource:
    """What `text` names: `-` is standard input, `camera:0` and `/dev/video0` are the first camera.

    Args:
        text: a path, `-` or a camera.
        rate: frames a second of a folder of pictures.
        pipe: what `-` means; standard input if not given.

    Raises:
        InvalidMedia: there is nothing of that name, the folder has no picture, or the machine has
            no such camera (VIDEO_MISSING).
    """
    if text == "-":
        return PipeSource(pipe or sys.stdin.buffer)
    if (found := _DEVICE.fullmatch(text)) is not None:
        device = f"/dev/video{found[1]}" if found[1] else text
        if not Path(device).exists():
            raise InvalidMedia(
                Reason.VIDEO_MISSING,
                f"this machine has no camera {device}"
                + (f" (it has {', '.join(cameras)})" if (cameras := _cameras()) else ""),
            )
        return CameraSource(device)
    path = Path(text)
    if path.is_dir():
        folder = FolderSource(path, rate)
        if not folder.paths():
            raise InvalidMedia(Reason.VIDEO_MISSING, f"the folder {text} has no picture in it")
        return folder
    if not path.exists():
        raise InvalidMedia(Reason.VIDEO_MISSING, f"there is no file {text}")
    return FileSource(path)


def _cameras() -> list[str]:
    return [str(path) for path in sorted(Path("/dev").glob("video*"))]


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    # What a pipe has now, without waiting until the chunk is full.
    read = getattr(file, "read1", file.read)
    while chunk := read(CHUNK_BYTES):
        yield chunk
