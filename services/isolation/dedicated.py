"""A worker for one piece of work that takes many jobs: what one leaves behind, the next finds.

A job can ask back (`services.isolation.zygote.ask`), as for more of a file that is still coming:
while it waits for that, neither its time nor its processor time runs.
"""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from services.errors import Cancelled, Internal
from services.isolation import wire
from services.isolation.pool import Loss, Nursery, Worker, WorkerLost

# What it does is for its owner to bound.
_JOBS = 1 << 30


class DedicatedWorker:
    """One process, asked from one thread at a time; `end` ends it from any.

    Args:
        nursery: forks it at its first job.
        silence_s: how long it may be busy without a word.
        answers: to what its jobs ask back, by name. Called in the thread that asks.
    """

    def __init__(
        self, nursery: Nursery, *, silence_s: float, answers: Mapping[str, Callable[..., Any]]
    ) -> None:
        self._nursery = nursery
        self._silence_s = silence_s
        self._answers = answers
        self._lock = Lock()
        self._worker: Worker | None = None
        self._asking = False
        self._ended = False

    @property
    def jobs(self) -> int:
        """How many it has been asked for."""
        return 0 if self._worker is None else self._worker.jobs

    def ask(
        self,
        function: Callable[..., Any],
        *args: object,
        cpu_s: float,
        silence_s: float | None = None,
    ) -> Any:
        """What `function(*args)`, a function of a module, answers there: plain values. Blocks.

        Of an answer that is `Shared`, its value and its bytes.

        Args:
            function: with `args`, the job.
            cpu_s: of the processor, for this job.
            silence_s: for this job, less than that of the worker; None: that.

        Raises:
            WorkerLost: it crashed, or took more of anything than it may.
            Cancelled: it was ended.
            ServiceError: what the function raised, or an answer to it; `Internal` for what is no
                `ServiceError`.
        """
        content = wire.call(function, args, cpu_s)
        with self._lock:
            if self._ended:
                raise Cancelled()
            if self._worker is None:
                self._worker = Worker(self._nursery, _JOBS)
            worker, self._asking = self._worker, True
        try:
            silence_s = min(self._silence_s, silence_s or self._silence_s)
            kind, answer = worker.ask(content, self._answers, silence_s)
        except WorkerLost as lost:
            if self._ended:
                raise Cancelled() from lost
            if worker.orphaned:
                self._worker = None  # the next job has another, if it wants to
            raise
        finally:
            with self._lock:
                self._asking = False
                if self._ended:
                    worker.close()
        if kind == wire.RESULT:
            return wire.loads(answer, {})
        if kind == wire.SHARED:
            return wire.loads(answer, {}), worker.shared
        if kind == wire.REFUSAL:
            raise wire.refused(answer)
        text = str(wire.loads(answer, {}))
        if text == "MemoryError":
            raise WorkerLost(Loss.MEMORY, worker.note, text)
        raise Internal() from RuntimeError(text)

    def end(self) -> None:
        """End it, whatever it does."""
        with self._lock:
            self._ended = True
            if self._worker is None:
                return
            self._worker.kill()
            if not self._asking:
                self._worker.close()
