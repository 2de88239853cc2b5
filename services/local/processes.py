"""Finds and ends the processes of a stack, and no others.

Pids are reused, so a process is identified by its pid and start time, or by the mark in its
environment, which every descendant of a stack inherits.
"""

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

MARK_VARIABLE = "LIMELIGHT_STACK_MARK"
# Names the part of the stack ("serve", "gateway") that a process descends from.
PART_VARIABLE = "LIMELIGHT_STACK_PART"
# Start times are rounded to clock ticks, differently by different readers.
_CLOCK_TICKS_S = 0.05


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """One process, by its pid and its start in seconds since the epoch."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "ProcessRef":
        """The process that has `pid` now; raises `psutil.NoSuchProcess` if there is none."""
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def of_child(cls, pid: int) -> "ProcessRef":
        """A child that was started just now, and may have ended and been reaped since."""
        try:
            return cls.of(pid)
        except psutil.NoSuchProcess:
            # Whoever gets the pid later started later than this.
            return cls(pid, 0.0)

    def resolve(self) -> psutil.Process | None:
        """The living process, or None if it ended, even if another process has its pid by now."""
        try:
            process = psutil.Process(self.pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            same = abs(process.create_time() - self.started) <= _CLOCK_TICKS_S
        except psutil.Error:
            return None
        return process if same else None

    @property
    def alive(self) -> bool:
        return self.resolve() is not None


def with_descendants(roots: Iterable[ProcessRef]) -> list[ProcessRef]:
    """The living processes among `roots` and all their descendants."""
    found: dict[int, ProcessRef] = {}
    for root in roots:
        process = root.resolve()
        if process is None:
            continue
        found[root.pid] = root
        with contextlib.suppress(psutil.Error):
            for child in process.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    found[child.pid] = ProcessRef(child.pid, child.create_time())
    return list(found.values())


def marked(mark: str, part: str | None = None) -> list[ProcessRef]:
    """This user's living processes whose environment holds the stack's mark (and that part)."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get(MARK_VARIABLE) == mark and (
                part is None or environment.get(PART_VARIABLE) == part
            ):
                found.append(ProcessRef(process.pid, process.create_time()))
    return found


def end(refs: Iterable[ProcessRef], grace_s: float) -> None:
    """Terminate, wait up to `grace_s` seconds, then kill the rest; ended processes are skipped."""
    living = [process for ref in refs if (process := ref.resolve()) is not None]
    if grace_s > 0:
        for process in living:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, living = psutil.wait_procs(living, timeout=grace_s)
    for process in living:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(living, timeout=5.0)


def wait_gone(ref: ProcessRef, timeout_s: float) -> bool:
    """Wait up to `timeout_s` seconds for the process to end; return whether it did."""
    process = ref.resolve()
    if process is None:
        return True
    try:
        process.wait(timeout=timeout_s)
    except psutil.TimeoutExpired:
        return False
    except psutil.Error:
        pass
    return not ref.alive


def uptime_s(ref: ProcessRef) -> float:
    """Seconds since the process started."""
    return max(0.0, time.time() - ref.started)
