"""A video as it is sent: a file's bytes in chunks, or live pictures, from wherever they come.

What was sent is kept until the service has surely taken it, so that a stream whose connection was
cut goes on with what got lost.
"""

import io
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from limelight.tasks import ImageLike, image_bytes
from limelight.v1 import video_pb2

# Bytes of a file in one message; the contract allows 1 MiB.
CHUNK_BYTES = 256 * 1024
# Requests with media that may be under way beyond those that were acknowledged, by the contract.
WINDOW = 8
# Messages kept after the service acknowledged them: another gateway may know of a little less.
_KEPT = 4 * WINDOW


@dataclass(frozen=True, slots=True)
class LivePicture:
    """One frame of live input: anything that `Client.segment` takes as an image, and when it was
    taken, in seconds from a zero of the caller's choice.
    """

    image: ImageLike
    time_s: float


_Numbered: TypeAlias = tuple[int, int, video_pb2.TrackVideoRequest]
VideoLike: TypeAlias = str | PathLike[str] | bytes | bytearray | memoryview | BinaryIO


class VideoSource:
    """Yields a video as messages, and yields some of them again after a cut.

    Args:
        video: a file's path, its bytes, a file opened for reading bytes (a pipe too), or an
            iterable of `LivePicture`, which makes the input live.

    Raises:
        OSError: the file cannot be read.
        TypeError: it is none of those.
    """

    def __init__(self, video: "VideoLike | Iterable[LivePicture]") -> None:
        self._file: BinaryIO | None = None
        self._pictures: Iterator[LivePicture] | None = None
        self._own = False
        if isinstance(video, str | PathLike):
            self._file, self._own = Path(video).open("rb"), True  # noqa: SIM115 (closed by `close`)
        elif isinstance(video, bytes | bytearray | memoryview):
            self._file = io.BytesIO(video)
        elif hasattr(video, "read"):
            self._file = cast("BinaryIO", video)
        elif isinstance(video, Iterable):
            self._pictures = iter(video)
        else:
            kind = type(video).__name__
            raise TypeError(
                f"a video must be a path, bytes, an open file or live pictures, not {kind}"
            )
        self.live = self._pictures is not None
        # (bytes before it, its bytes, the message), oldest first.
        self._sent: deque[_Numbered] = deque(maxlen=_KEPT)
        self._again: deque[_Numbered] = deque()
        self._offset = 0

    def read(self) -> video_pb2.TrackVideoRequest | None:
        """The next message; None at the end. Blocks."""
        if self._again:
            kept = self._again.popleft()
            self._sent.append(kept)
            return kept[2]
        if self._pictures is not None:
            picture = next(self._pictures, None)
            return None if picture is None else self.picture(picture)
        assert self._file is not None
        # One read: a pipe gives what it has.
        content = getattr(self._file, "read1", self._file.read)(CHUNK_BYTES)
        if not content:
            return None
        return self._numbered(video_pb2.TrackVideoRequest(chunk=content), len(content))

    @property
    def repeats(self) -> bool:
        """Whether `read` gives again what was sent already."""
        return bool(self._again)

    def picture(self, picture: LivePicture) -> video_pb2.TrackVideoRequest:
        """The message of a live picture that its reader took from somewhere else."""
        content = image_bytes(picture.image)
        message = video_pb2.TrackVideoRequest()
        message.frame.image.content = content
        message.frame.timestamp_s = picture.time_s
        return self._numbered(message, len(content))

    def go_to(self, offset: int) -> None:
        """Go on with what follows the first `offset` bytes.

        Raises:
            ValueError: they are not kept, and cannot be read again.
        """
        kept = [*self._sent, *self._again]
        self._sent.clear()
        again = [item for item in kept if item[0] + item[1] > offset]
        first = again[0][0] if again else self._offset
        if offset < first:
            self._seek(offset)
            again = []
        elif not again:
            self._skip_to(offset)
        elif first < offset:
            again[0] = _rest(again[0], offset)
        self._again = deque(again)

    def close(self) -> None:
        """Close the file, if it was opened here."""
        if self._own and self._file is not None:
            self._file.close()

    def _numbered(
        self, message: video_pb2.TrackVideoRequest, size: int
    ) -> video_pb2.TrackVideoRequest:
        self._sent.append((self._offset, size, message))
        self._offset += size
        return message

    def _seek(self, offset: int) -> None:
        if self._file is None or not self._file.seekable():
            raise ValueError(f"the service needs byte {offset} again, which is not kept any more")
        self._file.seek(offset)
        self._offset = offset

    def _skip_to(self, offset: int) -> None:
        """Leave out what the service has from another process; live pictures simply go on."""
        if self._file is not None and self._file.seekable():
            self._file.seek(offset)
        elif self._file is not None:
            while self._offset < offset:
                skipped = self._file.read(min(CHUNK_BYTES, offset - self._offset))
                if not skipped:
                    break
                self._offset += len(skipped)
        self._offset = offset


def _rest(item: _Numbered, offset: int) -> _Numbered:
    """What of a chunk follows `offset`; a picture stays whole."""
    begin, size, message = item
    if message.WhichOneof("step") != "chunk":
        return item
    rest = message.chunk[offset - begin :]
    return offset, size - (offset - begin), video_pb2.TrackVideoRequest(chunk=rest)
