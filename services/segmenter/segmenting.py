"""The segmenter itself: check, decode, encode, detect, draw. `app` puts it behind gRPC.

One request, top to bottom, is `Segmenter._answer`. Pixels, models and masks are worked on in
threads; the event loop only hands things over, so a cancelled request stops at its next step.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from limelight.paths import FieldPath
from limelight.validation import check_share
from limelight.values import Box, ConceptQuery, Exemplar, ModelInfo
from services.codecs.images import content_hash
from services.deadline import Deadline, SharedDeadline
from services.domain import QueryResult, SegmentedImage
from services.errors import CheckpointError, InvalidRequest, Reason
from services.replica.batching import Batcher
from services.replica.cache import LruCache, SingleFlight
from services.replica.decoding import ImageDecoder
from services.replica.metrics import ReplicaMetrics
from services.replica.requests import RequestGate
from services.replica.waiting import within
from services.rpc.tracing import TRACING
from services.segmenter.detecting import Detector, QueuedPair
from services.segmenter.engines import EXEMPLARS_ONLY, Embedding, Pair, SegmenterEngine, create
from services.segmenter.postprocessing import (
    Candidates,
    Suppression,
    all_finite,
    check_room,
    draw,
)
from services.segmenter.preprocessing import to_model_input
from services.segmenter.queries import QUERIES, check_queries, exemplar_arrays
from services.segmenter.settings import SegmenterSettings
from services.stages import StageTimer


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

    def __init__(
        self, settings: SegmenterSettings, engine: SegmenterEngine, metrics: ReplicaMetrics
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._metrics = metrics
        self._image_decoder = ImageDecoder(settings)
        self._images: LruCache[str, EncodedImage] = LruCache(
            "image", settings.image_cache_bytes, metrics
        )
        self._encoding: SingleFlight[str, EncodedImage] = SingleFlight()
        self._waited_for: dict[str, SharedDeadline] = {}
        detector = Detector(
            engine,
            LruCache("text", settings.text_cache_bytes, metrics),
            settings.mask_threshold,
            Suppression(settings.nms_threshold, settings.nms_measure),
        )
        self._encoder: Batcher[Any, Embedding] = Batcher(
            "encode",
            engine.encode_images,
            max_batch=settings.max_batch_images,
            max_queued=settings.max_queued_images,
            wait_s=settings.batch_wait_s,
            metrics=metrics,
            max_failures=settings.max_failed_batches,
        )
        self._decoder: Batcher[QueuedPair, Candidates] = Batcher(
            "detect",
            detector.answer,
            max_batch=settings.max_batch_pairs,
            max_queued=settings.max_queued_pairs,
            wait_s=settings.batch_wait_s,
            metrics=metrics,
            max_failures=settings.max_failed_batches,
        )
        self._decode_pool = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._mask_pool = ThreadPoolExecutor(settings.mask_threads, "masks")
        self._gate = RequestGate(metrics)
        self._traits = engine.describe()

    @property
    def model(self) -> ModelInfo:
        """The model that answers."""
        return self._traits.model

    def start(self) -> None:
        """Begin to get ready for the first picture."""
        self._image_decoder.start()

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
            queries: one to `SegmenterSettings.max_queries`; exemplar boxes in pixels of this image.
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
        timer = StageTimer(self._metrics.stage, first="decode", trace=TRACING.stage)
        with self._gate.enter(lambda: timer.current), timer:
            async with within(deadline):
                return await self._answer(
                    data, queries, score_threshold, max_instances, deadline, timer
                )

    async def close(self) -> None:
        """Finish what was taken in, take no more, let go of the model."""
        await self._gate.close()
        await self._encoder.close()
        await self._decoder.close()
        self._decode_pool.shutdown()
        self._mask_pool.shutdown()
        self._image_decoder.close()
        self._engine.close()

    def check(self) -> None:
        """Raise `Unavailable` if the segmenter cannot work any more."""
        for batcher in (self._encoder, self._decoder):
            batcher.check(Reason.SEGMENTER_UNAVAILABLE)

    async def _answer(
        self,
        data: bytes,
        queries: Sequence[ConceptQuery],
        score_threshold: float,
        max_instances: int,
        deadline: Deadline,
        timer: StageTimer,
    ) -> SegmentedImage:
        settings = self._settings
        _check_options(score_threshold, max_instances)
        check_queries(queries, self._traits, settings.max_queries, settings.max_exemplars)
        limit = min(max_instances or settings.max_instances, settings.max_instances)
        image = await self._encoded(data, deadline, timer)
        questions = []
        for index, query in enumerate(queries):
            boxes, labels = exemplar_arrays(
                query.exemplars, image.width, image.height, QUERIES / index
            )
            phrase = query.phrase.strip() or EXEMPLARS_ONLY
            questions.append(
                QueuedPair(image.embedding, phrase, boxes, labels, score_threshold, limit)
            )
        with timer.stage("detect"):
            candidates = await self._decoder.submit_all(questions, deadline)
        with timer.stage("masks"):
            results = await self._drawn(candidates, image)
        return SegmentedImage(image.width, image.height, results, self.model, timer.timings_ms)

    async def _encoded(self, data: bytes, deadline: Deadline, timer: StageTimer) -> EncodedImage:
        """The image's embedding: remembered, under way for another request, or made now."""
        digest = await asyncio.to_thread(content_hash, data)
        key = f"{self.model.revision}:{digest}"
        known = self._images.get(key)
        if known is not None:
            return known
        start = time.monotonic()
        waited_for = self._waited_for.setdefault(key, SharedDeadline())
        waited_for.join(deadline)
        encode = partial(self._encode, key, data, waited_for, timer)
        image = await self._encoding.run(key, encode)
        if "encode" not in timer.timings_ms:
            # Another request's timer has the stages; this one only waited for its embedding.
            timer.add("encode", time.monotonic() - start)
        return image

    async def _encode(
        self, key: str, data: bytes, waited_for: SharedDeadline, timer: StageTimer
    ) -> EncodedImage:
        try:
            with timer.stage("decode"):
                width, height, pixels = await asyncio.get_running_loop().run_in_executor(
                    self._decode_pool, self._decoded, data, waited_for
                )
            with timer.stage("encode"):
                # No deadline of its own: this may serve several requests, and ends with the last.
                embedding = await self._encoder.submit(pixels, Deadline(), waited_for)
        finally:
            if self._waited_for.get(key) is waited_for:
                del self._waited_for[key]
        image = EncodedImage(width, height, embedding)
        self._images.put(key, image, embedding.nbytes)
        return image

    def _decoded(self, data: bytes, waited_for: SharedDeadline) -> tuple[int, int, Any]:
        pixels = self._image_decoder.decode(data, waited_for)
        height, width = pixels.shape[:2]
        check_room(height, width, self._settings.mask_memory_bytes)
        return width, height, to_model_input(pixels, self._traits.image_size)

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
    check_share(score_threshold, "score_threshold", FieldPath(("score_threshold",)))
    if max_instances < 0:
        raise InvalidRequest(
            Reason.OPTION_INVALID,
            "max_instances must not be negative",
            field=FieldPath(("max_instances",)),
        )


