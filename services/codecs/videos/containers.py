"""Which container a file is, and whether its tables may be shown to a demuxer.

libav's demuxer of MP4 makes an entry in memory for each sample that a table declares, and a table
of a hundred bytes can declare billions. `GuardedFile` stands between it and the file and looks at
every box outside the media data before the demuxer does.

Sources: ISO/IEC 14496-12 (MP4), RFC 9559 (Matroska), Microsoft's RIFF, GIF89a, RFC 9649 (WebP).
"""

import io
import re
import struct
from collections.abc import Callable
from typing import Protocol

import numpy as np

from limelight.paths import FieldPath
from services.codecs.videos.limits import corrupt, unsupported
from services.errors import Reason, TooLarge

SNIFFED_BYTES = 16

# What an MP4 or MOV may begin with.
_MP4_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Descriptions of a long video take some megabytes.
_MAX_INDEX_BYTES = 64 << 20
_MAX_BOXES = 1 << 18
_FAR = 1 << 62


class SeekableFile(Protocol):
    """What a demuxer reads from."""

    def read(self, length: int, /) -> bytes: ...
    def seek(self, offset: int, whence: int = 0, /) -> int: ...
    def tell(self) -> int: ...


def canvas_of(container: str, head: bytes) -> tuple[int, int] | None:
    """Width and height that the first 16 bytes of a GIF declare; None for other containers."""
    if container != "gif":
        return None
    width, height = struct.unpack_from("<HH", head.ljust(SNIFFED_BYTES, b"\0"), 6)
    return width, height


def container_of(head: bytes, field: FieldPath) -> str:
    """The container whose first 16 bytes are `head`: mp4, matroska, avi, gif or webp.

    Raises:
        InvalidMedia: it is none of them (VIDEO_UNSUPPORTED).
    """
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    raise unsupported("is not MP4, MOV, WebM, Matroska, AVI, GIF or animated WebP", field)


