"""The evaluator against a service that knows the truth: whatever is planted is found, no more."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import grpc
import numpy as np
import pytest

from limelight import AsyncClient, LimelightError
from services.codecs.masks import decode_rle, encode_rle
from services.domain import RLE, Plan, PlanOutcome
from services.stickers.evaluation.examination import Examiner, SceneMarks
from services.stickers.evaluation.figures import Figures, count
from services.stickers.evaluation.questions import Paper, Setter
from services.stickers.evaluation.report import Report
from services.stickers.evaluation.sheet import draw, worst
from services.stickers.instructions import Family
from services.stickers.splits import VALIDATION
from services.stickers.vocabulary import Vocabulary
from tests.stickers.truthful import Masks, Truthful, serving

SEEDS = VALIDATION[:8]
EVERY_FAMILY = 7


@pytest.fixture(scope="module")
def setter() -> Setter:
    return Setter(Vocabulary.load(), per_scene=EVERY_FAMILY)


@pytest.fixture(scope="module")
def papers(setter: Setter) -> list[Paper]:
    return [setter.paper(seed) for seed in SEEDS]


@pytest.fixture
def examined(setter: Setter, papers: list[Paper]) -> Callable[..., Any]:
    async def examine(perfect_plans: bool = False, **flaws: Any) -> list[SceneMarks]:
        servicer = Truthful(papers, setter.writer.phrases, **flaws)
        async with serving(servicer) as address, AsyncClient(address) as client:
            examiner = Examiner(client, setter, perfect_plans=perfect_plans)
            return await examiner.examine(SEEDS)

    return examine


def figures_of(marks: list[SceneMarks]) -> Figures:
    return count(
        [mark for one in marks for mark in one.phrases],
        [mark for one in marks for mark in one.exemplars],
        [mark for one in marks for mark in one.instructions],
    )


def test_papers_ask_every_kind_and_hide_nothing(papers: list[Paper]) -> None:
    kinds = {question.kind.value for paper in papers for question in paper.phrases}
    assert kinds >= {"name", "plural", "look-alike", "absent"}
    families = {q.instruction.family for paper in papers for q in paper.instructions}
    assert families == set(Family)
    assert {paper.content[:2] for paper in papers} == {b"\xff\xd8", b"\x89P"}
    assert any(paper.exemplar and paper.exemplar.negative for paper in papers)
    # Without "don't care" instances among the questions these tests would not see them excused.
    assert any(question.dont_care for paper in papers for question in paper.phrases)


def test_a_seed_gives_one_paper(setter: Setter, papers: list[Paper]) -> None:
    again = setter.paper(SEEDS[0])
    assert again.content == papers[0].content
    assert (again.phrases, again.exemplar) == (papers[0].phrases, papers[0].exemplar)
    assert again.instructions == papers[0].instructions


def test_absent_phrases_match_nothing_in_the_scene(papers: list[Paper]) -> None:
    for paper in papers:
        for question in paper.phrases:
            there = bool(question.wanted or question.dont_care)
            assert there == (question.kind.value not in ("look-alike", "absent"))


async def test_a_service_that_knows_the_truth_is_perfect(examined: Callable[..., Any]) -> None:
    figures = figures_of(await examined())
    found = figures.phrases.all
    assert (found.f1, found.f1_strict, found.mean_iou) == (1.0, 1.0, 1.0)
    assert (figures.phrases.presence, figures.phrases.false_per_absent) == (1.0, 0.0)
    assert figures.exemplars.f1 == figures.exemplars_negative.f1 == 1.0
    assert figures.instructions.exact == figures.instructions.plan_right == 1.0
    assert figures.family_mean == 1.0
    assert set(figures.families) == {family.value for family in Family}
    assert figures.errors == {}


async def test_dont_care_instances_may_be_answered(examined: Callable[..., Any]) -> None:
    figures = figures_of(await examined(hidden=True))
    assert figures.phrases.all.excused > 0
    assert figures.phrases.all.f1 == figures.exemplars.f1 == 1.0
    assert figures.instructions.exact == 1.0


async def test_an_instance_twice_is_wrong(examined: Callable[..., Any]) -> None:
    def twice(masks: Masks) -> Masks:
        return [*masks, *masks[:1]]

    marks = await examined(spoil=twice)
    figures = figures_of(marks)
    assert figures.phrases.all.recall == 1.0
    assert figures.phrases.all.precision < 1.0
    for one in marks:
        for mark in one.instructions:
            assert mark.exact == (not mark.question.instruction.truth)
    assert figures.instructions.plan_right == 1.0
    assert figures.instructions.masks_wrong == pytest.approx(1.0 - figures.instructions.exact)
    assert figures.instructions.plan_wrong == 0.0


async def test_an_instance_left_out_is_wrong(examined: Callable[..., Any]) -> None:
    figures = figures_of(await examined(spoil=lambda masks: masks[1:]))
    assert figures.phrases.all.precision == 1.0
    assert figures.phrases.all.recall < 1.0
    assert figures.instructions.exact < 0.5


async def test_rough_masks_pass_the_loose_threshold_alone(examined: Callable[..., Any]) -> None:
    def rough(masks: Masks) -> Masks:
        return [_part(mask, 0.6) for mask in masks]

    found = figures_of(await examined(spoil=rough)).phrases.all
    assert (found.f1, found.f1_strict) == (1.0, 0.0)
    assert found.mean_iou == pytest.approx(0.6, abs=0.03)


async def test_a_false_presence_is_wrong_everywhere(examined: Callable[..., Any]) -> None:
    figures = figures_of(await examined(lie=True))
    assert figures.phrases.presence == 0.0
    assert figures.phrases.all.f1 == 1.0


async def test_a_wrong_plan_is_told_from_wrong_masks(examined: Callable[..., Any]) -> None:
    def empty(plan: Plan) -> Plan:
        return Plan(outcome=PlanOutcome.DEGRADED)

    right = figures_of(await examined(plan=empty)).instructions
    assert right.exact == 1.0
    assert right.right_by_luck == pytest.approx(1.0 - right.plan_right)
    assert right.right_by_luck > 0.5
    wrong = figures_of(await examined(plan=empty, spoil=lambda masks: [])).instructions
    assert wrong.plan_wrong == pytest.approx(1.0 - wrong.exact)
    assert wrong.plan_wrong > 0.5
    assert wrong.masks_wrong == 0.0


async def test_failed_calls_are_counted_and_wrong(examined: Callable[..., Any]) -> None:
    marks = await examined(fail=grpc.StatusCode.INTERNAL, fail_every=5)
    figures = figures_of(marks)
    failed = figures.calls // 5
    assert figures.errors == {"INTERNAL": failed}
    assert figures.phrases.presence < 1.0
    wrong = [m for one in marks for m in one.instructions if not m.exact]
    assert wrong
    assert all(mark.error == "INTERNAL" for mark in wrong)


async def test_a_mask_of_another_size_is_an_error(examined: Callable[..., Any]) -> None:
    def small(masks: Masks) -> Masks:
        return [encode_rle(np.ones((9, 9), bool)) for _ in masks]

    figures = figures_of(await examined(spoil=small))
    assert set(figures.errors) == {"mask of another size"}
    assert figures.phrases.all.recall == 0.0


async def test_run_lengths_that_are_none_are_an_error(examined: Callable[..., Any]) -> None:
    def broken(masks: Masks) -> Masks:
        return [replace(mask, counts=b"0") for mask in masks]

    figures = figures_of(await examined(spoil=broken))
    (error,) = figures.errors
    assert error.startswith("malformed mask")


async def test_perfect_plans_are_sent_as_queries(examined: Callable[..., Any]) -> None:
    marks = await examined(perfect_plans=True)
    figures = figures_of(marks)
    assert figures.instructions.exact == 1.0
    assert "ok" not in figures.outcomes


async def test_nobody_there_ends_it(setter: Setter) -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(ExceptionGroup) as raised:
            await Examiner(client, setter).examine(SEEDS[:1])
    assert isinstance(raised.value.exceptions[0], LimelightError)


async def test_the_sheet_shows_wrong_answers_of_every_family(examined: Callable[..., Any]) -> None:
    marks = await examined(spoil=lambda masks: [])
    wrong = worst([mark for one in marks for mark in one.instructions], 6)
    assert len({mark.question.instruction.family for mark in wrong}) == 6
    assert not any(mark.exact for mark in wrong)
    sheet = draw(wrong)
    assert sheet.height == 3 * draw(wrong[:1]).height
    assert len(sheet.getcolors(1 << 24) or ()) > 100


async def test_thresholds_name_what_falls_short(examined: Callable[..., Any]) -> None:
    figures = figures_of(await examined(lie=True))
    report = Report("validation", SEEDS[0], len(SEEDS), False, (), 1.0, figures)
    assert json.loads(json.dumps(report.to_dict()))["figures"]["phrases"]["presence"] == 0.0
    assert report.shortfalls({"phrase-f1": 1.0, "presence": None}) == []
    (line,) = report.shortfalls({"phrase-f1": 1.0, "presence": 0.9})
    assert "presence" in line


def _part(mask: RLE, share: float) -> RLE:
    """The upper rows of a mask, as many as hold `share` of its pixels."""
    pixels = decode_rle(mask)
    rows = np.cumsum(pixels.sum(axis=1)) <= share * pixels.sum() + pixels.any(axis=0).sum() / 2
    return encode_rle(pixels & rows[:, None])