def open_segmenter(settings: SegmenterSettings, metrics: ReplicaMetrics) -> Segmenter:
    """The segmenter of `settings`, its model loaded and warmed up. Blocking.

    Raises:
        Whatever the engine raises for a checkpoint that it cannot load, or that does not answer.
    """
    engine = create(settings)
    engine.load()
    warm_up(engine)
    segmenter = Segmenter(settings, engine, metrics)
    segmenter.start()
    return segmenter


def warm_up(engine: SegmenterEngine) -> None:
    """Ask the model about a plain picture, by words and by a box, so that it is known to answer.

    Raises:
        CheckpointError: what it answers is not finite.
    """
    traits = engine.describe()
    gray = np.full((64, 64, 3), 128, np.uint8)
    (image,) = engine.encode_images([to_model_input(gray, traits.image_size)])
    (text,) = engine.encode_texts([EXEMPLARS_ONLY])
    for exemplars in ((), (Exemplar(Box(16, 16, 48, 48)),)):
        boxes, labels = exemplar_arrays(exemplars, 64, 64, QUERIES)
        (raw,) = engine.detect([Pair(image, text, boxes, labels)])
        if not all_finite(raw):
            raise CheckpointError(
                f"{traits.model.name} failed its warm-up: it answers with numbers that are not "
                "finite; the weights are broken, or their type is too narrow for them"
            )
