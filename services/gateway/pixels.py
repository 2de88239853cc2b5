"""Everything of the gateway that touches the bytes of an image, in processes of its own.

Reading what clients sent has one pool of workers, drawing has another, so that neither waits for
the other. What a job may cost is known before it runs: `_Budget` has the estimates. A worker that
crashes, hangs or takes too much costs its own request alone, which is told so.
"""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from limelight.paths import FieldPath
from limelight.values import ImageFormat, RenderKind
from services.codecs.images import ImageHeader, ImageLimits, MendedImage
from services.domain import SegmentedInstance
from services.errors import InvalidMedia, Reason, ServiceError, TooLarge
from services.gateway import rendering
from services.gateway.answer_size import least_picture_bytes, picture_room
from services.gateway.answers import RenderedPicture, WrittenMask
from services.gateway.metrics import GatewayMetrics
from services.gateway.request_fields import IMAGE, RENDERS, background
from services.gateway.settings import Settings
from services.gateway.tasks import ImageTask
from services.isolation.pool import Loss, Nursery, WorkerLost, WorkerPool
from services.isolation.wire import Limits
from services.rpc.metadata import CallContext

R = TypeVar("R")

# What is imported once, before workers are forked.
_MODULES = ("services.gateway.rendering", "services.gateway.video.demuxing")
# A header takes far less; a slow machine may take this long for its first.
_HEADER_CPU_S = 2.0
_LEAST_CPU_S = 2.0
# Bytes a pixel that are held at once while pictures are drawn, beside one mask at a time: the
# image, what is drawn, and what is blurred, mixed and encoded on the way.
_DRAWN_BYTES = 40
_MEGAPIXEL = 1_000_000
# Bytes a pixel that an encoded picture seldom exceeds.
_PNG_PIXEL_BYTES, _JPEG_PIXEL_BYTES = 3.0, 1.0


def nursery(settings: Settings) -> Nursery:
    """What forks the workers of a gateway's pools."""
    return Nursery(_MODULES, Limits(settings.worker_memory_bytes))


