"""The asking side: pools of workers that a `Nursery` forks, for one event loop.

`WorkerPool.run` waits for an idle worker and hands it one job. A worker whose job fails in any way
but a plain refusal is done with: a fresh one takes its place. So is one whose caller went away or
ran out of time, at once: cancellation kills it.
"""

import asyncio
import contextlib
import logging
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import limelight
import services
from services.errors import Internal, InvalidMedia, InvalidRequest, ServiceError, TooLarge
from services.isolation import wire
from services.isolation.wire import Limits

logger = logging.getLogger(__name__)

R = TypeVar("R")

# How long a worker that has ended waits for the word on how.
_STATUS_S = 2.0
# A crash is logged once in so many seconds a pool, with how many there were since.
_LOG_S = 60.0


class Loss(StrEnum):
    """Why a worker did not come back."""

    CRASHED = "crashed"
    CPU = "cpu"
    MEMORY = "memory"
    TIME = "time"


class WorkerLost(Exception):
    """A worker did not come back. `note` is the last that it told of what it worked on."""

    def __init__(self, loss: Loss, note: str, detail: str, *, orphaned: bool = False) -> None:
        super().__init__(detail)
        self.loss = loss
        self.note = note
        self.orphaned = orphaned
        """Whether it ended with the zygote, for no fault of its job: it may be tried again."""


class LossLog:
    """Counts the workers of a pool that did not come back, and logs some. For one event loop.

    Args:
        name: of the pool.
        on_loss: told of each.
    """

    def __init__(self, name: str, on_loss: Callable[[Loss], None]) -> None:
        self._name = name
        self._on_loss = on_loss
        self._logged = -_LOG_S
        self._unlogged = 0

    def tell(self, job: str, lost: WorkerLost) -> None:
        """A worker was lost at `job`."""
        self._on_loss(lost.loss)
        self._unlogged += 1
        now = time.monotonic()
        if now - self._logged < _LOG_S:
            return
        fields = {
            "pool": self._name, "job": job, "loss": lost.loss.value, "detail": str(lost),
            "on": lost.note, "since_last_line": self._unlogged,
        }  # fmt: skip
        logger.warning("a worker did not come back", extra={"fields": fields})
        self._logged, self._unlogged = now, 0


class Nursery:
    """The zygote's parent: one process that imports `modules` and forks workers.

    It is started by `start`, and again where it died. Safe to use from any thread.

    Args:
        modules: imported before the first fork; a module's `prepare()` is called where it has one.
        limits: of each worker.
    """

    def __init__(self, modules: Iterable[str], limits: Limits) -> None:
        self._modules = tuple(modules)
        self._limits = limits
        self._lock = threading.Lock()
        self._numbers = count()
        self._ended: dict[str, Callable[[int], None]] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._closed = False

    @property
    def jobs(self) -> int:
        """How many jobs a worker does before a fresh one takes its place."""
        return self._limits.jobs

    def start(self) -> None:
        """Start the zygote, if it does not run; what is asked of it meanwhile waits for it."""
        with self._lock:
            self._running()

    def spawn(self, ended: Callable[[int], None], jobs: int) -> tuple[str, socket.socket]:
        """A new worker's number, and the socket to it; it does so many jobs.

        `ended` is told its status, as `os.waitpid` has it, from another thread; -1 where the zygote
        has ended and nobody knows.
        """
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            number = str(next(self._numbers))
            self._ended[number] = ended
            control = self._running()
            line = f"spawn {number} {jobs}\n".encode()
            try:
                socket.send_fds(control, [line], [theirs.fileno()])
            except OSError:
                self._process = None
                socket.send_fds(self._running(), [line], [theirs.fileno()])
        return number, ours

    def kill(self, number: str) -> None:
        """End a worker."""
        with self._lock, contextlib.suppress(OSError):
            if self._control is not None:
                self._control.sendall(f"kill {number}\n".encode())

    def close(self) -> None:
        """End the zygote and every worker."""
        with self._lock:
            self._closed = True
            process, control = self._process, self._control
            self._process = self._control = None
        if control is not None:
            with contextlib.suppress(OSError):
                control.shutdown(socket.SHUT_RDWR)
        if process is not None:
            process.kill()  # the kernel ends its workers with it
            process.wait()

    @property
    def pid(self) -> int | None:
        """The zygote's; None where it does not run."""
        return None if self._process is None else self._process.pid

    def _running(self) -> socket.socket:
        """The zygote's socket; it is started where it does not run."""
        if self._closed:
            raise RuntimeError("the workers have been ended")
        if self._process is not None and self._process.poll() is None:
            assert self._control is not None
            return self._control
        ours, theirs = socket.socketpair()
        with theirs:
            arguments = [
                str(theirs.fileno()), str(self._limits.memory_bytes), *self._modules,
            ]  # fmt: skip
            self._process = subprocess.Popen(
                # -P: a file of the current folder must not be taken for ours.
                [sys.executable, "-P", "-m", "services.isolation.zygote", *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )
        self._control = ours
        threading.Thread(target=self._listen, args=(ours,), name="zygote", daemon=True).start()
        return ours

    def _listen(self, control: socket.socket) -> None:
        text = b""
        with control:
            while True:
                try:
                    read = control.recv(4096)
                except OSError:
                    read = b""
                if not read:
                    break
                *lines, text = (text + read).split(b"\n")
                for line in lines:
                    _, number, status = line.decode().split()
                    if (ended := self._forgotten(number)) is not None:
                        ended(int(status))
        with self._lock:
            orphans = list(self._ended.values()) if self._control in (control, None) else []
            if orphans:
                self._ended.clear()
        for ended in orphans:
            ended(-1)

    def _forgotten(self, number: str) -> Callable[[int], None] | None:
        with self._lock:
            return self._ended.pop(number, None)


def _environment() -> dict[str, str]:
    """The zygote's: it finds our packages wherever they are, and computes with one thread."""
    packages = (services, limelight)
    places = [str(Path(path).parent) for package in packages for path in package.__path__]
    if "PYTHONPATH" in os.environ:
        places.append(os.environ["PYTHONPATH"])
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return {
        **os.environ, **threads, "MALLOC_ARENA_MAX": "2",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(places)),
    }  # fmt: skip


