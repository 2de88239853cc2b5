"""Logs are bounded, and what is kept is the latest, whole."""

import resource
from pathlib import Path

import pytest

from services.local.log_file import LogFile, clear


def test_a_full_log_makes_room_and_keeps_the_latest(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = LogFile(path, max_bytes=100, kept=2)
    lines = [b"line %03d of this log\n" % number for number in range(50)]
    for line in lines:
        log.write(line)
    log.close()
    files = [path.with_name("a.log.2"), path.with_name("a.log.1"), path]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 100 for file in files)
    kept = b"".join(file.read_bytes() for file in files)
    assert b"".join(lines).endswith(kept)
    assert len(kept) > 200


def test_a_piece_larger_than_a_log_is_written_whole(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", max_bytes=10, kept=1)
    log.write(b"x" * 50)
    log.write(b"y" * 50)
    log.close()
    assert (tmp_path / "a.log.1").read_bytes() == b"x" * 50
    assert (tmp_path / "a.log").read_bytes() == b"y" * 50


def test_a_log_goes_on_where_it_was(tmp_path: Path) -> None:
    for number in (1, 2):
        log = LogFile(tmp_path / "a.log", max_bytes=100)
        log.write(b"start %d\n" % number)
        log.close()
    assert (tmp_path / "a.log").read_bytes() == b"start 1\nstart 2\n"


def test_clearing_removes_those_before(tmp_path: Path) -> None:
    for name in ("a.log", "a.log.1", "a.log.2", "a.log.txt"):
        (tmp_path / name).write_bytes(b"old")
    clear(tmp_path / "a.log")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log", "a.log.txt"]
    assert (tmp_path / "a.log").read_bytes() == b""


def test_a_full_disk_loses_lines_and_ends_nobody() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    log = LogFile(full)
    log.write(b"a line\n")
    log.close()


def test_what_a_full_disk_cost_is_told_when_there_is_room(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    log.write(b"before\n")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        log.write(b"lost\n")
        log.write(b"lost too\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    log.write(b"after\n")
    log.write(b"and on\n")
    log.close()
    told = b"(2 lines could not be written: there was no room on the disk)\n"
    assert (tmp_path / "log").read_bytes() == b"before\n" + told + b"after\nand on\n"
