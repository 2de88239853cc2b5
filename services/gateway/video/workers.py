"""The processes that read video files: a crash, a hang or excess of theirs costs its own video."""

import asyncio
import io
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import Any

from services.codecs.videos.limits import corrupt
from services.codecs.videos.spool import Spool
from services.errors import Reason, ServiceError, TooLarge
from services.gateway.metrics import GatewayMetrics
from services.gateway.settings import Settings
from services.gateway.video.demuxing import END, FINISHED, READ
from services.gateway.video.reading import CHUNK
from services.gateway.video.sources import BlockingWork
from services.isolation.dedicated import DedicatedWorker
from services.isolation.pool import Loss, LossLog, Nursery, WorkerLost

POOL = "videos"
_MOST_READ = 1 << 20
# A step may wait for a core as long as it computes on one.
_SILENCE_PER_CPU = 2


class VideoWorkers:
    """Those of one gateway, in its event loop.

    Args:
        settings: what they may take.
        workers: forks them.
        metrics: count those that did not come back.
    """

    def __init__(self, settings: Settings, workers: Nursery, metrics: GatewayMetrics) -> None:
        self._workers = workers
        self._cpu_s = settings.video_cpu_s
        self._losses = LossLog(POOL, lambda loss: metrics.worker_losses.labels(POOL, loss).inc())

    def worker(self, spool: Spool, work: BlockingWork) -> "VideoWorker":
        """One for the file in `spool`, asked in the threads of `work`."""
        return VideoWorker(self._workers, self._losses, self._cpu_s, spool, work)


class VideoWorker:
    """One process that reads one file, and remembers where it is. See `VideoWorkers`."""

    def __init__(
        self, workers: Nursery, losses: LossLog, cpu_s: float, spool: Spool, work: BlockingWork
    ) -> None:
        self._losses = losses
        self._cpu_s = cpu_s
        self._spool = spool
        self._work = work
        self._gone = Event()
        self._reader = spool.reader(stop=self._gone.is_set)
        self._worker = DedicatedWorker(
            workers,
            silence_s=_SILENCE_PER_CPU * cpu_s,
            answers={READ: self._read, END: self._end, FINISHED: lambda: spool.finished},
        )

    async def run(self, stage: str, function: Callable[..., tuple[Any, float]], *args: Any) -> Any:
        """What a function of `demuxing` answers; canceling it ends the process.

        Raises:
            WorkerLost: through no fault of the video; another process may be asked.
            ServiceError: what is wrong with the video, or what its spool was failed with.
        """
        ask = partial(self._worker.ask, function, *args, cpu_s=self._cpu_s)
        try:
            result, cpu_s = await self._work.run(stage, ask)
        except asyncio.CancelledError:
            self.end()
            raise
        except WorkerLost as lost:
            if lost.orphaned:
                raise
            self._losses.tell(function.__qualname__, lost)
            raise _refusal(lost, self._cpu_s) from lost
        self._work.took(stage, cpu_s)
        return result

    def end(self) -> None:
        """End the process."""
        self._gone.set()
        self._worker.end()

    # --- asked by the process, in a thread ----------------------------------------------------

    def _read(self, at: int, length: int) -> bytes:
        self._reader.seek(at)
        return self._reader.read(min(length, _MOST_READ))

    def _end(self) -> int:
        return self._reader.seek(0, io.SEEK_END)


def _refusal(lost: WorkerLost, cpu_s: float) -> ServiceError:
    match lost.loss:
        case Loss.CRASHED:
            return corrupt("ended the process that read it", CHUNK)
        case Loss.MEMORY:
            fault, reason = "takes more memory than a video may", Reason.VIDEO_TOO_LARGE
        case Loss.CPU:
            fault = f"takes more than {cpu_s:g} seconds of a processor from picture to picture"
            reason = Reason.VIDEO_TOO_LONG
        case Loss.TIME:
            fault, reason = "takes longer than a video may", Reason.VIDEO_TOO_LONG
    return TooLarge(reason, f"the video {fault}", field=CHUNK)
