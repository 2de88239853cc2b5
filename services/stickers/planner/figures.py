"""What an examination comes to: shares by family, by concept, and by each part of a plan.

Flow: `Answered`, `Judged` -> `Figures` -> `table` for people, `as_json` for the rest. Whether an
answer is right is decided by what its plan finds; how the plan says it is compared with the
canonical plan of `services.stickers.instructions`, part by part.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from services.domain import Plan, PlanOutcome
from services.stickers.instructions import NOTHING_ASKED
from services.stickers.planner.examiner import Answered, Judged
from services.stickers.vocabulary import Vocabulary

SHORT = 64  # tokens that a plan should need at most


@dataclass(frozen=True)
class Part:
    """How one part of the plans compares with the canonical ones.

    Attributes:
        needed: plans that should have it.
        missing: of those, how many have it not.
        wrong: of those, how many have it otherwise.
        unneeded: plans that have it and should not.
        plans: all plans compared.
    """

    needed: int
    missing: int
    wrong: int
    unneeded: int
    plans: int

    @classmethod
    def compared(cls, pairs: Sequence[tuple[Plan, Plan]], part: Callable[[Plan], object]) -> Self:
        """Of pairs of a plan and its canonical one; `part` gives something false where it is not
        used.
        """
        parts = [(part(plan), part(canonical)) for plan, canonical in pairs]
        return cls(
            needed=sum(bool(right) for _, right in parts),
            missing=sum(bool(right) and not own for own, right in parts),
            wrong=sum(bool(own) and bool(right) and own != right for own, right in parts),
            unneeded=sum(bool(own) and not right for own, right in parts),
            plans=len(parts),
        )


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    right: int
    of: int

    @classmethod
    def counted(cls, marks: Sequence[bool]) -> Self:
        """Of marks, one each."""
        return cls(sum(marks), len(marks))

    @property
    def value(self) -> float:
        """Between 0 and 1; nan of nothing."""
        return self.right / self.of if self.of else float("nan")


@dataclass(frozen=True)
class ConceptFigures:
    """How one concept fares.

    Attributes:
        exact: of the instructions that want instances of it, those answered exactly right.
        overlooked: of the same, those whose answer has no instance of it.
        uncalled: answers that have instances of it and should not.
    """

    exact: Share
    overlooked: int
    uncalled: int


@dataclass(frozen=True)
class Figures:
    """Everything that is reported of a planner.

    Attributes:
        exact: answers that are exactly right, over all.
        families: the same by family.
        valid: answers that are a valid call.
        short: answers of at most `SHORT` tokens.
        tokens: of an answer, on average.
        select, rank_count, exclude, review: parts of the plans.
        nonsense, nothing_fits: refusals that should be, and are.
        told: of the right refusals, those that give the right reason.
        rash: refusals that should not be.
        accepted, rejected: candidates that should be, and are.
        concepts: by name.
    """

    exact: Share
    families: Mapping[str, Share]
    valid: Share
    short: Share
    tokens: float
    select: Part
    rank_count: Part
    exclude: Part
    review: Part
    nonsense: Share
    nothing_fits: Share
    told: Share
    rash: Share
    accepted: Share
    rejected: Share
    concepts: Mapping[str, ConceptFigures]

    @property
    def family_mean(self) -> float:
        """The mean of the families' shares."""
        return float(np.mean([share.value for share in self.families.values()]))

    def brief(self) -> dict[str, float]:
        """The figures to follow during training; those of nothing are left out."""
        figures = {
            "exact": self.exact.value,
            **{f"exact_{family}": share.value for family, share in self.families.items()},
            "short": self.short.value,
            "refused_nonsense": self.nonsense.value,
            "refused_nothing_fits": self.nothing_fits.value,
            "accept_right": self.accepted.value,
            "reject_right": self.rejected.value,
        }
        return {name: value for name, value in figures.items() if value == value}

    def as_json(self) -> dict[str, Any]:
        """All of it, in plain values; each share is written out beside its counts."""
        values = {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}
        return values | {"family_mean": self.family_mean}


