"""Reviews through the whole core: fake engine, real batcher, parser, masks and views."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from limelight.masks import encode_rle
from limelight.values import RLE, Verdict, VerdictKind
from services.deadline import Deadline
from services.domain import Candidate
from services.errors import DeadlinePassed, InvalidMedia, InvalidRequest, Reason
from services.planner.engines import Prompt
from services.planner.engines.fake import GARBLED, FakePlannerEngine
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.service import PlannerService

Serving = Callable[..., PlannerService]
Make = Callable[..., Candidate]
FOREVER = Deadline()


class WatchedEngine(FakePlannerEngine):
    """Keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[Prompt] = []

    def generate(self, prompts: Sequence[Prompt], wanted: Callable[[], bool]) -> list[str]:
        self.prompts.extend(prompts)
        return super().generate(prompts, wanted)


class GarblingEngine(FakePlannerEngine):
    """Never gives a valid verdict on the candidate it is told to garble."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._mark = f"Candidate {number}:"

    def generate(self, prompts: Sequence[Prompt], wanted: Callable[[], bool]) -> list[str]:
        answers = super().generate(prompts, wanted)
        return [
            GARBLED if self._mark in str(prompt.messages[1]) else answer
            for prompt, answer in zip(prompts, answers, strict=True)
        ]


async def test_each_candidate_gets_a_verdict_in_order(
    serving: Serving, picture: bytes, candidate: Make, metrics: RecordedPlannerMetrics
) -> None:
    candidates = [candidate(7, "cat"), candidate(3, "dog"), candidate(9, "old dog")]
    engine = FakePlannerEngine()
    reviewed = await serving(engine).review(picture, "The dog!", candidates, FOREVER)
    assert [(verdict.id, verdict.kind.value) for verdict in reviewed.verdicts] == [
        (7, "rejected"),
        (3, "accepted"),
        (9, "accepted"),
    ]
    assert reviewed.verdicts[0].reason
    assert reviewed.model == engine.describe()
    assert set(reviewed.timings_ms) == {"decode", "review"}
    assert metrics.counts["reviewed", "accepted"] == 2
    assert sum(engine.batches) == 3


async def test_a_large_review_is_asked_in_bounded_batches(
    serving: Serving, picture: bytes, candidate: Make
) -> None:
    engine = FakePlannerEngine(delay_s=0.01)
    candidates = [candidate(i, "dog") for i in range(11)]
    service = serving(engine, max_batch_prompts=4, max_queued_prompts=4)
    reviewed = await service.review(picture, "the dog", candidates, FOREVER)
    assert len(reviewed.verdicts) == 11
    assert max(engine.batches) == 4
    assert sum(engine.batches) == 11


async def test_the_model_sees_the_numbered_scene_and_the_candidate(
    serving: Serving, picture: bytes, candidate: Make
) -> None:
    engine = WatchedEngine()
    candidates = [candidate(5, "cat"), candidate(8, "dog", (50, 20, 90, 60))]
    await serving(engine).review(picture, "the dog", candidates, FOREVER)
    first, second = engine.prompts
    assert "Candidate 1: cat" in str(first.messages)
    assert "Candidate 2: dog" in str(second.messages)
    assert [tool["function"]["name"] for tool in second.tools] == ["verdict"]
    assert first.pictures[0].rgb.shape == (64, 96, 3)
    assert first.pictures[0].key == second.pictures[0].key
    assert first.pictures[1].key != second.pictures[1].key
    # Close up: the box of 40 x 40 with a margin of a quarter on each side, within the picture.
    assert second.pictures[1].rgb.shape == (64 - 10, 96 - 40, 3)


async def test_an_invalid_verdict_is_asked_again_and_then_left_open(
    serving: Serving, picture: bytes, candidate: Make, metrics: RecordedPlannerMetrics
) -> None:
    engine = GarblingEngine(2)
    candidates = [candidate(1, "dog"), candidate(2, "dog")]
    reviewed = await serving(engine).review(picture, "the dog", candidates, FOREVER)
    assert reviewed.verdicts[0].kind is VerdictKind.ACCEPTED
    assert reviewed.verdicts[1] == Verdict(2, VerdictKind.UNREVIEWED)
    assert sum(engine.batches) == 3
    assert metrics.counts["reviewed", "unreviewed"] == 1


async def test_the_second_verdict_counts(serving: Serving, picture: bytes, candidate: Make) -> None:
    engine = FakePlannerEngine()
    reviewed = await serving(engine).review(
        picture, "garbled-once dog", [candidate(1, "dog")], FOREVER
    )
    assert reviewed.verdicts[0].kind is VerdictKind.ACCEPTED
    assert engine.batches == [1, 1]


async def test_a_bad_candidate_is_named(serving: Serving, picture: bytes, candidate: Make) -> None:
    good = candidate(1, "dog")
    empty = Candidate(2, "dog", encode_rle(np.zeros((64, 96), np.bool_)))
    engine = FakePlannerEngine()
    service = serving(engine, max_candidates=3)
    for candidates, field in [
        ([], "candidates"),
        ([candidate(i, "dog") for i in range(4)], "candidates"),
        ([good, candidate(1, "cat")], "candidates[1].id"),
        ([good, candidate(2, "x" * 1001)], "candidates[1].phrase"),
        ([good, candidate(2, "cat", size=(65, 96))], "candidates[1].mask"),
        ([good, empty], "candidates[1].mask"),
        ([good, Candidate(2, "cat", RLE((64, 96), b"\xff\x00"))], "candidates[1].mask"),
        ([good, Candidate(2, "cat", RLE((64, 96), b""))], "candidates[1].mask"),
    ]:
        with pytest.raises(InvalidRequest) as caught:
            await service.review(picture, "the dog", candidates, FOREVER)
        assert caught.value.reason is Reason.CANDIDATE_INVALID
        assert str(caught.value.field) == field
    assert engine.batches == []


async def test_a_bad_image_or_instruction_is_named(
    serving: Serving, picture: bytes, candidate: Make
) -> None:
    service = serving(FakePlannerEngine())
    with pytest.raises(InvalidMedia):
        await service.review(b"junk", "the dog", [candidate(1, "dog")], FOREVER)
    with pytest.raises(InvalidRequest) as caught:
        await service.review(picture, " ", [candidate(1, "dog")], FOREVER)
    assert str(caught.value.field) == "instruction"


async def test_a_review_ends_with_its_deadline(
    serving: Serving, picture: bytes, candidate: Make, metrics: RecordedPlannerMetrics
) -> None:
    engine = FakePlannerEngine(delay_s=30.0)
    with pytest.raises(DeadlinePassed):
        await serving(engine).review(
            picture, "the dog", [candidate(i, "dog") for i in range(3)], Deadline.after(0.2)
        )
    assert metrics.counts["departed", "review", "deadline"] == 1
