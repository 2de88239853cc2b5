"""Scores counted: the figures of the world's definition."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from limelight.values import Plan
from training.evaluation.confusion import Confusion, confusions
from training.evaluation.matching import DetectionFigures, detected, share_of
from training.evaluation.questions import PhraseKind
from training.evaluation.scoring import (
    ExemplarScore,
    InstructionScore,
    NegativeScore,
    PhraseScore,
)
from training.world.instructions import Family

NO_PLAN = "no plan"

_PARTS: Mapping[str, Callable[[Plan], bool]] = {
    "select": lambda plan: plan.select is not None,
    "rank": lambda plan: plan.select is not None and plan.select.rank > 1,
    "count": lambda plan: plan.select is not None and plan.select.count > 1,
    "exclude": lambda plan: bool(plan.exclude),
    "review": lambda plan: plan.review,
}


@dataclass(frozen=True)
class PhraseResults:
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

    all: DetectionFigures
    present: DetectionFigures
    kinds: dict[str, DetectionFigures]
    presence: float
    presence_by_kind: dict[str, float]
    presence_unknown: int
    false_per_absent: float


@dataclass(frozen=True)
class ConceptResults(DetectionFigures):
    """The phrase queries of one concept, those of scenes without it included.

    Only phrases that mean one concept count: "apple" says nothing of the red one by itself.

    Attributes:
        concept: its name.
        presence: share of queries whose presence is right.
    """

    concept: str
    presence: float


@dataclass(frozen=True)
class NegativeResults:
    """Phrases with a negative box on one of the things they mean.

    Attributes:
        queries: how many.
        negated: instances in the boxes that the phrase alone finds.
        gone: share of those that the box takes away.
        others: the phrases' other instances that the phrase alone finds.
        stayed: share of those that are still there.
    """

    queries: int
    negated: int
    gone: float
    others: int
    stayed: float


@dataclass(frozen=True)
class InstructionResults:
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
class PlanPartUse:
    """Whether plans use a part of the plan language when, and only when, they need to.

    Another plan than the canonical one may be right, too: `InstructionResults.plan_right`.

    Attributes:
        part: "select", "rank" (other than the first), "count" (more than one), "exclude", "review".
        plans: plans that came back; calls that failed gave none.
        needed: canonical plans with it.
        missing: share of those whose plan lacks it.
        needless: share of the others whose plan has it.
    """

    part: str
    plans: int
    needed: int
    missing: float
    needless: float


@dataclass(frozen=True)
class EvaluationFigures:
    """Everything that was measured.

    Attributes:
        phrases, exemplars, instructions: the three kinds of question.
        exemplars_negative: the exemplar queries with a negative box.
        negatives: phrases with a negative box.
        family_mean: of the families' `exact`, each counted alike.
        families: by family.
        concepts: phrase queries by concept, in the vocabulary's order.
        confusions: concepts taken for others, the most frequent first.
        plan_parts: what plans use beside the canonical ones.
        outcomes: plans by how they came about.
        errors: failed calls by what they failed of.
        calls: calls made, failed ones included.
    """

    phrases: PhraseResults
    exemplars: DetectionFigures
    exemplars_negative: DetectionFigures
    negatives: NegativeResults
    instructions: InstructionResults
    family_mean: float
    families: dict[str, InstructionResults]
    concepts: tuple[ConceptResults, ...]
    confusions: tuple[Confusion, ...]
    plan_parts: tuple[PlanPartUse, ...]
    outcomes: dict[str, int]
    errors: dict[str, int]
    calls: int


def count(
    phrases: Sequence[PhraseScore],
    exemplars: Sequence[ExemplarScore],
    negatives: Sequence[NegativeScore],
    instructions: Sequence[InstructionScore],
) -> EvaluationFigures:
    """The figures of all scores; a share of nothing is 0."""
    by_family = {
        family.value: [s for s in instructions if s.question.instruction.family is family]
        for family in Family
    }
    families = {family: _instructions(scores) for family, scores in by_family.items() if scores}
    scores: list[PhraseScore | ExemplarScore | NegativeScore | InstructionScore]
    scores = [*phrases, *exemplars, *negatives, *instructions]
    negative = [score for score in exemplars if score.question.negative is not None]
    return EvaluationFigures(
        phrases=_phrases(phrases),
        exemplars=_detected(exemplars),
        exemplars_negative=_detected(negative),
        negatives=_negatives(negatives),
        instructions=_instructions(instructions),
        family_mean=share_of(sum(one.exact for one in families.values()), len(families)),
        families=families,
        concepts=_concepts(phrases),
        confusions=confusions(phrases),
        plan_parts=tuple(_part(name, has, instructions) for name, has in _PARTS.items()),
        outcomes=_counted(NO_PLAN if s.plan is None else s.plan.outcome for s in instructions),
        errors=_counted(score.error for score in scores if score.error),
        calls=len(scores),
    )


def _phrases(scores: Sequence[PhraseScore]) -> PhraseResults:
    by_kind = {kind.value: [s for s in scores if s.question.kind is kind] for kind in PhraseKind}
    by_kind = {kind: of_kind for kind, of_kind in by_kind.items() if of_kind}
    absent = [s for s in scores if not s.question.wanted and not s.question.dont_care]
    return PhraseResults(
        all=_detected(scores),
        present=_detected([s for s in scores if s.question.wanted]),
        kinds={kind: _detected(of_kind) for kind, of_kind in by_kind.items()},
        presence=_presence(scores),
        presence_by_kind={kind: _presence(of_kind) for kind, of_kind in by_kind.items()},
        presence_unknown=sum(s.presence_right is None for s in scores),
        false_per_absent=share_of(sum(s.comparison.answered for s in absent), len(absent)),
    )


def _concepts(scores: Iterable[PhraseScore]) -> tuple[ConceptResults, ...]:
    groups: dict[int, list[PhraseScore]] = defaultdict(list)
    for score in scores:
        if len(score.question.meant) == 1:
            groups[score.question.concept.index].append(score)
    return tuple(
        ConceptResults(
            **asdict(_detected(group)),
            concept=group[0].question.concept.name,
            presence=_presence(group),
        )
        for _, group in sorted(groups.items())
    )


def _negatives(scores: Sequence[NegativeScore]) -> NegativeResults:
    found = [score for score in scores if score.found]
    others = sum(score.others for score in scores)
    return NegativeResults(
        queries=len(scores),
        negated=len(found),
        gone=share_of(sum(score.gone for score in found), len(found)),
        others=others,
        stayed=share_of(sum(score.stayed for score in scores), others),
    )


def _instructions(scores: Sequence[InstructionScore]) -> InstructionResults:
    def share(counted: Iterable[bool]) -> float:
        return share_of(sum(counted), len(scores))

    return InstructionResults(
        asked=len(scores),
        exact=share(s.exact for s in scores),
        plan_right=share(s.plan_right for s in scores),
        masks_wrong=share(s.plan_right and not s.exact for s in scores),
        plan_wrong=share(not s.plan_right and not s.exact for s in scores),
        right_by_luck=share(s.exact and not s.plan_right for s in scores),
    )


def _part(
    name: str, has: Callable[[Plan], bool], scores: Sequence[InstructionScore]
) -> PlanPartUse:
    pairs = [(s.plan, s.question.instruction.plan) for s in scores if s.plan is not None]
    needing = [has(made) for made, canonical in pairs if has(canonical)]
    others = [has(made) for made, canonical in pairs if not has(canonical)]
    return PlanPartUse(
        part=name,
        plans=len(pairs),
        needed=len(needing),
        missing=share_of(needing.count(False), len(needing)),
        needless=share_of(others.count(True), len(others)),
    )


def _detected(scores: Sequence[PhraseScore] | Sequence[ExemplarScore]) -> DetectionFigures:
    return detected(score.comparison for score in scores)


def _presence(scores: Iterable[PhraseScore]) -> float:
    """The share of queries whose presence is right, of those that can be judged."""
    known = [score.presence_right for score in scores if score.presence_right is not None]
    return share_of(sum(known), len(known))


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(map(str, names)).items()))
