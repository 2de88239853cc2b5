"""What `limelight track` sends, and the pixels of its frames for the files that it draws.

A file and a pipe go to the service as they are. A folder of pictures is made a file first. Of a
camera the pictures are kept until they have been answered.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from limelight import LivePicture
from services.codecs.images import decode
from services.codecs.videos.decode import DecodedFrame, VideoDecoder
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.folders import write_folder
from services.codecs.videos.limits import DEFAULT_VIDEO_LIMITS
from services.codecs.videos.selection import FrameSelection
from services.codecs.videos.sources import CameraSource, FolderSource, PipeSource, VideoSource
from services.codecs.videos.spool import Spool
from services.errors import InvalidMedia, Reason

Rgb = NDArray[np.uint8]


class Footage(Protocol):
    """A video to be tracked. A context manager that gives back what it holds."""

    video: Any
    """For `Client.track`."""

    def pixels(self, index: int) -> Rgb:
        """Frame `index`, uint8 (H, W, 3); asked for in rising order.

        Raises:
            InvalidMedia: it cannot be decoded here.
        """

    @property
    def rate(self) -> float | None:
        """Frames a second, as far as is known; asked for after the first frame."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None: ...


def footage_of(source: VideoSource, selection: FrameSelection, drawn: bool) -> Footage:
    """The footage of `source`; `drawn`: whether pixels will be asked for.

    Raises:
        InvalidMedia, TooLarge: a picture of a folder cannot be used.
    """
    if isinstance(source, CameraSource):
        return _CameraFootage(source.frames())
    return _FileFootage(source, selection, drawn)


class _FileFootage:
    """Encoded video, decoded a second time here when pixels are asked for."""

    def __init__(self, source: VideoSource, selection: FrameSelection, drawn: bool) -> None:
        self._selection = selection
        self._closing = ExitStack()
        self._frames: Iterator[DecodedFrame] | None = None
        self._demuxer: Demuxer | None = None
        self.video: Any
        self._readable: Spool | BinaryIO | None = None
        if isinstance(source, PipeSource):
            self.video = source.pipe
            if drawn:
                # Beyond `memory_bytes` it is a file.
                self._readable = self._closing.enter_context(Spool(DEFAULT_VIDEO_LIMITS.max_bytes))
                self.video = _Copying(source.pipe, self._readable)
            return
        if isinstance(source, FolderSource):
            folder = self._closing.enter_context(
                tempfile.TemporaryDirectory(prefix="limelight-track-")
            )
            path = Path(folder) / "pictures.mkv"
            try:
                write_folder(source, path)
            except BaseException:
                self._closing.close()
                raise
        else:
            assert not isinstance(source, CameraSource)
            path = source.path
        self.video = path
        if drawn:
            self._readable = self._closing.enter_context(path.open("rb"))

    def pixels(self, index: int) -> Rgb:
        if self._frames is None:
            self._frames = self._decoded()
        for frame in self._frames:
            if frame.index == index:
                return frame.pixels
            if frame.index > index:
                break
        raise InvalidMedia(
            Reason.VIDEO_CORRUPT, f"frame {index} was tracked and cannot be decoded here"
        )

    @property
    def rate(self) -> float | None:
        return None if self._demuxer is None else self._demuxer.info.average_rate

    def _decoded(self) -> Iterator[DecodedFrame]:
        assert self._readable is not None
        self._demuxer = self._closing.enter_context(Demuxer(self._readable))
        decoder = VideoDecoder(self._demuxer.header, selection=self._selection)
        for gop in self._demuxer.gops():
            yield from decoder.decode(gop)
        yield from decoder.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self._closing.close()


class _Copying:
    """A pipe whose bytes are kept as they are read."""

    def __init__(self, pipe: BinaryIO, copy: Spool) -> None:
        self._read = getattr(pipe, "read1", pipe.read)
        self._copy = copy

    def read(self, length: int) -> bytes:
        content: bytes = self._read(length)
        if content:
            self._copy.write(content)
        else:
            self._copy.finish()
        return content

    def seekable(self) -> bool:
        return False


class _CameraFootage:
    """Live pictures, each kept until its frame, or a later one, is asked for."""

    rate = None

    def __init__(self, frames: Iterable[Any]) -> None:
        self._frames = iter(frames)
        self._kept: dict[int, bytes] = {}
        self.video = self._pictures()

    def _pictures(self) -> Iterator[LivePicture]:
        for frame in self._frames:
            self._kept[frame.index] = frame.content
            yield LivePicture(frame.content, frame.time_s)

    def pixels(self, index: int) -> Rgb:
        content = self._kept[index]
        for passed in [number for number in self._kept if number <= index]:
            del self._kept[passed]
        return decode(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self._kept.clear()
