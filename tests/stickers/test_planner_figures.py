"""Figures: what an examination comes to, by family, by concept and by each part of a plan."""

import json
import math

import pytest

from services.domain import ConceptQuery, Plan, PlanOutcome, SelectBy, Selection
from services.stickers.instructions import (
    NOTHING_ASKED,
    NOTHING_FITS,
    Family,
    Instruction,
)
from services.stickers.planner.examiner import Answered, Judged
from services.stickers.planner.figures import SHORT, Figures, Part, figures_of, table
from services.stickers.vocabulary import Vocabulary

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
) -> Answered:
    instruction = Instruction(family, "?", canonical, truth)
    return Answered(instruction, second_look, "", tokens, plan, found, wanted, seen)


def _figures(*answered: Answered, judged: tuple[Judged, ...] = ()) -> Figures:
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
    assert (figures.valid.right, figures.valid.of) == (4, 5)
    assert (figures.short.right, figures.short.of) == (4, 5)
    assert figures.tokens == pytest.approx((4 * 10 + 96) / 5)
    dog, cat = figures.concepts["dog"], figures.concepts["cat"]
    assert (dog.exact.right, dog.exact.of, dog.overlooked, dog.uncalled) == (1, 4, 2, 0)
    assert (cat.exact.of, cat.overlooked, cat.uncalled) == (0, 0, 1)


@pytest.mark.parametrize(("tokens", "short"), [(SHORT, 1), (SHORT + 1, 0)])
def test_short_answers(tokens: int, short: int) -> None:
    assert _figures(_answered(DOGS, DOGS, tokens=tokens)).short.right == short


def _with(**changes: object) -> Plan:
    return Plan((ConceptQuery("dog"),), **changes)  # type: ignore[arg-type]


LEFT, RIGHT = Selection(SelectBy.LEFTMOST), Selection(SelectBy.RIGHTMOST)
SECOND = Selection(SelectBy.LEFTMOST, rank=2)


@pytest.mark.parametrize(
    ("part", "canonical", "plan", "expected"),
    [
        ("select", DOGS, DOGS, Part(0, 0, 0, 0, 1)),
        ("select", _with(select=LEFT), DOGS, Part(1, 1, 0, 0, 1)),
        ("select", _with(select=LEFT), _with(select=RIGHT), Part(1, 0, 1, 0, 1)),
        ("select", DOGS, _with(select=LEFT), Part(0, 0, 0, 1, 1)),
        ("select", _with(select=SECOND), _with(select=LEFT), Part(1, 0, 0, 0, 1)),
        ("rank_count", _with(select=SECOND), _with(select=LEFT), Part(1, 1, 0, 0, 1)),
        ("rank_count", _with(select=SECOND), DOGS, Part(1, 1, 0, 0, 1)),
        (
            "rank_count",
            _with(select=SECOND),
            _with(select=Selection(SelectBy.LEFTMOST, count=2)),
            Part(1, 0, 1, 0, 1),
        ),
        ("rank_count", _with(select=LEFT), _with(select=SECOND), Part(0, 0, 0, 1, 1)),
        ("exclude", _with(exclude=(ConceptQuery("cat"),)), DOGS, Part(1, 1, 0, 0, 1)),
        ("exclude", DOGS, _with(exclude=(ConceptQuery("cat"),)), Part(0, 0, 0, 1, 1)),
        (
            "exclude",
            _with(exclude=(ConceptQuery("cat"),)),
            _with(exclude=(ConceptQuery("cow"),)),
            Part(1, 0, 1, 0, 1),
        ),
        ("review", _with(review=True), DOGS, Part(1, 1, 0, 0, 1)),
        ("review", DOGS, _with(review=True), Part(0, 0, 0, 1, 1)),
        ("review", _with(review=True), None, Part(0, 0, 0, 0, 0)),
    ],
)
def test_parts_of_plans(part: str, canonical: Plan, plan: Plan | None, expected: Part) -> None:
    figures = _figures(_answered(canonical, plan))
    assert getattr(figures, part) == expected


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
    assert (figures.nonsense.right, figures.nonsense.of) == (2, 3)
    assert (figures.nothing_fits.right, figures.nothing_fits.of) == (1, 2)
    assert (figures.told.right, figures.told.of) == (2, 3)
    assert (figures.rash.right, figures.rash.of) == (1, 3)


def test_verdicts() -> None:
    judged = (
        *[Judged(True, True)] * 3,
        Judged(True, False),
        Judged(False, False),
        Judged(False, True),
        Judged(False, None),  # no verdict is no rejection
    )
    figures = _figures(_answered(DOGS, DOGS), judged=judged)
    assert (figures.accepted.right, figures.accepted.of) == (3, 4)
    assert (figures.rejected.right, figures.rejected.of) == (1, 3)


def test_all_of_it_is_written() -> None:
    figures = _figures(_answered(DOGS, DOGS), judged=(Judged(True, True),))
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
