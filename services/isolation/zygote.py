"""`python -m services.isolation.zygote FD MEMORY MODULE...`: forks workers that are warm.

The parent starts it once, over the socket `FD`. It imports the modules, which takes a moment, and
then forks a worker in milliseconds whenever it is asked: with a single thread, so that a fork is
safe, and with nothing of the parent's memory in it. It ends workers on request and tells how each
ended. With the parent it ends itself, and the workers with it. It writes to no file.

The lines that it reads: `spawn ID JOBS`, with one end of a socket pair, and `kill ID`; those that
it writes: `ended ID STATUS`, the status as `os.waitpid` has it.
"""

import contextlib
import ctypes
import gc
import importlib
import os
import pickle
import resource
import select
import signal
import socket
import sys
import traceback
from collections import deque
from typing import Any

from services.errors import ServiceError
from services.isolation import wire
from services.isolation.wire import Limits

_PR_SET_PDEATHSIG = 1
_LINE_BYTES = 4096
_MOST_FDS = 16
# For the kernel, when memory runs out: take a worker, and not who asked it.
_OOM_SCORE = b"1000"

_connection: socket.socket | None = None
"""In a worker, the socket to the process that asks: what `note` and `ask` write to."""


def note(text: str) -> None:
    """Tell the asking process what is worked on, in case this worker does not come back.

    Outside a worker nothing happens.
    """
    if _connection is not None:
        wire.send(_connection, wire.NOTE, pickle.dumps(text))


def ask(name: str, *args: object) -> Any:
    """What the asking process answers to a question of a job that it has dedicated a worker to.

    Raises:
        ServiceError: what its answer was refused with.
    """
    assert _connection is not None
    wire.send(_connection, wire.ASK, pickle.dumps((name, args), protocol=5))
    kind, content = wire.receive(_connection)
    if kind == wire.REFUSAL:
        raise wire.refused(content)
    return pickle.loads(content)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    limits = Limits(memory_bytes=int(sys.argv[2]))
    # What ends the parent (Ctrl-C goes to the whole group) is its business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for name in sys.argv[3:]:
        module = importlib.import_module(name)
        getattr(module, "prepare", lambda: None)()
    gc.collect()
    gc.freeze()  # so that no collection touches, and thereby copies, what workers share
    _Zygote(control, limits).run()


class _Zygote:
    def __init__(self, control: socket.socket, limits: Limits) -> None:
        self._control = control
        self._limits = limits
        self._pids: dict[str, int] = {}

    def run(self) -> None:
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        fds: deque[int] = deque()
        text = b""
        while True:
            control = self._control.fileno()
            ready, _, _ = select.select([control, woken], [], [])
            if woken in ready:
                os.read(woken, _LINE_BYTES)
                self._reap()
            if control not in ready:
                continue
            try:
                read, came, _, _ = socket.recv_fds(self._control, _LINE_BYTES, _MOST_FDS)
            except OSError:
                read, came = b"", []
            if not read:
                self._end()
                return
            fds += came
            *lines, text = (text + read).split(b"\n")
            for line in lines:
                verb, number, *rest = line.decode().split()
                if verb == "spawn":
                    self._spawn(number, int(rest[0]), fds.popleft(), (woken, wake))
                elif number in self._pids:
                    os.kill(self._pids[number], signal.SIGKILL)

    def _spawn(self, number: str, jobs: int, fd: int, pipe: tuple[int, int]) -> None:
        pid = os.fork()
        if pid:
            os.close(fd)
            self._pids[number] = pid
            return
        # From here on this is the worker, which never returns.
        code = 1
        with contextlib.suppress(BaseException):
            signal.set_wakeup_fd(-1)
            for end in pipe:
                os.close(end)
            self._control.close()
            _work(socket.socket(fileno=fd), self._limits, jobs)
            code = 0
        os._exit(code)

    def _reap(self) -> None:
        for number, pid in list(self._pids.items()):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                del self._pids[number]
                with contextlib.suppress(OSError):
                    self._control.sendall(f"ended {number} {status}\n".encode())

    def _end(self) -> None:
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids.values():
            os.waitpid(pid, 0)


def _work(connection: socket.socket, limits: Limits, jobs: int) -> None:
    """Answer what comes over `connection`, until it is closed or this worker has done `jobs`."""
    global _connection
    _connection = connection
    _die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as score:
        score.write(_OOM_SCORE)
    # Libraries in C write what they think of a file to the standard error; its end is told anyway.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = _data_bytes() + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    for _ in range(jobs):
        try:
            kind, content = wire.receive(connection)
        except (EOFError, OSError):
            return
        if kind != wire.CALL:
            return
        (module, name), args, cpu_s = pickle.loads(content)
        del content
        signal.setitimer(signal.ITIMER_PROF, cpu_s)  # SIGPROF ends a process that ignores nothing
        answer = _answer(module, name, args)
        signal.setitimer(signal.ITIMER_PROF, 0)
        del args
        if isinstance(answer, wire.Shared):
            wire.send_shared(connection, answer)
        else:
            wire.send(connection, *answer)
        del answer


def _answer(module: str, name: str, args: tuple[Any, ...]) -> tuple[bytes, bytes] | wire.Shared:
    try:
        function = getattr(importlib.import_module(module), name)
        result = function(*args)
        if isinstance(result, wire.Shared):
            return result
        return wire.RESULT, pickle.dumps(result, protocol=5)
    except ServiceError as error:
        return wire.REFUSAL, wire.refusal(error)
    except MemoryError:
        return wire.FAULT, pickle.dumps("MemoryError")
    except Exception:
        return wire.FAULT, pickle.dumps(traceback.format_exc())


def _die_with_parent() -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # it has ended already
        os._exit(0)


def _data_bytes() -> int:
    """What this process has of data (private and writable), which is what the limit counts."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 256 << 20


if __name__ == "__main__":
    # Under its own name, so that `note` is the one that the preloaded modules import.
    importlib.import_module("services.isolation.zygote").main()