class Worker:
    """One process, asked from one thread at a time. It is forked when it is made."""

    def __init__(self, nursery: Nursery, jobs: int | None = None) -> None:
        self._nursery = nursery
        self._status: int | None = None
        self._has_ended = threading.Event()
        self._number, self._socket = nursery.spawn(self._ended, jobs or nursery.jobs)
        self.note = ""
        """The last that it told of what it works on."""
        self.shared: mmap.mmap | None = None
        """The bytes of its last answer, if it handed them over."""
        self.jobs = 0
        self.late = False
        """Whether it was killed since its job took too long."""

    def kill(self) -> None:
        self._nursery.kill(self._number)

    def close(self) -> None:
        self._socket.close()

    def ask(
        self,
        content: bytes,
        answers: Mapping[str, Callable[..., Any]] | None = None,
        silence_s: float | None = None,
    ) -> tuple[bytes, bytearray]:
        """The kind and the content of the answer; `shared` has what comes beside it.

        Args:
            content: of the call.
            answers: to what the job asks back. A `ServiceError` of theirs is told the job, if it is
                one of a request's faults; any other ends the worker.
            silence_s: how long it may say nothing, before it is killed.

        Raises:
            WorkerLost: it did not come back.
            ServiceError: of `answers`.
        """
        self.jobs += 1
        self.note, self.shared = "", None
        try:
            self._socket.settimeout(silence_s)
            wire.send(self._socket, wire.CALL, content)
            while True:
                kind, answer, self.shared = wire.receive_any(self._socket)
                if kind == wire.NOTE:
                    self.note = str(wire.loads(answer, {}))
                elif kind == wire.ASK:
                    self._reply(answer, answers or {})
                else:
                    return kind, answer
        except ServiceError:
            self.kill()
            self.close()
            raise
        # What a worker asks may be what no honest one would.
        except (EOFError, OSError, pickle.UnpicklingError, LookupError, TypeError, ValueError) as e:
            self.late = self.late or isinstance(e, TimeoutError)
            self.kill()
            self._has_ended.wait(_STATUS_S)
            self.close()
            raise self._loss() from None

    def _reply(self, question: bytearray, answers: Mapping[str, Callable[..., Any]]) -> None:
        name, args = wire.loads(question, {})
        try:
            kind, content = wire.RESULT, pickle.dumps(answers[name](*args), protocol=5)
        except (InvalidMedia, InvalidRequest, TooLarge) as error:
            kind, content = wire.REFUSAL, wire.refusal(error)
        wire.send(self._socket, kind, content)

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended."""
        return self._has_ended.is_set()

    @property
    def orphaned(self) -> bool:
        """Whether it ended with the zygote, for no fault of its job."""
        return self._status == -1

    def _loss(self) -> WorkerLost:
        status = self._status
        number = os.WTERMSIG(status) if status is not None and os.WIFSIGNALED(status) else 0
        loss = Loss.CRASHED
        if self.late:
            loss = Loss.TIME
        elif number == signal.SIGPROF:
            loss = Loss.CPU
        elif number == signal.SIGKILL and status != -1:
            loss = Loss.MEMORY  # nobody else kills it: the kernel took its memory back
        detail = signal.Signals(number).name if number else f"status {status}"
        return WorkerLost(loss, self.note, detail, orphaned=self.orphaned)

    def _ended(self, status: int) -> None:
        self._status = status
        self._has_ended.set()


class WorkerPool:
    """`size` workers of a nursery, for one kind of work and one event loop.

    Args:
        name: of the pool, for logs.
        nursery: whose workers they are.
        size: jobs at once.
        results: the classes that jobs answer with, besides plain values.
        job_s: seconds that a job may take, whatever its caller's time.
        on_loss: told of each worker that did not come back.
    """

    def __init__(
        self,
        name: str,
        nursery: Nursery,
        size: int,
        *,
        results: Iterable[type] = (),
        job_s: float = 60.0,
        on_loss: Callable[[Loss], None] = lambda loss: None,
    ) -> None:
        self._name = name
        self._nursery = nursery
        self._known = {(kind.__module__, kind.__qualname__): kind for kind in results}
        self._job_s = job_s
        self._losses = LossLog(name, on_loss)
        self._idle: list[Worker] = []
        self._room = asyncio.Semaphore(size)
        self._busy: set[Worker] = set()
        # A job whose caller has gone may still be at its end in a thread.
        self._threads = ThreadPoolExecutor(2 * size, thread_name_prefix=name)
        self._closed = False

    def warm(self, size: int) -> None:
        """Ask for `size` workers before there is anything to do."""
        self._idle += [Worker(self._nursery) for _ in range(size)]

    async def run(self, function: Callable[..., R], *args: object, cpu_s: float) -> R:
        """`function(*args)`, a function of a module, in a worker.

        Raises:
            WorkerLost: it crashed, or took more of anything than it may.
            ServiceError: what the function raised; `Internal` for what is no `ServiceError`.
        """
        async with self._room:
            loop = asyncio.get_running_loop()
            content = await loop.run_in_executor(self._threads, wire.call, function, args, cpu_s)
            while True:
                worker = self._next()
                try:
                    result: R = await self._answer(worker, content)
                    return result
                except WorkerLost as lost:
                    if self._closed:
                        raise
                    # The zygote may have died, and taken workers with it that did nothing wrong.
                    if not worker.orphaned:
                        self._losses.tell(function.__qualname__, lost)
                        raise

    def _next(self) -> Worker:
        while self._idle:
            worker = self._idle.pop()
            if not worker.has_ended:
                return worker
            worker.close()  # the kernel took it while it had nothing to do
        return Worker(self._nursery)

    async def _answer(self, worker: Worker, content: bytes) -> Any:
        """What `worker` answers; it waits for the next job only if all is well with it."""
        loop = asyncio.get_running_loop()
        self._busy.add(worker)
        timer = loop.call_later(self._job_s, self._end_late, worker)
        is_well = has_answered = False
        try:
            kind, answer = await loop.run_in_executor(self._threads, worker.ask, content)
            has_answered = True
            if kind == wire.RESULT:
                result = await loop.run_in_executor(self._threads, wire.loads, answer, self._known)
                is_well = True
                return result
            if kind == wire.REFUSAL:
                error = wire.refused(answer)
                is_well = True
                raise error
            text = str(wire.loads(answer, {}))
        except pickle.UnpicklingError as error:
            text = str(error)
        finally:
            timer.cancel()
            self._busy.discard(worker)
            # A worker counts its jobs as we do, and ends after the last.
            if is_well and worker.jobs < self._nursery.jobs:
                self._idle.append(worker)
            else:
                worker.kill()
                if has_answered:  # else the thread that asks, or has asked, closes it
                    worker.close()
        if text == "MemoryError":
            raise WorkerLost(Loss.MEMORY, worker.note, text)
        logger.error("a worker failed", extra={"fields": {"pool": self._name, "traceback": text}})
        raise Internal()

    def close(self) -> None:
        """End the workers; jobs that run are lost."""
        self._closed = True
        for worker in (*self._idle, *self._busy):
            worker.kill()
        for worker in self._idle:
            worker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    @staticmethod
    def _end_late(worker: Worker) -> None:
        worker.late = True
        worker.kill()
