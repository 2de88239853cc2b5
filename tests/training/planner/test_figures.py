"""What an evaluation comes to: by family, by concept, and by each part of a plan."""

import json
import math

import pytest

from limelight.values import ConceptQuery, Plan, PlanOutcome, SelectBy, Selection
from training.planner.evaluator import PlanAnswer, ReviewAnswer
from training.planner.figures import SHORT, PlannerFigures, figures_of, table
from training.planner.figures import PlanPartCounts as Counts
from training.world.instructions import (
    NOTHING_ASKED,
    NOTHING_FITS,
    Family,
    Instruction,
)
from training.world.vocabulary import Vocabulary

VOCABULARY = Vocabulary.load()
DOG, CAT = (VOCABULARY.by_name[name].index for name in ("dog", "cat"))
DOGS = Plan((ConceptQuery("dog"),))
NONSENSE = Plan(reason=NOTHING_ASKED, outcome=PlanOutcome.REFUSED)
NOTHING = Plan(reason=NOTHING_FITS, outcome=PlanOutcome.REFUSED)


def _answered(
    canonical: Plan,
    plan: Plan | None,
    *,
    family: Family = Family.PHRASE,
    truth: frozenset[int] = frozenset({0}),
    found: frozenset[int] = frozenset({0}),
    wanted: frozenset[int] = frozenset({DOG}),
    seen: frozenset[int] = frozenset({DOG}),
    tokens: int = 10,
    second_look: bool = False,
) -> PlanAnswer:
    instruction = Instruction(family, "?", canonical, truth)
    return PlanAnswer(instruction, second_look, "", tokens, plan, found, wanted, seen)


def _figures(*answered: PlanAnswer, judged: tuple[ReviewAnswer, ...] = ()) -> PlannerFigures:
    return figures_of(answered, judged, VOCABULARY)


def test_families_and_concepts() -> None:
    figures = _figures(
        _answered(DOGS, DOGS),
        _answered(DOGS, DOGS, found=frozenset({0, 1}), seen=frozenset({DOG, CAT})),
        _answered(DOGS, DOGS, family=Family.SET, found=frozenset(), seen=frozenset()),
        _answered(DOGS, None, family=Family.SET, found=frozenset(), seen=frozenset(), tokens=96),
        _answered(DOGS, DOGS, second_look=True),  # counts for no family
    )
    assert (figures.exact.right, figures.exact.of) == (1, 4)
    assert {name: share.value for name, share in figures.families.items()} == {
        "phrase": 0.5,
        "set": 0.0,
    }
    assert figures.family_mean == 0.25
    assert (figures.shares["valid"].right, figures.shares["valid"].of) == (4, 5)
    assert (figures.shares["short"].right, figures.shares["short"].of) == (4, 5)
    assert figures.tokens == pytest.approx((4 * 10 + 96) / 5)
    dog, cat = figures.concepts["dog"], figures.concepts["cat"]
    assert (dog.exact.right, dog.exact.of, dog.overlooked, dog.uncalled) == (1, 4, 2, 0)
    assert (cat.exact.of, cat.overlooked, cat.uncalled) == (0, 0, 1)


@pytest.mark.parametrize(("tokens", "short"), [(SHORT, 1), (SHORT + 1, 0)])
def test_short_answers(tokens: int, short: int) -> None:
    assert _figures(_answered(DOGS, DOGS, tokens=tokens)).shares["short"].right == short


def _with(**changes: object) -> Plan:
    return Plan((ConceptQuery("dog"),), **changes)  # type: ignore[arg-type]


LEFT, RIGHT = Selection(SelectBy.LEFTMOST), Selection(SelectBy.RIGHTMOST)
SECOND = Selection(SelectBy.LEFTMOST, rank=2)


