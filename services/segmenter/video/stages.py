"""The stages of a frame, shared by all sessions of a replica: batchers and pools.

A session has at most one frame in `detect`, `track` and `memorize`, and asks for its objects in
portions of one batch, so sessions take turns and a crowded one holds the others up for one batch.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from services.codecs.images import Rgb
from services.deadline import Deadline
from services.errors import Reason
from services.replica.batching import Batcher
from services.replica.cache import LruCache
from services.replica.metrics import ReplicaMetrics
from services.segmenter.engines import Embedding
from services.segmenter.preprocessing import to_model_input
from services.segmenter.video.detecting import ConceptDetector, FoundConcept, QueuedConcept
from services.segmenter.video.engine import (
    ObjectMask,
    ObjectRecall,
    ObjectStart,
    Observation,
    VideoEngine,
)
from services.segmenter.video.looks import small_frame
from services.segmenter.video.settings import VideoSettings
from services.stages import with_cpu

Item = TypeVar("Item")
Result = TypeVar("Result")


class VideoStages:
    """Lives in one event loop. `engine` is loaded; closing it is its owner's."""

    def __init__(
        self, settings: VideoSettings, engine: VideoEngine, metrics: ReplicaMetrics
    ) -> None:
        self.engine = engine
        self.traits = engine.describe()
        self._settings = settings
        self._metrics = metrics
        detector = ConceptDetector(engine, LruCache("text", settings.text_cache_bytes, metrics))

        def batcher(stage: str, run: Callable[[Any], Any], most: int, queued: int) -> Any:
            return Batcher(
                stage,
                run,
                max_batch=most,
                max_queued=queued,
                wait_s=settings.batch_wait_s,
                metrics=metrics,
                max_failures=settings.max_failed_batches,
            )

        images, objects = settings.max_batch_images, settings.max_batch_objects
        self._encoder: Batcher[Any, Embedding] = batcher(
            "encode", engine.encode_frames, images, settings.max_queued_images
        )
        self._detector: Batcher[QueuedConcept, FoundConcept] = batcher(
            "detect", detector.answer, settings.max_batch_pairs, settings.max_queued_pairs
        )
        self._tracker: Batcher[ObjectRecall, ObjectMask] = batcher(
            "track", engine.track, objects, settings.max_queued_objects
        )
        self._prompter: Batcher[ObjectStart, ObjectMask] = batcher(
            "prompt", engine.prompt, objects, settings.max_queued_objects
        )
        self._memorizer: Batcher[Observation, Embedding] = batcher(
            "memorize", engine.memorize, objects, settings.max_queued_objects
        )
        self._batchers: tuple[Batcher[Any, Any], ...] = (
            self._encoder,
            self._detector,
            self._tracker,
            self._prompter,
            self._memorizer,
        )
        self._pool = ThreadPoolExecutor(settings.mask_threads, "video")

    def check(self) -> None:
        """Raise `Unavailable` if a stage cannot work any more."""
        for batcher in self._batchers:
            batcher.check(Reason.SEGMENTER_UNAVAILABLE)

    async def close(self) -> None:
        """Run what waits, take no more."""
        for batcher in self._batchers:
            await batcher.close()
        self._pool.shutdown()

    async def compute(self, stage: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """`function(*arguments)` in the pool; its CPU time counts as that of `stage`."""
        loop = asyncio.get_running_loop()
        result, cpu_s = await loop.run_in_executor(self._pool, with_cpu, function, *arguments)
        self._metrics.worked(stage, cpu_s)
        return result

    async def encode(self, pixels: Rgb, deadline: Deadline) -> tuple[Embedding, Rgb | None]:
        """The frame `pixels`, uint8 (H, W, 3), encoded, and its `small_frame` if motion counts."""
        image = await self.compute("resize", to_model_input, pixels, self.traits.image_size)
        small = None
        if self.traits.policy.follow_motion:
            small = await self.compute("associate", small_frame, image.numpy())
        return await self._encoder.submit(image, deadline), small

    async def detect(
        self, questions: Sequence[QueuedConcept], deadline: Deadline
    ) -> list[FoundConcept]:
        """The detections of each concept."""
        most = self._settings.max_batch_pairs
        return await _in_portions(self._detector, questions, most, deadline)

    async def track(self, recalls: Sequence[ObjectRecall], deadline: Deadline) -> list[ObjectMask]:
        """Each object's mask."""
        most = self._settings.max_batch_objects
        return await _in_portions(self._tracker, recalls, most, deadline)

    async def prompt(self, prompts: Sequence[ObjectStart], deadline: Deadline) -> list[ObjectMask]:
        """Each new object's mask."""
        most = self._settings.max_batch_objects
        return await _in_portions(self._prompter, prompts, most, deadline)

    async def memorize(
        self, observations: Sequence[Observation], deadline: Deadline
    ) -> list[Embedding]:
        """Each object's memory."""
        most = self._settings.max_batch_objects
        return await _in_portions(self._memorizer, observations, most, deadline)


async def _in_portions(
    batcher: Batcher[Item, Result], items: Sequence[Item], most: int, deadline: Deadline
) -> list[Result]:
    results: list[Result] = []
    for start in range(0, len(items), most):
        results += await batcher.submit_all(items[start : start + most], deadline)
    return results