@dataclass(frozen=True, slots=True)
class _Budget:
    """Processor seconds by work; `pixel_cpu_s` are those of a megapixel that is decoded."""

    pixel_cpu_s: float

    def decoding(self, pixels: int) -> float:
        return _LEAST_CPU_S + self.pixel_cpu_s * pixels / _MEGAPIXEL

    def drawing(self, pixels: int, renders: int, mask_pixels: int) -> float:
        """Each picture is decoded from, drawn on and encoded; a mask is a byte a pixel."""
        return self.decoding(pixels) + self.decoding(3 * renders * pixels + mask_pixels // 20)


class PixelWorkers:
    """The pools of one gateway, in its event loop.

    Args:
        settings: how many workers there are, and what they may take.
        workers: forks them; `start` has not yet been called.
        metrics: count the workers that did not come back.
    """

    def __init__(self, settings: Settings, workers: Nursery, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self._limits = ImageLimits(
            max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
        )
        self._budget = _Budget(settings.pixel_cpu_s)

        def pool(name: str, size: int) -> WorkerPool:
            return WorkerPool(
                name,
                workers,
                size,
                results=(ImageHeader, MendedImage),
                job_s=settings.worker_s,
                on_loss=lambda loss: metrics.worker_losses.labels(name, loss.value).inc(),
            )

        self._reading = pool("reading", settings.decode_workers)
        self._drawing = pool("drawing", settings.render_workers)

    def warm(self) -> None:
        """Have a worker of each pool ready."""
        self._reading.warm(1)
        self._drawing.warm(1)

    async def header(self, content: bytes, field: FieldPath, *, damaged: bool) -> ImageHeader:
        """The header of an image that can be decoded within the limits; with `damaged`, in part.

        Raises:
            InvalidMedia, TooLarge: at `field`.
        """
        # Told without a copy to anyone.
        if not 0 < len(content) <= self._limits.max_bytes:
            return rendering.read_header(content, self._limits, field, damaged)
        job = (rendering.read_header, content, self._limits, field, damaged)
        return await self._read(field, *job, cpu_s=_HEADER_CPU_S)

    async def mended(self, task: ImageTask) -> tuple[ImageTask, tuple[str, ...]]:
        """`task` with whole images in place of damaged ones that it accepts, and a warning for
        each.

        Raises:
            InvalidMedia, TooLarge: an image is too damaged, or is none that can be read in part.
        """
        warnings = []
        if task.accept_damaged and (image := await self._mended(task.image, task.header, IMAGE)):
            task = replace(task, image=image.content)
            warnings.append(image.warning)
        renders = list(task.renders)
        for index, spec in enumerate(renders):
            if spec.accept_damaged and isinstance(spec.background, bytes):
                behind = await self._mended(spec.background, spec.header, background(index))
                if behind:
                    renders[index] = replace(spec, background=behind.content)
                    warnings.append(f"Of the background: {behind.warning}")
        return replace(task, renders=tuple(renders)), tuple(warnings)

    async def check_pictures(self, task: ImageTask, call: CallContext) -> None:
        """Refuse pictures of which it is known before anything was found that they do not fit.

        Raises:
            InvalidMedia: the image cannot be decoded.
            TooLarge: they would take more work, memory or bytes than an answer may.
        """
        if not task.renders:
            return
        self.check_drawing(task, 0)
        pixels = task.header.width * task.header.height
        room = picture_room(call.message_bytes(self._settings.max_message_bytes))
        least, overlays = 0, 0.0
        for index, spec in enumerate(task.renders):
            jpeg = spec.format is ImageFormat.JPEG
            least += least_picture_bytes(pixels, jpeg=jpeg)
            if least > room:
                has = f"has, with those before it, {least} or more"
                raise rendering.too_many_bytes(room, spec, index, has)
            if spec.kind is RenderKind.OVERLAY:
                overlays += pixels * (_JPEG_PIXEL_BYTES if jpeg else _PNG_PIXEL_BYTES)
        if overlays > room:  # some rows of the image tell
            cpu_s = self._budget.drawing(pixels, 1, 0)
            job = (rendering.check_overlays, task.image, task.renders, self._limits, room)
            await self._read(IMAGE, *job, cpu_s=cpu_s)

    async def pictures(
        self,
        task: ImageTask,
        instances: Sequence[SegmentedInstance],
        masks: Sequence[WrittenMask | None],
        call: CallContext,
    ) -> tuple[tuple[RenderedPicture, ...], tuple[str, ...]]:
        """One picture a spec of `task`, in order, and warnings of what is in none.

        They have the room that `masks`, which the same answer holds, leave.

        Raises:
            InvalidMedia: the image or a background cannot be decoded.
            TooLarge: they would take more work, memory or bytes than an answer may.
        """
        pixels = task.header.width * task.header.height
        behind = [spec.header.width * spec.header.height for spec in task.renders if spec.header]
        self.check_drawing(task, len(instances))
        most = call.message_bytes(self._settings.max_message_bytes)
        mask_pixels = len(instances) * pixels
        cpu_s = self._budget.drawing(pixels + sum(behind), len(task.renders), mask_pixels)
        with _named(RENDERS):
            contents, warnings = await self._drawing.run(
                rendering.draw_pictures,
                task.renders,
                task.image,
                tuple(instances),
                self._limits,
                picture_room(most, masks),
                cpu_s=cpu_s,
            )
        pictures = zip(task.renders, contents, strict=True)
        return tuple(RenderedPicture(spec, content) for spec, content in pictures), warnings

    async def live_picture(
        self, content: bytes, header: ImageHeader, max_side: int, field: FieldPath
    ) -> bytes:
        """A live frame as a picture for the planner, no side over `max_side`.

        Raises:
            InvalidMedia, TooLarge: at `field`.
        """
        cpu_s = 2 * self._budget.decoding(header.width * header.height)
        job = (rendering.live_picture, content, self._limits, max_side, field)
        return await self._read(field, *job, cpu_s=cpu_s)

    def close(self) -> None:
        """End all workers."""
        self._reading.close()
        self._drawing.close()

    async def _mended(
        self, content: bytes, header: ImageHeader | None, field: FieldPath
    ) -> MendedImage | None:
        pixels = header.width * header.height if header else self._limits.max_pixels
        cpu_s = 3 * self._budget.decoding(pixels)
        return await self._read(
            field, rendering.mended_image, content, self._limits, field, cpu_s=cpu_s
        )

    async def _read(
        self, field: FieldPath, function: Callable[..., R], *args: Any, cpu_s: float
    ) -> R:
        with _named(field):
            return await self._reading.run(function, *args, cpu_s=cpu_s)

    def check_drawing(self, task: ImageTask, instances: int) -> None:
        """Refuse pictures of so many instances that would take more than a worker may.

        Raises:
            TooLarge: at the pictures.
        """
        settings, specs = self._settings, task.renders
        pixels = task.header.width * task.header.height
        behind = [spec.header.width * spec.header.height for spec in specs if spec.header]
        # What each picture goes over: the image, and every mask of it.
        work = len(specs) * pixels * (1 + instances)
        if work > settings.max_render_pixels:
            raise TooLarge(
                Reason.MASKS_TOO_LARGE,
                f"{len(specs)} pictures of {instances} masks of {pixels} pixels each go over "
                f"{work} pixels; {settings.max_render_pixels} are allowed",
                field=RENDERS,
            )
        memory = _DRAWN_BYTES * pixels + 4 * max(behind, default=0)
        if memory > settings.worker_memory_bytes:
            raise TooLarge(
                Reason.IMAGE_TOO_LARGE,
                f"drawing on {pixels} pixels takes about {memory} bytes; "
                f"{settings.worker_memory_bytes} are allowed",
                field=RENDERS,
            )


@contextmanager
def _named(field: FieldPath) -> Any:
    """Turns the loss of a worker into the refusal of what it worked on, at `field` or its note."""
    try:
        yield
    except WorkerLost as lost:
        raise _refusal(lost, FieldPath.parse(lost.note) if lost.note else field) from lost


def _refusal(lost: WorkerLost, field: FieldPath) -> ServiceError:
    drawing = field == RENDERS
    what = "the pictures take" if drawing else "the image takes"
    reason = Reason.MASKS_TOO_LARGE if drawing else Reason.IMAGE_TOO_LARGE
    match lost.loss:
        case Loss.CRASHED:
            what = "drawing the pictures" if drawing else "decoding the image"
            return InvalidMedia(Reason.IMAGE_CORRUPT, f"{what} ended its process", field=field)
        case Loss.MEMORY:
            return TooLarge(reason, f"{what} more memory than a request may", field=field)
        case Loss.CPU:
            return TooLarge(reason, f"{what} far more work than others of this size", field=field)
        case Loss.TIME:
            return TooLarge(reason, f"{what} longer than a request may", field=field)
