"""One request through the whole segmenter, without Serve: answers, sharing, and leaving early."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from limelight.masks import decode_rle
from limelight.values import Box, ConceptQuery, Exemplar
from services.deadline import Deadline
from services.domain import SegmentedImage
from services.errors import (
    DeadlinePassed,
    InvalidMedia,
    InvalidRequest,
    Overloaded,
    Reason,
    TooLarge,
    Unavailable,
)
from services.replica.metrics import RecordedMetrics
from services.segmenter.engines import Embedding
from services.segmenter.engines.fake import FakeSegmenterEngine
from services.segmenter.segmenting import Segmenter
from services.segmenter.settings import SegmenterSettings
from tests.conftest import Clock, Until

Painter = Callable[..., bytes]
Opener = Callable[..., Segmenter]

RED, BLUE = (255, 0, 0), (0, 0, 255)
NO_DEADLINE = Deadline()
RED_QUERY = ConceptQuery("red")


class GatedEngine(FakeSegmenterEngine):
    """The fake, stopping at a gate in `encode_images`, and noting what it was given."""

    def __init__(self) -> None:
        super().__init__(SegmenterSettings(engine="fake"))
        self.gate = threading.Event()
        self.encoded: list[int] = []
        self.texts: list[str] = []

    def encode_images(self, images: Sequence[Any]) -> list[Embedding]:
        self.encoded.append(len(images))
        assert self.gate.wait(60)
        return super().encode_images(images)

    def encode_texts(self, phrases: Sequence[str]) -> list[Embedding]:
        self.texts += phrases
        return super().encode_texts(phrases)


@pytest.fixture
def gated() -> Iterator[GatedEngine]:
    engine = GatedEngine()
    yield engine
    engine.gate.set()


async def ask(
    segmenter: Segmenter,
    data: bytes,
    *queries: ConceptQuery,
    score_threshold: float = 0.5,
    max_instances: int = 0,
    deadline: Deadline = NO_DEADLINE,
) -> SegmentedImage:
    asked = queries or (RED_QUERY,)
    return await segmenter.segment(data, asked, score_threshold, max_instances, deadline)


async def test_shapes_are_found_exactly(open_segmenter: Opener, paint: Painter) -> None:
    data = paint((20, 10, 60, 30, RED), (100, 50, 150, 100, RED), (5, 60, 50, 110, BLUE))
    like_blue = ConceptQuery("", (Exemplar(Box(10, 70, 40, 100)),))
    answer = await ask(
        open_segmenter(), data, ConceptQuery("the red things"), ConceptQuery("dog"), like_blue
    )
    assert (answer.width, answer.height) == (160, 120)
    red, dog, blue = answer.results
    assert [found.box for found in red.detections] == [Box(100, 50, 150, 100), Box(20, 10, 60, 30)]
    assert [found.area for found in red.detections] == [2500, 800]
    assert red.detections[0].score > red.detections[1].score
    mask = decode_rle(red.detections[1].mask)
    assert mask[10:30, 20:60].all()
    assert mask.sum() == 800
    assert dog.detections == ()
    assert dog.presence < 0.01
    assert [found.box for found in blue.detections] == [Box(5, 60, 50, 110)]
    assert set(answer.timings_ms) == {"decode", "encode", "detect", "masks"}
    assert answer.model.engine == "fake"


async def test_max_instances_keeps_the_best(open_segmenter: Opener, paint: Painter) -> None:
    data = paint((20, 10, 60, 30, RED), (100, 50, 150, 100, RED))
    answer = await ask(open_segmenter(), data, max_instances=1)
    assert [found.area for found in answer.results[0].detections] == [2500]
    answer = await ask(open_segmenter(max_instances=1), data, max_instances=50)
    assert len(answer.results[0].detections) == 1


async def test_a_repeated_image_is_neither_decoded_nor_encoded(
    open_segmenter: Opener, paint: Painter, metrics: RecordedMetrics
) -> None:
    segmenter, data = open_segmenter(), paint((20, 10, 60, 30, RED))
    first = await ask(segmenter, data)
    again = await ask(segmenter, data, ConceptQuery("red"), ConceptQuery("blue"))
    assert again.results[0] == first.results[0]
    assert set(again.timings_ms) == {"detect", "masks"}
    assert metrics.batches["encode"] == [1]
    assert metrics.counts["hit", "image"] == 1
    assert metrics.counts["hit", "text"] == 1
    assert metrics.counts["miss", "text"] == 2
    assert metrics.gauges["cache_bytes", "image"] > 0


async def test_concurrent_requests_for_one_image_encode_it_once(
    open_segmenter: Opener,
    paint: Painter,
    gated: GatedEngine,
    metrics: RecordedMetrics,
    until: Until,
) -> None:
    segmenter, data = open_segmenter(gated), paint((20, 10, 60, 30, RED))
    tasks = [asyncio.create_task(ask(segmenter, data)) for _ in range(4)]
    await until(lambda: gated.encoded == [1] and metrics.counts["miss", "image"] == 4)
    tasks[0].cancel()
    gated.gate.set()
    answers = await asyncio.gather(*tasks[1:])
    assert gated.encoded == [1]
    assert all(len(answer.results[0].detections) == 1 for answer in answers)
    assert all("encode" in answer.timings_ms for answer in answers)
    assert metrics.counts["departed", "encode", "cancelled"] == 1


async def test_images_of_many_requests_share_batches(
    open_segmenter: Opener,
    paint: Painter,
    gated: GatedEngine,
    metrics: RecordedMetrics,
    until: Until,
) -> None:
    segmenter = open_segmenter(gated, max_batch_images=4)
    pictures = [paint((20 + i, 10, 60, 30, RED)) for i in range(6)]
    first = asyncio.create_task(ask(segmenter, pictures[0]))
    await until(lambda: gated.encoded == [1])
    rest = [asyncio.create_task(ask(segmenter, picture)) for picture in pictures[1:]]
    await until(lambda: metrics.gauges["depth", "encode"] == 5)
    gated.gate.set()
    answers = await asyncio.gather(first, *rest)
    assert gated.encoded == [1, 4, 1]
    assert [a.results[0].detections[0].area for a in answers] == [20 * (40 - i) for i in range(6)]


@pytest.mark.parametrize("leave", ["cancel", "deadline"])
async def test_who_leaves_frees_the_place_and_is_never_encoded(
    leave: str,
    open_segmenter: Opener,
    paint: Painter,
    gated: GatedEngine,
    metrics: RecordedMetrics,
    until: Until,
    clock: Clock,
) -> None:
    segmenter = open_segmenter(gated, max_queued_images=1)
    pictures = [paint((20 + i, 10, 60, 30, RED)) for i in range(4)]
    first = asyncio.create_task(ask(segmenter, pictures[0]))
    await until(lambda: gated.encoded == [1])
    deadline = Deadline.after(30 if leave == "deadline" else None)
    leaver = asyncio.create_task(ask(segmenter, pictures[1], deadline=deadline))
    await until(lambda: metrics.gauges["depth", "encode"] == 1)
    with pytest.raises(Overloaded):
        await ask(segmenter, pictures[2])
    if leave == "cancel":
        leaver.cancel()
    else:
        clock.advance(60)
    await until(lambda: metrics.gauges["depth", "encode"] == 0)
    await asyncio.wait([leaver])
    if leave == "cancel":
        assert leaver.cancelled()
        assert metrics.counts["departed", "encode", "cancelled"] == 1
    else:
        assert isinstance(leaver.exception(), DeadlinePassed)
        assert metrics.counts["departed", "encode", "deadline"] == 1
    newcomer = asyncio.create_task(ask(segmenter, pictures[3]))
    await until(lambda: metrics.gauges["depth", "encode"] == 1)
    gated.gate.set()
    await asyncio.gather(first, newcomer)
    assert gated.encoded == [1, 1]
    assert metrics.counts["dropped", "encode"] == 1


@pytest.mark.parametrize(
    ("queries", "options", "error", "reason", "field"),
    [
        ((), {}, InvalidRequest, Reason.TASK_MISSING, "queries"),
        (
            (RED_QUERY, ConceptQuery("red " * 31)),
            {},
            InvalidRequest,
            Reason.PHRASE_TOO_LONG,
            "queries[1].phrase",
        ),
        (
            (ConceptQuery("red", (Exemplar(Box(400, 0, 500, 10)),)),),
            {},
            InvalidRequest,
            Reason.BOX_INVALID,
            "queries[0].exemplars[0].box",
        ),
        ((RED_QUERY,) * 33, {}, InvalidRequest, Reason.TOO_MANY_QUERIES, "queries"),
        ((RED_QUERY,), {"score_threshold": 1.5}, InvalidRequest, Reason.OPTION_INVALID, None),
        ((RED_QUERY,), {"score_threshold": float("nan")}, InvalidRequest, None, "score_threshold"),
        ((RED_QUERY,), {"max_instances": -1}, InvalidRequest, None, "max_instances"),
    ],
)
async def test_wrong_requests_never_reach_the_decoder(
    queries: tuple[ConceptQuery, ...],
    options: dict[str, Any],
    error: type[Exception],
    reason: Reason | None,
    field: str | None,
    open_segmenter: Opener,
    paint: Painter,
    metrics: RecordedMetrics,
) -> None:
    chosen = {"score_threshold": 0.5, "max_instances": 0, **options}
    with pytest.raises(error) as caught:
        await open_segmenter().segment(paint(), queries, **chosen, deadline=Deadline())
    assert reason in (None, caught.value.reason)
    assert field in (None, str(caught.value.field))
    assert metrics.batches["detect"] == []


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (b"", InvalidMedia, Reason.IMAGE_MISSING),
        (b"not a picture", InvalidMedia, Reason.IMAGE_UNSUPPORTED),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), InvalidMedia, None),
    ],
)
async def test_bad_images_never_reach_the_encoder(
    data: bytes,
    error: type[Exception],
    reason: Reason | None,
    open_segmenter: Opener,
    metrics: RecordedMetrics,
) -> None:
    with pytest.raises(error) as caught:
        await ask(open_segmenter(), data)
    assert reason in (None, caught.value.reason)
    assert metrics.batches["encode"] == []


async def test_an_image_whose_masks_cannot_fit_never_reaches_the_encoder(
    open_segmenter: Opener, paint: Painter, metrics: RecordedMetrics
) -> None:
    with pytest.raises(TooLarge) as caught:
        await ask(open_segmenter(mask_memory_bytes=10_000), paint())
    assert caught.value.reason is Reason.MASKS_TOO_LARGE
    assert metrics.batches["encode"] == []


async def test_closing_finishes_what_is_under_way_and_refuses_the_rest(
    open_segmenter: Opener, paint: Painter, gated: GatedEngine, until: Until
) -> None:
    segmenter, data = open_segmenter(gated), paint((20, 10, 60, 30, RED))
    running = asyncio.create_task(ask(segmenter, data))
    await until(lambda: gated.encoded == [1])
    closing = asyncio.create_task(segmenter.close())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as caught:
        await ask(segmenter, paint())
    assert caught.value.reason is Reason.DRAINING
    gated.gate.set()
    assert (await running).results[0].detections
    await closing


@pytest.mark.slow
async def test_a_real_model_answers_alike_alone_batched_and_cached(
    open_segmenter: Opener, paint: Painter, random_checkpoint: Path
) -> None:
    settings = {"engine": "transformers", "model": str(random_checkpoint), "device": "cpu"}
    pictures = [paint((20 + 9 * i, 10, 90, 70, RED)) for i in range(3)]
    queries = (
        ConceptQuery("dog"),
        ConceptQuery("red apple", (Exemplar(Box(20, 10, 90, 70)),)),
        ConceptQuery("", (Exemplar(Box(20, 10, 90, 70)),)),
    )
    apart = open_segmenter(
        **settings, max_batch_images=1, max_batch_pairs=1, image_cache_bytes=0, text_cache_bytes=0
    )
    alone = [await ask(apart, p, *queries, score_threshold=0.0) for p in pictures]
    together = open_segmenter(**settings, max_batch_pairs=5)
    for _ in range(2):
        answers = await asyncio.gather(
            *(ask(together, p, *queries, score_threshold=0.0) for p in pictures)
        )
        for answer, expected in zip(answers, alone, strict=True):
            for got, plain in zip(answer.results, expected.results, strict=True):
                assert len(got.detections) == len(plain.detections) > 0
                assert got.presence == pytest.approx(plain.presence, abs=1e-5)
                for one, other in zip(got.detections, plain.detections, strict=True):
                    assert one.score == pytest.approx(other.score, abs=1e-5)
                    differ = decode_rle(one.mask) != decode_rle(other.mask)
                    assert differ.mean() < 1e-3
