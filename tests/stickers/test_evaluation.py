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
from services.stickers.evaluation.calibration import LOW_THRESHOLD, calibrate
from services.stickers.evaluation.examination import Examiner, SceneMarks
from services.stickers.evaluation.figures import Figures, count
from services.stickers.evaluation.floors import Bounds
from services.stickers.evaluation.questions import Paper, Setter
from services.stickers.evaluation.report import Report
from services.stickers.evaluation.sheet import draw, worst
from services.stickers.evaluation.worlds import OwnRenderer, World
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
    sheet = draw(wrong, OwnRenderer())
    assert sheet.height == 3 * draw(wrong[:1], OwnRenderer()).height
    assert len(sheet.getcolors(1 << 24) or ()) > 100


async def test_bounds_name_what_falls_short(examined: Callable[..., Any]) -> None:
    figures = figures_of(await examined(lie=True))
    assert Bounds(phrase_f1=1.0, mean_iou=1.0, false_per_absent=0.0).broken(figures) == []
    (line,) = Bounds(phrase_f1=1.0, presence=0.9).broken(figures)
    assert line == "presence is 0.000, below 0.9"


async def test_too_many_false_instances_break_a_bound(examined: Callable[..., Any]) -> None:
    figures = figures_of(await examined(invent=True))
    assert figures.phrases.false_per_absent == pytest.approx(1.0, abs=0.4)
    (line,) = Bounds(false_per_absent=0.03).broken(figures)
    assert line.startswith("false instances per absent phrase are")


async def test_a_report_becomes_json(examined: Callable[..., Any]) -> None:
    figures = figures_of(await examined(lie=True))
    report = Report(World.OWN, "validation", SEEDS[0], len(SEEDS), False, (), 1.0, figures)
    told = json.loads(json.dumps(report.to_dict()))
    assert told["world"] == "own"
    assert told["figures"]["phrases"]["presence"] == 0.0
    assert len(told["figures"]["concepts"]) == len(figures.concepts) > 20


async def test_what_is_answered_for_another_concept_is_named(examined: Callable[..., Any]) -> None:
    assert figures_of(await examined()).confusions == ()
    figures = figures_of(await examined(invent=True))
    names = {concept.name for concept in Vocabulary.load().concepts}
    assert figures.confusions
    for one in figures.confusions:
        assert {one.asked, one.answered} <= names
        assert one.asked != one.answered
        assert 0 < one.count <= one.chances
    counts = [one.count for one in figures.confusions]
    assert counts == sorted(counts, reverse=True)


async def test_plans_that_use_what_they_need_not_are_counted(examined: Callable[..., Any]) -> None:
    right = figures_of(await examined()).plan_parts
    assert {one.missing for one in right} == {one.needless for one in right} == {0.0}

    def bare(plan: Plan) -> Plan:
        return replace(plan, select=None, review=True)

    parts = {one.part: one for one in figures_of(await examined(plan=bare)).plan_parts}
    assert parts["select"].needed > 0
    assert (parts["select"].missing, parts["select"].needless) == (1.0, 0.0)
    assert (parts["review"].needed, parts["review"].needless) == (0, 1.0)


async def test_figures_by_concept_add_up(examined: Callable[..., Any]) -> None:
    marks = await examined(spoil=lambda masks: masks[1:])
    concepts = {one.concept: one for one in figures_of(marks).concepts}
    alone = [m for one in marks for m in one.phrases if len(m.question.meant) == 1]
    assert sum(one.queries for one in concepts.values()) == len(alone)
    for name, one in concepts.items():
        of_concept = [m for m in alone if m.question.concept.name == name]
        hits = sum(m.comparison.hits for m in of_concept)
        wanted = sum(m.comparison.wanted for m in of_concept)
        assert one.wanted == wanted
        assert one.f1 == pytest.approx(2 * hits / max(1, wanted + hits))


async def test_scores_are_judged_below_the_default_threshold(
    setter: Setter, papers: list[Paper]
) -> None:
    servicer = Truthful(papers, setter.writer.phrases, score=0.3)
    async with serving(servicer) as address, AsyncClient(address) as client:
        answers = await Examiner(client, setter).scores(SEEDS)
    assert servicer.thresholds == pytest.approx([LOW_THRESHOLD] * servicer.calls)
    found = calibrate(answers)
    assert found.queries == sum(len(paper.phrases) for paper in papers)
    assert [one.instances > 0 for one in found.bins] == [number == 3 for number in range(10)]
    assert found.bins[3].right == 1.0
    assert found.expected_error == pytest.approx(0.7)
    assert (found.used.f1, found.best.f1) == (0.0, 1.0)


def _part(mask: RLE, share: float) -> RLE:
    """The upper rows of a mask, as many as hold `share` of its pixels."""
    pixels = decode_rle(mask)
    rows = np.cumsum(pixels.sum(axis=1)) <= share * pixels.sum() + pixels.any(axis=0).sum() / 2
    return encode_rle(pixels & rows[:, None])
