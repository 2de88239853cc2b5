"""Finds and ends the processes of a stack, and no others.

Pids are reused, so a process is identified by its pid and start time, or by the mark in its
environment, which every descendant of a stack inherits. Start times count from the machine's boot
where the kernel tells (Linux): from the epoch, a clock that is set would move all of them, and
every process of a stack would count as another.
"""

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK_VARIABLE = "LIMELIGHT_STACK_MARK"
# Names the part of the stack ("serve", "gateway") that a process descends from.
PART_VARIABLE = "LIMELIGHT_STACK_PART"
# Start times are rounded to clock ticks, differently by different readers.
_CLOCK_TICKS_S = 0.05


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """One process, by its pid and its start in seconds: see `started_s`."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "ProcessRef":
        """The process that has `pid` now; raises `psutil.NoSuchProcess` if there is none."""
        return cls(pid, started_s(psutil.Process(pid)))

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
            same = abs(started_s(process) - self.started) <= _CLOCK_TICKS_S
        except psutil.Error:
            return None
        return process if same else None

    @property
    def alive(self) -> bool:
        return self.resolve() is not None


def started_s(process: psutil.Process) -> float:
    """When it started, in seconds since boot, or since the epoch where there is no /proc.

    Raises:
        psutil.Error: it has ended.
    """
    try:
        stat = Path(f"/proc/{process.pid}/stat").read_bytes()
    except OSError:
        return float(process.create_time())  # raises what is right for one that has ended
    # Its name, in brackets, may hold spaces and brackets; the start is field 22 (proc(5)).
    return int(stat.rpartition(b")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")


def stopped(process: psutil.Process) -> bool:
    """Whether a signal (SIGSTOP) stopped it: however busy, a process is not in that state; one that
    a debugger holds is in another.
    """
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:  # it has ended
        return False


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
                    found[child.pid] = ProcessRef(child.pid, started_s(child))
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
                found.append(ProcessRef(process.pid, started_s(process)))
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
    since_boot = Path("/proc/self/stat").exists()
    now = time.clock_gettime(time.CLOCK_BOOTTIME) if since_boot else time.time()
    return max(0.0, now - ref.started)
