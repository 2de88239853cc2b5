"""`services.codecs.videos.spool`: bounded, read while it fills, always cleaned up."""

import io
import resource
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.codecs.videos.demux import Demuxer
from services.codecs.videos.limits import VIDEO_CONTENT
from services.codecs.videos.spool import Spool
from services.errors import Cancelled, InvalidMedia, OutOf, Overloaded, Reason, TooLarge
from tests.codecs.videos.clips import KINDS


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond 0 bytes: as on a full disk, but for this one alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("known", [True, False], ids=["folder known", "first file"])
def test_a_full_disk_is_no_fault_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    with Spool(1 << 20, memory_bytes=4, folder=tmp_path if known else None) as spool:
        spool.write(b"abc")
        with full_disk(), pytest.raises(OutOf, match="out of disk") as full:
            spool.write(bytes(1 << 16))
        assert (full.value.reason, full.value.retry_after_s) == (Reason.OVERLOADED, 5.0)
        # What came before is not enough to go on with.
        with pytest.raises(OutOf):
            spool.reader().read(1)
        with pytest.raises(OutOf):
            spool.write(b"d")


@pytest.mark.parametrize("memory_bytes", [4, 1 << 20])
def test_what_goes_in_comes_out(memory_bytes: int) -> None:
    with Spool(1000, memory_bytes=memory_bytes) as spool:
        for start in range(0, 100, 10):
            spool.write(bytes(range(start, start + 10)))
        spool.finish()
        assert (spool.size, spool.finished) == (100, True)
        reader = spool.reader()
        assert reader.read(7) == bytes(range(7))
        assert reader.seek(-3, io.SEEK_END) == 97
        assert reader.read(10) == bytes((97, 98, 99))
        assert reader.read(10) == b""
        assert reader.seek(5) == reader.tell() == 5
        assert reader.seek(5, io.SEEK_CUR) == 10
        assert reader.read(1) == b"\x0a"
        assert spool.reader().read(3) == b"\0\1\2"  # each reader for itself


def test_too_many_bytes_are_refused_at_once() -> None:
    with Spool(10) as spool:
        spool.write(bytes(6))
        with pytest.raises(TooLarge) as caught:
            spool.write(bytes(5))
        assert caught.value.reason is Reason.VIDEO_TOO_LARGE
        assert caught.value.field == VIDEO_CONTENT
        assert spool.size == 6
        with pytest.raises(TooLarge):
            spool.reader().read(1)


def test_no_byte_at_all_is_no_video() -> None:
    with Spool(10) as spool, pytest.raises(InvalidMedia) as caught:
        spool.finish()
    assert caught.value.reason is Reason.VIDEO_MISSING


def test_a_reader_waits_for_bytes_and_gets_them_as_they_come() -> None:
    with Spool(100) as spool, ThreadPoolExecutor(1) as pool:
        reader = spool.reader()
        first = pool.submit(reader.read, 10)
        assert not first.done()
        spool.write(b"abc")
        assert first.result(10) == b"abc"
        at_end = pool.submit(reader.seek, 0, io.SEEK_END)
        spool.write(b"def")
        assert not at_end.done()
        spool.finish()
        assert at_end.result(10) == 6


def test_a_reader_that_waits_is_ended_by_failure_closing_and_stop() -> None:
    with Spool(100) as spool, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(spool.reader().read, 1)
        spool.fail(Overloaded(Reason.OVERLOADED, "away"))
        with pytest.raises(Overloaded):
            waiting.result(10)
    spool = Spool(100)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(spool.reader().read, 1)
        spool.close()
        with pytest.raises(Cancelled):
            waiting.result(10)
    with Spool(100) as spool, ThreadPoolExecutor(1) as pool:
        stop = threading.Event()
        waiting = pool.submit(spool.reader(stop=stop.is_set).read, 1)
        stop.set()
        with pytest.raises(Cancelled):
            waiting.result(10)


def test_the_disk_is_given_back(tmp_path: Path) -> None:
    spool = Spool(1 << 20, memory_bytes=10, folder=tmp_path)
    spool.write(bytes(1000))
    assert list(tmp_path.iterdir()) == []  # it has no name that could be left behind
    file = spool._file._file
    spool.close()
    assert file.closed


@pytest.mark.parametrize("kind", ["mp4-faststart", "mp4-fragmented", "webm-vp9", "mkv-h264"])
def test_gops_come_before_the_file_is_complete(kind: str) -> None:
    """Containers that may be read in order give all but the last GOPs of what has come."""
    data = KINDS[kind].make()
    with Spool(1 << 20) as spool, ThreadPoolExecutor(1) as pool:
        spool.write(data[: len(data) * 3 // 4])

        def first() -> tuple[int, int]:
            with Demuxer(spool) as demuxer:
                assert not spool.finished
                gop = next(demuxer.gops())
                return gop.first_frame, gop.frames

        # Nothing more is written: it would wait for ever if it needed more.
        assert pool.submit(first).result(30) == (0, 12)


def test_an_index_at_the_end_is_waited_for() -> None:
    data = KINDS["mp4-h264"].make()
    assert data.index(b"moov") > data.index(b"mdat")
    with Spool(1 << 20, memory_bytes=100) as spool, ThreadPoolExecutor(1) as pool:

        def count() -> int:
            with Demuxer(spool) as demuxer:
                assert spool.finished
                return sum(gop.frames for gop in demuxer.gops())

        counting = pool.submit(count)
        for start in range(0, len(data), 500):
            spool.write(data[start : start + 500])
        assert not counting.done()
        spool.finish()
        assert counting.result(30) == KINDS["mp4-h264"].frames


def test_a_sender_that_vanishes_ends_the_demuxer_with_its_error() -> None:
    data = KINDS["webm-vp9"].make()
    with Spool(1 << 20) as spool, ThreadPoolExecutor(1) as pool:
        spool.write(data[: len(data) // 2])
        counting = pool.submit(lambda: [gop.index for gop in Demuxer(spool).gops()])
        spool.fail(Cancelled())
        with pytest.raises(Cancelled):
            counting.result(30)