def figures_of(
    answered: Sequence[Answered], judged: Sequence[Judged], vocabulary: Vocabulary
) -> Figures:
    """The figures of an examination."""
    plain = [one for one in answered if not one.second_look]
    families: dict[str, list[bool]] = defaultdict(list)
    for one in plain:
        families[one.instruction.family.value].append(one.exact)
    pairs = [(one.plan, one.instruction.plan) for one in answered if one.plan is not None]
    refusals = [one for one in plain if _refuses(one.instruction.plan)]
    nonsense = [one for one in refusals if one.instruction.plan.reason == NOTHING_ASKED]
    nothing_fits = [one for one in refusals if one.instruction.plan.reason != NOTHING_ASKED]
    refused = [one for one in refusals if _refuses(one.plan)]
    return Figures(
        exact=Share.counted([one.exact for one in plain]),
        families={name: Share.counted(families[name]) for name in sorted(families)},
        valid=Share.counted([one.plan is not None for one in answered]),
        short=Share.counted([one.tokens <= SHORT for one in answered]),
        tokens=float(np.mean([one.tokens for one in answered])) if answered else float("nan"),
        select=Part.compared(pairs, lambda plan: plan.select and plan.select.by),
        rank_count=Part.compared(pairs, _rank_count),
        exclude=Part.compared(pairs, lambda plan: frozenset(q.phrase for q in plan.exclude)),
        review=Part.compared(pairs, lambda plan: plan.review),
        nonsense=Share.counted([_refuses(one.plan) for one in nonsense]),
        nothing_fits=Share.counted([_refuses(one.plan) for one in nothing_fits]),
        told=Share.counted(
            [
                one.plan is not None and one.plan.reason == one.instruction.plan.reason
                for one in refused
            ]
        ),
        rash=Share.counted(
            [_refuses(one.plan) for one in plain if not _refuses(one.instruction.plan)]
        ),
        accepted=Share.counted([one.accepted is True for one in judged if one.accept]),
        rejected=Share.counted([one.accepted is False for one in judged if not one.accept]),
        concepts=_concepts(plain, vocabulary),
    )


def table(figures: Figures) -> str:
    """The figures as Markdown."""
    shares = {
        "exactly right": figures.exact,
        **{f"- {family}": share for family, share in figures.families.items()},
        "valid calls": figures.valid,
        f"at most {SHORT} tokens": figures.short,
        "nonsense refused": figures.nonsense,
        "refused where nothing fits": figures.nothing_fits,
        "refusals with the right reason": figures.told,
        "refused without need": figures.rash,
        "right candidates accepted": figures.accepted,
        "wrong candidates rejected": figures.rejected,
    }
    parts = {
        "select": figures.select,
        "rank, count": figures.rank_count,
        "exclude": figures.exclude,
        "review": figures.review,
    }
    lines = ["| share | | of |", "|---|---|---|"]
    lines += [
        f"| {name} | {_written(share.value)} | {share.of} |" for name, share in shares.items()
    ]
    lines += [
        "",
        f"Mean over families {_written(figures.family_mean)}; {figures.tokens:.1f} tokens an "
        "answer.",
        "",
        "| part of the plan | needed | missing | wrong | unneeded | plans |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {part.needed} | {part.missing} | {part.wrong} | {part.unneeded} | "
        f"{part.plans} |"
        for name, part in parts.items()
    ]
    lines += [
        "",
        "| concept | wanted in | exactly right | overlooked | uncalled for |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {name} | {one.exact.of} | {_written(one.exact.value)} | {one.overlooked} | "
        f"{one.uncalled} |"
        for name, one in figures.concepts.items()
        if one.exact.of or one.uncalled
    ]
    return "\n".join(lines) + "\n"


def _concepts(answered: Sequence[Answered], vocabulary: Vocabulary) -> dict[str, ConceptFigures]:
    concepts = {}
    for concept in vocabulary.concepts:
        wanted = [one for one in answered if concept.index in one.wanted_concepts]
        concepts[concept.name] = ConceptFigures(
            exact=Share.counted([one.exact for one in wanted]),
            overlooked=sum(concept.index not in one.found_concepts for one in wanted),
            uncalled=sum(
                concept.index in one.found_concepts - one.wanted_concepts for one in answered
            ),
        )
    return concepts


def _refuses(plan: Plan | None) -> bool:
    return plan is not None and plan.outcome is PlanOutcome.REFUSED


def _rank_count(plan: Plan) -> tuple[int, int] | None:
    """Rank and count, where they are not what they are by default."""
    if plan.select is None or (plan.select.rank, plan.select.count) == (1, 1):
        return None
    return plan.select.rank, plan.select.count


def _plain(value: Any) -> Any:
    match value:
        case Share():
            return {"share": value.value, "right": value.right, "of": value.of}
        case ConceptFigures() | Part():
            return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
        case Mapping():
            return {key: _plain(entry) for key, entry in value.items()}
        case _:
            return value


def _written(share: float) -> str:
    return f"{share:.3f}" if share == share else "-"