class GuardedFile:
    """`file` for libav's MP4 demuxer, which gets no box whose tables declare too many samples.

    Raises (from `read`):
        TooLarge: more than `max_samples` in a track, or four times as many in all (VIDEO_TOO_LONG),
            or tables of more than 64 MiB (VIDEO_TOO_LARGE).
        InvalidMedia: a compressed or endless index (VIDEO_UNSUPPORTED, VIDEO_CORRUPT).
    """

    def __init__(
        self,
        file: SeekableFile,
        max_samples: int,
        field: FieldPath,
        is_complete: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_complete` says whether the end of `file` can be reached without waiting."""
        self._file = file
        self._is_complete = is_complete
        self._max_samples = max_samples
        self._field = field
        self._at = 0
        # Up to where the boxes have been looked at; the end of the file is never passed.
        self._looked = 0
        self._index_bytes = 0
        self._boxes = 0
        self._samples = 0
        self.torn = False
        """Whether the file ended within a box."""

    def read(self, length: int) -> bytes:
        """As the file's own."""
        while self._looked <= self._at and self._look():
            pass
        # Not beyond what was looked at: the rest waits for its turn, and may not have come yet.
        length = min(length, max(1, self._looked - self._at))
        self._file.seek(self._at)
        data = self._file.read(length)
        self._at += len(data)
        self.torn |= not data and self._at < self._looked < _FAR
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As the file's own; while the end has not come, it is far away.

        The demuxer asks for the size at once, and reads in order what has none.
        """
        if whence == io.SEEK_CUR:
            offset += self._at
        elif whence == io.SEEK_END:
            offset = self._file.seek(offset, whence) if self._is_complete() else _FAR + offset
        self._at = max(0, offset)
        return self._at

    def tell(self) -> int:
        """As the file's own."""
        return self._at

    def _look(self) -> bool:
        """Goes past one box; False at the end of the file, or where no box can follow."""
        self._boxes += 1
        if self._boxes > _MAX_BOXES:
            raise corrupt("has more boxes than a video needs", self._field)
        self._file.seek(self._looked)
        head = self._whole(16)
        if len(head) < 8:
            self._looked = _FAR
            return False
        size, kind = struct.unpack_from(">I4s", head)
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack_from(">Q", head, 8)
        if size == 0:
            size = (_FAR) - self._looked
        if size < 8:
            # A demuxer stops here, or is told that the file does.
            self._check(kind, head)
            self._looked = _FAR
            return False
        if kind != b"mdat":
            self._file.seek(self._looked)
            self._check(kind, self._whole(min(size, _MAX_INDEX_BYTES + 1)))
        self._looked += size
        return True

    def _whole(self, length: int) -> bytes:
        """`length` bytes of the file, or all that are left."""
        parts = []
        while length > 0 and (part := self._file.read(min(length, 1 << 20))):
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _check(self, kind: bytes, box: bytes) -> None:
        # Filler is skipped unread, and may be of any length.
        if kind in (b"free", b"skip", b"wide") and b"moov" not in box[:64]:
            return
        self._index_bytes += len(box)
        if self._index_bytes > _MAX_INDEX_BYTES:
            raise TooLarge(
                Reason.VIDEO_TOO_LARGE,
                f"the video's index has more than {_MAX_INDEX_BYTES} bytes",
                field=self._field,
            )
        if b"cmov" in box and b"dcom" in box:
            raise unsupported("has a compressed index", self._field)
        # Tables may stand in any box: they are looked for by name, each track for itself.
        tracks = [found.start() for found in re.finditer(b"trak", box)]
        for start, end in zip([0, *tracks], [*tracks, len(box)], strict=True):
            self._check_track(box[start:end])

    def _check_track(self, box: bytes) -> None:
        samples = max(
            sum(_declared(box, b"stsz", 8)),
            sum(_declared(box, b"stz2", 8)),
            sum(_declared(box, b"trun", 4)),
            sum(_run_lengths(box, b"stts")),
            sum(_run_lengths(box, b"ctts")),
        )
        edits = sum(_declared(box, b"elst", 4))
        if not _is_plain_audio(box):
            self._samples += samples
            if samples > self._max_samples or self._samples > 4 * self._max_samples:
                raise self._too_many(samples)
        # The demuxer goes through all samples for each edit.
        if edits > 1 and edits * min(samples, self._max_samples) > 10 * self._max_samples:
            raise self._too_many(edits * samples)

    def _too_many(self, samples: int) -> TooLarge:
        return TooLarge(
            Reason.VIDEO_TOO_LONG,
            f"the video declares {samples} frames in one table, more than are allowed",
            field=self._field,
        )


def _declared(box: bytes, name: bytes, offset: int) -> list[int]:
    """The counts that stand `offset` bytes after the names of all tables `name`."""
    return [
        struct.unpack_from(">I", box, found.end() + offset)[0]
        for found in re.finditer(name, box)
        if found.end() + offset + 4 <= len(box)
    ]


def _run_lengths(box: bytes, name: bytes) -> list[int]:
    """How many samples the run-length tables `name` are of."""
    sums = []
    for found in re.finditer(name, box):
        at = found.end() + 8
        if at > len(box):
            continue
        (entries,) = struct.unpack_from(">I", box, at - 4)
        entries = min(entries, (len(box) - at) // 8)
        counts = np.frombuffer(box, ">u4", 2 * entries, at)[::2]
        sums.append(int(counts.sum(dtype=np.uint64)))
    return sums


def _is_plain_audio(box: bytes) -> bool:
    """Whether a track is uncompressed sound, of which the demuxer keeps chunks and not samples."""
    handlers = [
        box[at.end() + 8 : at.end() + 12]
        for at in re.finditer(b"hdlr", box)
        if box[at.end() + 4 : at.end() + 8] in (b"mhlr", b"\0\0\0\0")
    ]
    durations = [box[at.end() + 4 : at.end() + 16] for at in re.finditer(b"stts", box)]
    return (
        b"soun" in handlers
        and b"vide" not in handlers
        and len(durations) == 1
        and durations[0][:4] == b"\0\0\0\1"
        and durations[0][8:] == b"\0\0\0\1"
        and b"trun" not in box
        and not any(_run_lengths(box, b"ctts"))
    )
