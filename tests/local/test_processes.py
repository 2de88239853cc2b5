"""Only a stack's own processes are ever ended."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from services.local import processes
from services.local.processes import MARK_VARIABLE, ProcessRef


@contextmanager
def sleeping(**environment: str) -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"],
        stdout=subprocess.PIPE,
        env={**os.environ, **environment},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_a_process_that_has_an_old_pid_is_not_touched() -> None:
    with sleeping() as child:
        ref = ProcessRef.of(child.pid)
        earlier = dataclasses.replace(ref, started=ref.started - 60)
        assert not earlier.alive
        processes.end([earlier], 0.0)
        assert child.poll() is None
        assert ref.alive
        processes.end([ref], 1.0)
        child.wait(60)
        assert not ref.alive


def test_a_clock_that_is_set_changes_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel reckons the machine's boot from its clock: set that, and the boot moves too."""
    with sleeping(**{MARK_VARIABLE: "mark-2"}) as child:
        ref = ProcessRef.of(child.pid)
        own, uptime_s = ProcessRef.of(os.getpid()), processes.uptime_s(ref)
        epoch = psutil.boot_time()
        for jump in (3600.0, -3600.0):
            monkeypatch.setattr("psutil._psplatform.boot_time", lambda jump=jump: epoch + jump)
            assert ref.alive
            assert ProcessRef.of(child.pid) == ref
            assert processes.marked("mark-2") == [ref]
            assert ref in processes.with_descendants([own])
        assert uptime_s <= processes.uptime_s(ref) < 3000


def test_a_stopped_process_is_told_from_one_that_waits() -> None:
    with sleeping() as child:
        process = psutil.Process(child.pid)
        assert not processes.stopped(process)
        process.suspend()
        while not processes.stopped(process):
            assert child.poll() is None
        process.resume()
        while processes.stopped(process):
            assert child.poll() is None
        child.kill()
        child.wait(60)
        assert not processes.stopped(process)


def test_marked_processes_are_found_by_their_whole_mark() -> None:
    with sleeping(**{MARK_VARIABLE: "mark-1"}) as mine, sleeping(**{MARK_VARIABLE: "mark-11"}):
        assert [ref.pid for ref in processes.marked("mark-1")] == [mine.pid]


def test_an_ended_process_is_waited_for() -> None:
    with sleeping() as child:
        ref = ProcessRef.of(child.pid)
        assert not processes.wait_gone(ref, 0.05)
        child.kill()
        assert processes.wait_gone(ref, 5.0)


def test_a_child_may_have_ended_before_it_is_looked_at() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()  # reaped: nobody has its pid
    assert not ProcessRef.of_child(child.pid).alive
    assert ProcessRef.of_child(os.getpid()) == ProcessRef.of(os.getpid())
