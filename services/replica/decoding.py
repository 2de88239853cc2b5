"""Pictures to pixels, where whoever sent the picture can do a replica no harm.

A gateway looks at headers and decodes nothing of what it sends on, so what reaches a replica is as
strangers made it. It is decoded in processes (`services.isolation`): one that crashes, hangs or
grows costs its own request, which is told so as the gateway would. Pixels come back in memory that
both have, without a copy. Threads decode where all pictures are known to be harmless.
"""

from threading import Lock

import numpy as np

from limelight.paths import FieldPath
from services.codecs import decoders, images
from services.codecs.images import IMAGE_CONTENT, ImageLimits, Rgb
from services.deadline import Deadline, SharedDeadline
from services.errors import DeadlinePassed, InvalidMedia, Reason, ServiceError, TooLarge
from services.isolation.dedicated import DedicatedWorker
from services.isolation.pool import Loss, Nursery, WorkerLost
from services.isolation.wire import Limits, Shared
from services.replica.settings import ReplicaSettings

_MODULES = ("services.replica.decoding",)
# What a decoder of many threads may have of them.
_THREADS = 2
# Processor seconds: at least, and a megapixel that a picture may have. A photo takes a tenth.
_LEAST_CPU_S, _PIXEL_CPU_S = 2.0, 0.25
# Whatever its caller's time.
_MOST_S = 60.0
_TRIES = 3


class ImageDecoder:
    """Decodes for one replica. For any thread.

    Args:
        settings: how large pictures may be, and how many processes there are at least; as many as
            threads ask at once.
        nursery: forks the processes; None: one that ends with the decoder.
    """

    def __init__(self, settings: ReplicaSettings, nursery: Nursery | None = None) -> None:
        self._limits = ImageLimits(
            max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
        )
        self._cpu_s = _LEAST_CPU_S + _PIXEL_CPU_S * settings.max_image_pixels / 1e6
        self._own: Nursery | None = None
        self._nursery = nursery
        if settings.isolated_decoding and nursery is None:
            limits = Limits(settings.decode_memory_bytes)
            self._own = self._nursery = Nursery(_MODULES, limits)
        self._idle: list[DedicatedWorker] = []
        self._lock = Lock()

    def start(self) -> None:
        """Begin to get ready, rather than at the first picture."""
        if self._nursery is not None:
            self._nursery.start()

    def decode(
        self,
        data: bytes,
        deadline: Deadline | SharedDeadline | None = None,
        *,
        field: FieldPath = IMAGE_CONTENT,
    ) -> Rgb:
        """The pixels of `data`: uint8 (H, W, 3) RGB, C-contiguous, as a viewer shows them. Blocks.

        Raises:
            InvalidMedia, TooLarge: at `field`.
            DeadlinePassed: before it was decoded.
        """
        until = deadline.current if isinstance(deadline, SharedDeadline) else deadline
        # Told without a copy to anyone.
        if self._nursery is None or not 0 < len(data) <= self._limits.max_bytes:
            return images.decode(data, self._limits, field)
        for tries_left in reversed(range(_TRIES)):
            left_s = until.remaining_s() if until is not None else None
            if left_s == 0:
                raise DeadlinePassed()
            try:
                return self._decoded(data, field, left_s)
            except WorkerLost as lost:
                if lost.orphaned and tries_left:
                    continue
                if lost.loss is Loss.TIME and left_s is not None and left_s < _MOST_S:
                    raise DeadlinePassed() from lost
                raise _refusal(lost, field) from lost
        raise AssertionError("the last try answers or raises")

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()
        if self._own is not None:
            self._own.close()

    def _decoded(self, data: bytes, field: FieldPath, left_s: float | None) -> Rgb:
        assert self._nursery is not None
        with self._lock:
            worker = (
                self._idle.pop()
                if self._idle
                else DedicatedWorker(self._nursery, silence_s=_MOST_S, answers={})
            )
        is_well = False
        try:
            size, pixels = worker.ask(
                decoded, data, self._limits, field, cpu_s=self._cpu_s, silence_s=left_s
            )
            is_well = True
        except (InvalidMedia, TooLarge):
            is_well = True
            raise
        finally:
            if is_well and worker.jobs < self._nursery.jobs:
                with self._lock:
                    self._idle.append(worker)
            else:
                worker.end()
        height, width = size
        made: Rgb = np.frombuffer(pixels, np.uint8, height * width * 3).reshape(height, width, 3)
        return made


def decoded(data: bytes, limits: ImageLimits, field: FieldPath) -> Shared:
    """In a worker: height and width of an image, and its pixels."""
    pixels = images.decode(data, limits, field)
    height, width = pixels.shape[:2]
    return Shared((height, width), pixels.data.cast("B"))


def prepare() -> None:
    """Make a process ready to fork workers: what they would load first is loaded."""
    decoders.prepare(threads=_THREADS)


def _refusal(lost: WorkerLost, field: FieldPath) -> ServiceError:
    match lost.loss:
        case Loss.CRASHED:
            fault = "decoding the image ended its process"
            return InvalidMedia(Reason.IMAGE_CORRUPT, fault, field=field)
        case Loss.MEMORY:
            fault = "the image takes more memory than a request may"
        case Loss.CPU:
            fault = "the image takes far more work than others of this size"
        case Loss.TIME:
            fault = "the image takes longer than a request may"
    return TooLarge(Reason.IMAGE_TOO_LARGE, fault, field=field)
