"""The segmenter itself: check, decode, encode, detect, draw. `app` puts it behind gRPC.

One request, top to bottom, is `Segmenter._answer`. Pixels, models and masks are worked on in
threads; the event loop only hands things over, so a cancelled request stops at its next step.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from services.codecs.images import ImageLimits, content_hash, decode
from services.deadline import Deadline
from services.domain import ConceptQuery, ModelInfo, QueryResult, SegmentedImage
from services.errors import DeadlinePassed, InvalidRequest, Reason, Unavailable
from services.replica.batching import Batcher
from services.replica.cache import LruCache, SingleFlight
from services.replica.metrics import Metrics
from services.replica.stopwatch import Stopwatch
from services.replica.waiting import within
from services.segmenter.detecting import Detector, Question
from services.segmenter.engines import EXEMPLARS_ONLY, Embedding, Engine
from services.segmenter.postprocessing import Candidates, Suppression, check_room, draw
from services.segmenter.preprocessing import to_model_input
from services.segmenter.queries import check_queries, exemplar_arrays
from services.segmenter.settings import Settings


@dataclass(frozen=True, slots=True, eq=False)
class EncodedImage:
    """What is cached of an image: its size as a viewer shows it, pixels, and its embedding."""

    width: int
    height: int
    embedding: Embedding


class Segmenter:
    """Finds every instance of every query in one image, which is encoded once.

    Lives in one event loop. `engine` is loaded; `close` closes it.
    """

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._limits = ImageLimits(
            max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
        )
        self._images: LruCache[str, EncodedImage] = LruCache(
            "image", settings.image_cache_bytes, metrics
        )
        self._encoding: SingleFlight[str, EncodedImage] = SingleFlight()
        detector = Detector(
            engine,
            LruCache("text", settings.text_cache_bytes, metrics),
            settings.mask_threshold,
            Suppression(settings.nms_threshold, settings.nms_measure),
        )
        wait_s = settings.batch_wait_ms / 1000
        self._encoder: Batcher[Any, Embedding] = Batcher(
            "encode",
            engine.encode_images,
            max_batch=settings.max_encode_batch,
            max_queued=settings.max_queued_images,
            wait_s=wait_s,
            metrics=metrics,
        )
        self._decoder: Batcher[Question, Candidates] = Batcher(
            "detect",
            detector.answer,
            max_batch=settings.max_pair_batch,
            max_queued=settings.max_queued_pairs,
            wait_s=wait_s,
            metrics=metrics,
        )
        self._decode_pool = ThreadPoolExecutor(settings.decode_workers, "decode")
        self._mask_pool = ThreadPoolExecutor(settings.mask_workers, "masks")
        self._closing = False
        self._ongoing = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def model(self) -> ModelInfo:
        """The model that answers."""
        return self._engine.model

    async def segment(
        self,
        data: bytes,
        queries: Sequence[ConceptQuery],
        score_threshold: float,
        max_instances: int,
        deadline: Deadline,
    ) -> SegmentedImage:
        """The instances of each of `queries` in the encoded image `data`.

        Args:
            data: an image file.
            queries: one to `Settings.max_queries`; exemplar boxes in pixels of this image.
            score_threshold: 0 to 1; instances below it are left out.
            max_instances: the most a query may give; 0 or more than the server's limit: that.
            deadline: until when the caller waits.

        Raises:
            InvalidRequest: a query or an option is wrong; `InvalidMedia`: the image is.
            TooLarge: the image or its masks are over a limit.
            Overloaded: a queue is full.
            DeadlinePassed: the time ran out.
            Unavailable: the segmenter is closing.
        """
        if self._closing:
            raise Unavailable(Reason.DRAINING, "the segmenter is shutting down")
        watch = Stopwatch(self._metrics)
        self._ongoing += 1
        self._idle.clear()
        try:
            async with within(deadline):
                return await self._answer(
                    data, queries, score_threshold, max_instances, deadline, watch
                )
        except DeadlinePassed:
            self._metrics.departed(watch.current, "deadline")
            raise
        except asyncio.CancelledError:
            self._metrics.departed(watch.current, "cancelled")
            raise
        finally:
            self._ongoing -= 1
            if self._ongoing == 0:
                self._idle.set()

    async def close(self) -> None:
        """Finish what was taken in, take no more, let go of the model."""
        self._closing = True
        await self._idle.wait()
        await self._encoder.close()
        await self._decoder.close()
        self._decode_pool.shutdown()
        self._mask_pool.shutdown()
        self._engine.close()

    def check(self) -> None:
        """Raise `Unavailable` if the segmenter cannot work any more."""
        if self._encoder.broken or self._decoder.broken:
            raise Unavailable(Reason.SEGMENTER_UNAVAILABLE, "a batch loop has died")

    async def _answer(
        self,
        data: bytes,
        queries: Sequence[ConceptQuery],
        score_threshold: float,
        max_instances: int,
        deadline: Deadline,
        watch: Stopwatch,
    ) -> SegmentedImage:
        settings = self._settings
        _check_options(score_threshold, max_instances)
        check_queries(queries, self._engine, settings.max_queries, settings.max_exemplars)
        limit = min(max_instances or settings.max_instances, settings.max_instances)
        image = await self._encoded(data, watch)
        questions = []
        for index, query in enumerate(queries):
            boxes, labels = exemplar_arrays(
                query.exemplars, image.width, image.height, f"queries[{index}]"
            )
            phrase = query.phrase.strip() or EXEMPLARS_ONLY
            questions.append(
                Question(image.embedding, phrase, boxes, labels, score_threshold, limit)
            )
        with watch.stage("detect"):
            candidates = await self._decoder.submit_all(questions, deadline)
        with watch.stage("masks"):
            results = await self._drawn(candidates, image)
        return SegmentedImage(
            image.width, image.height, results, self._engine.model, watch.timings_ms
        )

    async def _encoded(self, data: bytes, watch: Stopwatch) -> EncodedImage:
        """The image's embedding: remembered, under way for another request, or made now."""
        digest = await asyncio.to_thread(content_hash, data)
        key = f"{self._engine.model.revision}:{digest}"
        known = self._images.get(key)
        if known is not None:
            return known
        start = time.monotonic()
        image = await self._encoding.run(key, partial(self._encode, key, data, watch))
        if "encode" not in watch.timings_ms:
            # Another request's watch timed the stages; this one only waited for its embedding.
            watch.spent("encode", time.monotonic() - start)
        return image

    async def _encode(self, key: str, data: bytes, watch: Stopwatch) -> EncodedImage:
        with watch.stage("decode"):
            width, height, pixels = await asyncio.get_running_loop().run_in_executor(
                self._decode_pool, self._decoded, data
            )
        with watch.stage("encode"):
            # No deadline of its own: this may serve several requests, and ends with the last.
            embedding = await self._encoder.submit(pixels, Deadline())
        image = EncodedImage(width, height, embedding)
        self._images.put(key, image, embedding.nbytes)
        return image

    def _decoded(self, data: bytes) -> tuple[int, int, Any]:
        pixels = decode(data, self._limits)
        height, width = pixels.shape[:2]
        check_room(height, width, self._settings.mask_memory_bytes)
        return width, height, to_model_input(pixels, self._engine.image_size)

    async def _drawn(
        self, candidates: Sequence[Candidates], image: EncodedImage
    ) -> tuple[QueryResult, ...]:
        settings, loop = self._settings, asyncio.get_running_loop()
        jobs = [
            loop.run_in_executor(
                self._mask_pool,
                draw,
                found,
                image.height,
                image.width,
                settings.mask_threshold,
                settings.mask_memory_bytes,
            )
            for found in candidates
        ]
        return tuple(await asyncio.gather(*jobs))


def _check_options(score_threshold: float, max_instances: int) -> None:
    if not (math.isfinite(score_threshold) and 0 <= score_threshold <= 1):
        raise InvalidRequest(
            Reason.OPTION_INVALID, "score_threshold must be 0 to 1", field="score_threshold"
        )
    if max_instances < 0:
        raise InvalidRequest(
            Reason.OPTION_INVALID, "max_instances must not be negative", field="max_instances"
        )
