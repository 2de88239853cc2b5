"""A video's bytes as they come: kept in memory, then on disk, and read while more arrive.

First stop of a video: the gateway writes chunks in, a demuxer reads them out in another thread. A
container that can be read in order is read as it comes; one whose index stands at its end makes the
reader wait for the end. The file has no name and is gone when the spool is closed or collected.
"""

import io
import math
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from limelight.paths import FieldPath
from services.codecs.videos.containers import SeekableFile
from services.codecs.videos.limits import VIDEO_CONTENT, Stop, never
from services.errors import (
    Cancelled,
    Internal,
    InvalidMedia,
    OutOf,
    Reason,
    ServiceError,
    TooLarge,
    out_of,
)

# How often a reader that waits for bytes asks whether it is still wanted.
_POLL_S = 0.1


@runtime_checkable
class GrowingFile(Protocol):
    """A file that is still coming."""

    @property
    def finished(self) -> bool:
        """Whether the last byte has come."""

    def reader(self, *, stop: Stop = never) -> SeekableFile:
        """A reader at the first byte, which waits for what has not come."""


class Spool:
    """At most `max_bytes` of a file, the first `memory_bytes` of them in memory.

    One thread writes, any number read, each through a reader of its own. `on_starved` is called in
    the thread of a reader that begins to wait for bytes; it must not touch the spool.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        memory_bytes: int = 8 << 20,
        folder: Path | None = None,
        field: FieldPath = VIDEO_CONTENT,
        on_starved: Callable[[], None] | None = None,
    ) -> None:
        self._max_bytes = max_bytes
        self._on_starved = on_starved
        self._awaited: list[float] = []
        """The sizes that readers wait for."""
        self._field = field
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(max_size=memory_bytes, dir=place)  # noqa: SIM115
        self._changed = threading.Condition()
        self._size = 0
        self._finished = False
        self._failure: ServiceError | None = None
        self._closed = False

    @property
    def size(self) -> int:
        """Bytes that have come so far."""
        return self._size

    @property
    def finished(self) -> bool:
        """Whether the last byte has come."""
        return self._finished

    @property
    def starved(self) -> bool:
        """Whether a reader waits for bytes that have not come."""
        with self._changed:
            return not self._finished and any(size > self._size for size in self._awaited)

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; nothing of `chunk` is kept if there are too many.

        Raises:
            TooLarge: the file would be over its bound (VIDEO_TOO_LARGE); readers get it too.
            OutOf: the disk is full; readers get it too.
            ServiceError: what `fail` was given.
        """
        with self._changed:
            self._check()
            if self._finished:
                raise ValueError("the file is complete")
            if self._size + len(chunk) > self._max_bytes:
                self._failure = TooLarge(
                    Reason.VIDEO_TOO_LARGE,
                    f"the video has more than {self._max_bytes} bytes, the most that are allowed",
                    field=self._field,
                )
                self._changed.notify_all()
                raise self._failure
            try:
                self._file.seek(0, io.SEEK_END)
                self._file.write(chunk)
            except (OSError, MemoryError) as exc:
                # A part of it may be there: the file can be read no more.
                self._failure = _without_room(exc) or Internal()
                self._changed.notify_all()
                raise self._failure from exc
            self._size += len(chunk)
            self._changed.notify_all()

    def finish(self) -> None:
        """The last byte has come.

        Raises:
            InvalidMedia: there was none (VIDEO_MISSING).
        """
        with self._changed:
            if self._size == 0 and self._failure is None:
                self._failure = InvalidMedia(
                    Reason.VIDEO_MISSING, "the video is empty", field=self._field
                )
            self._finished = True
            self._changed.notify_all()
            self._check()

    def fail(self, error: ServiceError) -> None:
        """No more bytes will come, and `error` says why; whoever reads gets it."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def reader(self, *, stop: Stop = never) -> "SpoolReader":
        """A reader at the first byte; `stop` ends its waiting with `Cancelled`."""
        return SpoolReader(self, stop)

    def close(self) -> None:
        """Give the memory and the disk back; readers that wait end with `Cancelled`."""
        with self._changed:
            self._closed = True
            self._file.close()
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise Cancelled("the video is no longer wanted")

    @contextmanager
    def _waited(self, until: int | None, stop: Stop) -> Iterator[None]:
        """Holds the lock once the bytes up to `until` are here (None: all) or no more will come."""
        awaited = math.inf if until is None else until
        with self._changed:
            self._awaited.append(awaited)
            try:
                told = False
                while True:
                    self._check()
                    if self._finished or self._size >= awaited:
                        break
                    if stop():
                        raise Cancelled()
                    if self._on_starved is not None and not told:
                        told = True
                        self._on_starved()
                    self._changed.wait(_POLL_S)
            finally:
                self._awaited.remove(awaited)
            yield

    def _read(self, at: int, length: int, stop: Stop) -> bytes:
        with self._waited(at + 1, stop):
            self._file.seek(at)
            return self._file.read(min(length, max(0, self._size - at)))

    def _end(self, stop: Stop) -> int:
        with self._waited(None, stop):
            return self._size


def _without_room(exc: Exception) -> ServiceError | None:
    # Before its first file, `tempfile` looks for a folder that it can write to, and finds none on a
    # full disk.
    return OutOf("disk") if isinstance(exc, FileNotFoundError) else out_of(exc)


class GrowingReader(ABC):
    """A binary file whose `read` and `seek` wait for what has not come."""

    def __init__(self) -> None:
        self._at = 0

    @abstractmethod
    def read(self, length: int) -> bytes:
        """At most `length` bytes, at least one before the end of the file.

        Raises:
            ServiceError: what the file was failed with.
        """

    @abstractmethod
    def _end(self) -> int:
        """The file's length, once the end has come."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """The new position; from the end, once the end has come."""
        if whence == io.SEEK_CUR:
            offset += self._at
        elif whence == io.SEEK_END:
            offset += self._end()
        if offset < 0:
            raise ValueError("a position before the file")
        self._at = offset
        return offset

    def tell(self) -> int:
        """The position."""
        return self._at


class SpoolReader(GrowingReader):
    """Reads what a spool of this process holds."""

    def __init__(self, spool: Spool, stop: Stop) -> None:
        super().__init__()
        self._spool = spool
        self._stop = stop

    def read(self, length: int) -> bytes:
        """At most `length` bytes, at least one before the end of the file.

        Raises:
            Cancelled: the spool was closed, or the reader's `stop` said so.
            ServiceError: what the spool was failed with.
        """
        data = self._spool._read(self._at, length, self._stop)
        self._at += len(data)
        return data

    def _end(self) -> int:
        return self._spool._end(self._stop)
