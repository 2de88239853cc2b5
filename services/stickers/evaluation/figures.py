"""Marks counted: the figures of the world's definition."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.stickers.evaluation.concepts import ConceptFigures, by_concept
from services.stickers.evaluation.confusion import Confusion, confusions
from services.stickers.evaluation.detections import (
    Detection,
    detected,
    presence_share,
    share_of,
)
from services.stickers.evaluation.marking import ExemplarMark, InstructionMark, PhraseMark
from services.stickers.evaluation.plans import PlanPart, plan_parts
from services.stickers.evaluation.questions import PhraseKind
from services.stickers.instructions import Family

NO_PLAN = "no plan"


@dataclass(frozen=True)
class PhraseFigures:
    """Phrase queries.

    Attributes:
        all: every query, absent phrases included: their instances count as false.
        present: the queries of things that are there.
        kinds: by why the phrase was asked.
        presence: share of queries whose presence (0.5 or more: there) is right.
        presence_by_kind: the same by kind.
        presence_unknown: queries left out of it, since only "don't care" instances match.
        false_per_absent: instances answered a query of an absent phrase.
    """

    all: Detection
    present: Detection
    kinds: dict[str, Detection]
    presence: float
    presence_by_kind: dict[str, float]
    presence_unknown: int
    false_per_absent: float


@dataclass(frozen=True)
class InstructionFigures:
    """Instructions, all of them or those of one family.

    Attributes:
        asked: how many.
        exact: share answered with exactly the true set of instances.
        plan_right: share whose plan, executed on the true masks, gives exactly the truth.
        masks_wrong: share answered wrongly although the plan was right: the segmenter's errors.
        plan_wrong: share answered wrongly by a wrong plan: the planner's errors.
        right_by_luck: share answered exactly although the plan was wrong.
    """

    asked: int
    exact: float
    plan_right: float
    masks_wrong: float
    plan_wrong: float
    right_by_luck: float


@dataclass(frozen=True)
class Figures:
    """Everything that was measured.

    Attributes:
        phrases, exemplars, instructions: the three kinds of question.
        exemplars_negative: the exemplar queries with a negative box.
        family_mean: of the families' `exact`, each counted alike.
        families: by family.
        concepts: phrase queries by concept, in the vocabulary's order.
        confusions: concepts taken for others, the most frequent first.
        plan_parts: what plans use beside the canonical ones.
        outcomes: plans by how they came about.
        errors: failed calls by what they failed of.
        calls: calls made, failed ones included.
    """

    phrases: PhraseFigures
    exemplars: Detection
    exemplars_negative: Detection
    instructions: InstructionFigures
    family_mean: float
    families: dict[str, InstructionFigures]
    concepts: tuple[ConceptFigures, ...]
    confusions: tuple[Confusion, ...]
    plan_parts: tuple[PlanPart, ...]
    outcomes: dict[str, int]
    errors: dict[str, int]
    calls: int


def count(
    phrases: Sequence[PhraseMark],
    exemplars: Sequence[ExemplarMark],
    instructions: Sequence[InstructionMark],
) -> Figures:
    """The figures of all marks; a share of nothing is 0."""
    by_family = {
        family.value: [m for m in instructions if m.question.instruction.family is family]
        for family in Family
    }
    families = {family: _instructions(marks) for family, marks in by_family.items() if marks}
    marks: list[PhraseMark | ExemplarMark | InstructionMark]
    marks = [*phrases, *exemplars, *instructions]
    return Figures(
        phrases=_phrases(phrases),
        exemplars=detected(m.comparison for m in exemplars),
        exemplars_negative=detected(
            m.comparison for m in exemplars if m.question.negative is not None
        ),
        instructions=_instructions(instructions),
        family_mean=share_of(sum(one.exact for one in families.values()), len(families)),
        families=families,
        concepts=by_concept(phrases),
        confusions=confusions(phrases),
        plan_parts=plan_parts(instructions),
        outcomes=_counted(NO_PLAN if m.plan is None else m.plan.outcome for m in instructions),
        errors=_counted(mark.error for mark in marks if mark.error),
        calls=len(marks),
    )


def _phrases(marks: Sequence[PhraseMark]) -> PhraseFigures:
    by_kind = {kind.value: [m for m in marks if m.question.kind is kind] for kind in PhraseKind}
    by_kind = {kind: of_kind for kind, of_kind in by_kind.items() if of_kind}
    absent = [m for m in marks if not m.question.wanted and not m.question.dont_care]
    return PhraseFigures(
        all=detected(m.comparison for m in marks),
        present=detected(m.comparison for m in marks if m.question.wanted),
        kinds={k: detected(m.comparison for m in of_kind) for k, of_kind in by_kind.items()},
        presence=presence_share(marks),
        presence_by_kind={kind: presence_share(of_kind) for kind, of_kind in by_kind.items()},
        presence_unknown=sum(m.presence_right is None for m in marks),
        false_per_absent=share_of(sum(m.comparison.answered for m in absent), len(absent)),
    )


def _instructions(marks: Sequence[InstructionMark]) -> InstructionFigures:
    def share(counted: Iterable[bool]) -> float:
        return share_of(sum(counted), len(marks))

    return InstructionFigures(
        asked=len(marks),
        exact=share(m.exact for m in marks),
        plan_right=share(m.plan_right for m in marks),
        masks_wrong=share(m.plan_right and not m.exact for m in marks),
        plan_wrong=share(not m.plan_right and not m.exact for m in marks),
        right_by_luck=share(m.exact and not m.plan_right for m in marks),
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(map(str, names)).items()))