@pytest.mark.parametrize(
    ("part", "canonical", "plan", "expected"),
    [
        ("select", DOGS, DOGS, Counts(0, 0, 0, 0, 1)),
        ("select", _with(select=LEFT), DOGS, Counts(1, 1, 0, 0, 1)),
        ("select", _with(select=LEFT), _with(select=RIGHT), Counts(1, 0, 1, 0, 1)),
        ("select", DOGS, _with(select=LEFT), Counts(0, 0, 0, 1, 1)),
        ("select", _with(select=SECOND), _with(select=LEFT), Counts(1, 0, 0, 0, 1)),
        ("rank_count", _with(select=SECOND), _with(select=LEFT), Counts(1, 1, 0, 0, 1)),
        ("rank_count", _with(select=SECOND), DOGS, Counts(1, 1, 0, 0, 1)),
        (
            "rank_count",
            _with(select=SECOND),
            _with(select=Selection(SelectBy.LEFTMOST, count=2)),
            Counts(1, 0, 1, 0, 1),
        ),
        ("rank_count", _with(select=LEFT), _with(select=SECOND), Counts(0, 0, 0, 1, 1)),
        ("exclude", _with(exclude=(ConceptQuery("cat"),)), DOGS, Counts(1, 1, 0, 0, 1)),
        ("exclude", DOGS, _with(exclude=(ConceptQuery("cat"),)), Counts(0, 0, 0, 1, 1)),
        (
            "exclude",
            _with(exclude=(ConceptQuery("cat"),)),
            _with(exclude=(ConceptQuery("cow"),)),
            Counts(1, 0, 1, 0, 1),
        ),
        ("review", _with(review=True), DOGS, Counts(1, 1, 0, 0, 1)),
        ("review", DOGS, _with(review=True), Counts(0, 0, 0, 1, 1)),
        ("review", _with(review=True), None, Counts(0, 0, 0, 0, 0)),
    ],
)
def test_parts_of_plans(part: str, canonical: Plan, plan: Plan | None, expected: Counts) -> None:
    figures = _figures(_answered(canonical, plan))
    assert figures.parts[part] == expected


def test_refusals() -> None:
    figures = _figures(
        _answered(NONSENSE, NONSENSE),
        _answered(NONSENSE, NOTHING),  # refused, for another reason
        _answered(NONSENSE, DOGS),
        _answered(NOTHING, NOTHING),
        _answered(NOTHING, None),
        _answered(DOGS, NOTHING),
        _answered(DOGS, DOGS),
        _answered(DOGS, DOGS),
    )
    assert (figures.shares["nonsense"].right, figures.shares["nonsense"].of) == (2, 3)
    assert (figures.shares["nothing_fits"].right, figures.shares["nothing_fits"].of) == (1, 2)
    assert (figures.shares["told"].right, figures.shares["told"].of) == (2, 3)
    assert (figures.shares["rash"].right, figures.shares["rash"].of) == (1, 3)


def test_verdicts() -> None:
    judged = (
        *[ReviewAnswer(True, True)] * 3,
        ReviewAnswer(True, False),
        ReviewAnswer(False, False),
        ReviewAnswer(False, True),
        ReviewAnswer(False, None),  # no verdict is no rejection
    )
    figures = _figures(_answered(DOGS, DOGS), judged=judged)
    assert (figures.shares["accepted"].right, figures.shares["accepted"].of) == (3, 4)
    assert (figures.shares["rejected"].right, figures.shares["rejected"].of) == (1, 3)


def test_all_of_it_is_written() -> None:
    figures = _figures(_answered(DOGS, DOGS), judged=(ReviewAnswer(True, True),))
    values = json.loads(json.dumps(figures.as_json()))
    assert values["exact"] == {"share": 1.0, "right": 1, "of": 1}
    assert values["families"]["phrase"]["share"] == 1.0
    assert values["select"]["plans"] == 1
    assert values["concepts"]["dog"]["exact"]["of"] == 1
    assert set(values["concepts"]) == {concept.name for concept in VOCABULARY.concepts}
    text = table(figures)
    assert "| exactly right | 1.000 | 1 |" in text
    assert "| dog | 1 | 1.000 | 0 | 0 |" in text
    assert "| wrong candidates rejected | - | 0 |" in text
    assert "| cat |" not in text


def test_what_is_followed_in_training_has_no_gaps() -> None:
    brief = _figures(_answered(DOGS, DOGS)).brief()
    assert brief == {"exact": 1.0, "exact_phrase": 1.0, "short": 1.0}
    assert not any(math.isnan(value) for value in brief.values())
