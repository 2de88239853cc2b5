"""The evaluator against a service that knows the truth: whatever is planted is found, no more."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from limelight import AsyncClient, LimelightError
from limelight.masks import decode_rle, encode_rle
from limelight.values import RLE, Plan, PlanOutcome
from tests.training.evaluation.truthful import Masks, Truthful, serving
from training.evaluation.calibration import LOW_THRESHOLD, calibrate
from training.evaluation.evaluator import SceneScores, ServiceEvaluator
from training.evaluation.figures import EvaluationFigures, count
from training.evaluation.floors import Bounds
from training.evaluation.questions import QuestionBuilder, QuestionSet
from training.evaluation.report import EvaluationReport
from training.evaluation.scoring import ServiceAnswer, score_negative
from training.evaluation.sheet import draw, worst
from training.evaluation.worlds import OwnRenderer, World
from training.world.instructions import Family
from training.world.splits import VALIDATION
from training.world.vocabulary import Vocabulary

SEEDS = VALIDATION[:8]
EVERY_FAMILY = 7


@pytest.fixture(scope="module")
def questions() -> QuestionBuilder:
    return QuestionBuilder(Vocabulary.load(), per_scene=EVERY_FAMILY)


@pytest.fixture(scope="module")
def sets(questions: QuestionBuilder) -> list[QuestionSet]:
    return [questions.questions(seed) for seed in SEEDS]


@pytest.fixture
def evaluated(questions: QuestionBuilder, sets: list[QuestionSet]) -> Callable[..., Any]:
    async def evaluate(perfect_plans: bool = False, **flaws: Any) -> list[SceneScores]:
        servicer = Truthful(sets, questions.writer.phrases, **flaws)
        async with serving(servicer) as address, AsyncClient(address) as client:
            evaluator = ServiceEvaluator(client, questions, perfect_plans=perfect_plans)
            return await evaluator.evaluate(SEEDS)

    return evaluate


def figures_of(scores: list[SceneScores]) -> EvaluationFigures:
    return count(
        [score for one in scores for score in one.phrases],
        [score for one in scores for score in one.exemplars],
        [score for one in scores for score in one.negatives],
        [score for one in scores for score in one.instructions],
    )


def test_papers_ask_every_kind_and_hide_nothing(sets: list[QuestionSet]) -> None:
    kinds = {question.kind.value for asked in sets for question in asked.phrases}
    assert kinds >= {"name", "plural", "look-alike", "absent"}
    families = {q.instruction.family for asked in sets for q in asked.instructions}
    assert families == set(Family)
    assert {asked.content[:2] for asked in sets} == {b"\xff\xd8", b"\x89P"}
    assert any(asked.exemplar and asked.exemplar.negative for asked in sets)
    negated = [asked.negative for asked in sets if asked.negative]
    assert negated
    for question in negated:
        assert question.negated not in question.others
        assert question.others
    # Without "don't care" instances among the questions these tests would not see them excused.
    assert any(question.dont_care for asked in sets for question in asked.phrases)


def test_a_seed_gives_one_paper(questions: QuestionBuilder, sets: list[QuestionSet]) -> None:
    again = questions.questions(SEEDS[0])
    assert again.content == sets[0].content
    assert (again.phrases, again.exemplar) == (sets[0].phrases, sets[0].exemplar)
    assert again.instructions == sets[0].instructions


def test_absent_phrases_match_nothing_in_the_scene(sets: list[QuestionSet]) -> None:
    for asked in sets:
        for question in asked.phrases:
            there = bool(question.wanted or question.dont_care)
            assert there == (question.kind.value not in ("look-alike", "absent"))


async def test_a_service_that_knows_the_truth_is_perfect(evaluated: Callable[..., Any]) -> None:
    figures = figures_of(await evaluated())
    found = figures.phrases.all
    assert (found.f1, found.f1_strict, found.mean_iou) == (1.0, 1.0, 1.0)
    assert (figures.phrases.presence, figures.phrases.false_per_absent) == (1.0, 0.0)
    assert figures.exemplars.f1 == figures.exemplars_negative.f1 == 1.0
    assert (figures.negatives.gone, figures.negatives.stayed) == (1.0, 1.0)
    assert figures.negatives.negated == figures.negatives.queries > 0
    assert figures.instructions.exact == figures.instructions.plan_right == 1.0
    assert figures.family_mean == 1.0
    assert set(figures.families) == {family.value for family in Family}
    assert figures.errors == {}


async def test_dont_care_instances_may_be_answered(evaluated: Callable[..., Any]) -> None:
    figures = figures_of(await evaluated(hidden=True))
    assert figures.phrases.all.excused > 0
    assert figures.phrases.all.f1 == figures.exemplars.f1 == 1.0
    assert figures.instructions.exact == 1.0


async def test_an_instance_twice_is_wrong(evaluated: Callable[..., Any]) -> None:
    def twice(masks: Masks) -> Masks:
        return [*masks, *masks[:1]]

    scores = await evaluated(spoil=twice)
    figures = figures_of(scores)
    assert figures.phrases.all.recall == 1.0
    assert figures.phrases.all.precision < 1.0
    for one in scores:
        for score in one.instructions:
            assert score.exact == (not score.question.instruction.truth)
    assert figures.instructions.plan_right == 1.0
    assert figures.instructions.masks_wrong == pytest.approx(1.0 - figures.instructions.exact)
    assert figures.instructions.plan_wrong == 0.0


async def test_an_instance_left_out_is_wrong(evaluated: Callable[..., Any]) -> None:
    figures = figures_of(await evaluated(spoil=lambda masks: masks[1:]))
    assert figures.phrases.all.precision == 1.0
    assert figures.phrases.all.recall < 1.0
    assert figures.instructions.exact < 0.5


async def test_rough_masks_pass_the_loose_threshold_alone(evaluated: Callable[..., Any]) -> None:
    def rough(masks: Masks) -> Masks:
        return [_part(mask, 0.6) for mask in masks]

    found = figures_of(await evaluated(spoil=rough)).phrases.all
    assert (found.f1, found.f1_strict) == (1.0, 0.0)
    assert found.mean_iou == pytest.approx(0.6, abs=0.03)


async def test_a_negative_box_that_changes_nothing_is_seen(evaluated: Callable[..., Any]) -> None:
    figures = figures_of(await evaluated(deaf=True))
    assert (figures.negatives.gone, figures.negatives.stayed) == (0.0, 1.0)
    (line,) = Bounds(negated_gone=0.9, others_stay=0.9).broken(figures)
    assert line == "what negative boxes show, gone is 0.000, below 0.9"


async def test_a_negative_box_that_takes_away_too_much_is_seen(
    questions: QuestionBuilder, sets: list[QuestionSet]
) -> None:
    asked = next(asked for asked in sets if asked.negative)
    question = asked.negative
    assert question is not None
    before = ServiceAnswer(tuple(asked.truth(question.phrase.wanted)))
    nothing = score_negative(asked, question, before, ServiceAnswer())
    assert (nothing.gone, nothing.others, nothing.stayed) == (True, len(question.others), 0)
    failed = score_negative(asked, question, before, ServiceAnswer(error="INTERNAL"))
    assert (failed.found, failed.gone) == (True, False)
    unseen = score_negative(asked, question, ServiceAnswer(), ServiceAnswer())
    assert (unseen.found, unseen.others) == (False, 0)


async def test_a_false_presence_is_wrong_everywhere(evaluated: Callable[..., Any]) -> None:
    figures = figures_of(await evaluated(lie=True))
    assert figures.phrases.presence == 0.0
    assert figures.phrases.all.f1 == 1.0


async def test_a_wrong_plan_is_told_from_wrong_masks(evaluated: Callable[..., Any]) -> None:
    def empty(plan: Plan) -> Plan:
        return Plan(outcome=PlanOutcome.DEGRADED)

    right = figures_of(await evaluated(plan=empty)).instructions
    assert right.exact == 1.0
    assert right.right_by_luck == pytest.approx(1.0 - right.plan_right)
    assert right.right_by_luck > 0.5
    wrong = figures_of(await evaluated(plan=empty, spoil=lambda masks: [])).instructions
    assert wrong.plan_wrong == pytest.approx(1.0 - wrong.exact)
    assert wrong.plan_wrong > 0.5
    assert wrong.masks_wrong == 0.0


async def test_failed_calls_are_counted_and_wrong(evaluated: Callable[..., Any]) -> None:
    scores = await evaluated(fail=grpc.StatusCode.INTERNAL, fail_every=5)
    figures = figures_of(scores)
    failed = figures.calls // 5
    assert figures.errors == {"INTERNAL": failed}
    assert figures.phrases.presence < 1.0
    wrong = [m for one in scores for m in one.instructions if not m.exact]
    assert wrong
    assert all(score.error == "INTERNAL" for score in wrong)


async def test_a_mask_of_another_size_is_an_error(evaluated: Callable[..., Any]) -> None:
    def small(masks: Masks) -> Masks:
        return [encode_rle(np.ones((9, 9), bool)) for _ in masks]

    figures = figures_of(await evaluated(spoil=small))
    assert set(figures.errors) == {"mask of another size"}
    assert figures.phrases.all.recall == 0.0


async def test_run_lengths_that_are_none_are_an_error(evaluated: Callable[..., Any]) -> None:
    def broken(masks: Masks) -> Masks:
        return [replace(mask, counts=b"0") for mask in masks]

    figures = figures_of(await evaluated(spoil=broken))
    (error,) = figures.errors
    assert error.startswith("malformed mask")


async def test_perfect_plans_are_sent_as_queries(evaluated: Callable[..., Any]) -> None:
    scores = await evaluated(perfect_plans=True)
    figures = figures_of(scores)
    assert figures.instructions.exact == 1.0
    assert "ok" not in figures.outcomes


async def test_nobody_there_ends_it(questions: QuestionBuilder) -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(ExceptionGroup) as raised:
            await ServiceEvaluator(client, questions).evaluate(SEEDS[:1])
    assert isinstance(raised.value.exceptions[0], LimelightError)


async def test_the_sheet_shows_wrong_answers_of_every_family(
    evaluated: Callable[..., Any], tmp_path: Path
) -> None:
    scores = await evaluated(spoil=lambda masks: [])
    wrong = worst([score for one in scores for score in one.instructions], 6)
    assert len({score.question.instruction.family for score in wrong}) == 6
    assert not any(score.exact for score in wrong)
    sheet = draw(wrong, OwnRenderer())
    assert len(sheet.subfigs) == 6
    for score, row in zip(wrong, sheet.subfigs, strict=True):
        answered, truth = (np.asarray(axes.images[0].get_array()) for axes in row.axes)
        assert score.question.instruction.text in row.get_suptitle()
        assert (answered != truth).any() == bool(score.question.instruction.truth)
    draw([], OwnRenderer()).savefig(tmp_path / "none.png")


async def test_bounds_name_what_falls_short(evaluated: Callable[..., Any]) -> None:
    figures = figures_of(await evaluated(lie=True))
    assert Bounds(phrase_f1=1.0, mean_iou=1.0, false_per_absent=0.0).broken(figures) == []
    (line,) = Bounds(phrase_f1=1.0, presence=0.9).broken(figures)
    assert line == "presence is 0.000, below 0.9"


async def test_too_many_false_instances_break_a_bound(evaluated: Callable[..., Any]) -> None:
    figures = figures_of(await evaluated(invent=True))
    assert figures.phrases.false_per_absent == pytest.approx(1.0, abs=0.4)
    (line,) = Bounds(false_per_absent=0.03).broken(figures)
    assert line.startswith("false instances per absent phrase are")


async def test_a_report_becomes_json(evaluated: Callable[..., Any]) -> None:
    figures = figures_of(await evaluated(lie=True))
    report = EvaluationReport(
        World.OWN, "validation", SEEDS[0], len(SEEDS), False, (), 1.0, figures
    )
    told = json.loads(json.dumps(report.to_dict()))
    assert told["world"] == "own"
    assert told["figures"]["phrases"]["presence"] == 0.0
    assert len(told["figures"]["concepts"]) == len(figures.concepts) > 20


async def test_what_is_answered_for_another_concept_is_named(evaluated: Callable[..., Any]) -> None:
    assert figures_of(await evaluated()).confusions == ()
    figures = figures_of(await evaluated(invent=True))
    names = {concept.name for concept in Vocabulary.load().concepts}
    assert figures.confusions
    for one in figures.confusions:
        assert {one.asked, one.answered} <= names
        assert one.asked != one.answered
        assert 0 < one.count <= one.chances
    counts = [one.count for one in figures.confusions]
    assert counts == sorted(counts, reverse=True)


async def test_plans_that_use_what_they_need_not_are_counted(evaluated: Callable[..., Any]) -> None:
    right = figures_of(await evaluated()).plan_parts
    assert {one.missing for one in right} == {one.needless for one in right} == {0.0}

    def bare(plan: Plan) -> Plan:
        return replace(plan, select=None, review=True)

    parts = {one.part: one for one in figures_of(await evaluated(plan=bare)).plan_parts}
    assert parts["select"].needed > 0
    assert (parts["select"].missing, parts["select"].needless) == (1.0, 0.0)
    assert (parts["review"].needed, parts["review"].needless) == (0, 1.0)


async def test_figures_by_concept_add_up(evaluated: Callable[..., Any]) -> None:
    scores = await evaluated(spoil=lambda masks: masks[1:])
    concepts = {one.concept: one for one in figures_of(scores).concepts}
    alone = [m for one in scores for m in one.phrases if len(m.question.meant) == 1]
    assert sum(one.queries for one in concepts.values()) == len(alone)
    for name, one in concepts.items():
        of_concept = [m for m in alone if m.question.concept.name == name]
        hits = sum(m.comparison.hits for m in of_concept)
        wanted = sum(m.comparison.wanted for m in of_concept)
        assert one.wanted == wanted
        assert one.f1 == pytest.approx(2 * hits / max(1, wanted + hits))


async def test_scores_are_judged_below_the_default_threshold(
    questions: QuestionBuilder, sets: list[QuestionSet]
) -> None:
    servicer = Truthful(sets, questions.writer.phrases, score=0.3)
    async with serving(servicer) as address, AsyncClient(address) as client:
        answers = await ServiceEvaluator(client, questions).ranked(SEEDS)
    assert servicer.thresholds == pytest.approx([LOW_THRESHOLD] * servicer.calls)
    found = calibrate(answers)
    assert found.queries == sum(len(asked.phrases) for asked in sets)
    assert [one.instances > 0 for one in found.bins] == [number == 3 for number in range(10)]
    assert found.bins[3].right == 1.0
    assert found.expected_error == pytest.approx(0.7)
    assert (found.used.f1, found.best.f1) == (0.0, 1.0)


def _part(mask: RLE, share: float) -> RLE:
    """The upper rows of a mask, as many as hold `share` of its pixels."""
    pixels = decode_rle(mask)
    rows = np.cumsum(pixels.sum(axis=1)) <= share * pixels.sum() + pixels.any(axis=0).sum() / 2
    return encode_rle(pixels & rows[:, None])
