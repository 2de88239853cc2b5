"""What an evaluation comes to: shares by family, by concept, and by each part of a plan.

Flow: `PlanAnswer`, `ReviewAnswer` -> `PlannerFigures` -> `table` for people, `as_json` for
programs. Whether an answer is right is decided by what its plan finds; how the plan says it is
compared with the canonical plan of `training.world.instructions`, part by part.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from limelight.values import Plan, PlanOutcome
from training.planner.evaluator import PlanAnswer, ReviewAnswer
from training.world.instructions import NOTHING_ASKED
from training.world.vocabulary import Vocabulary

SHORT = 64  # tokens that a plan should need at most

# Shares by name, and what a table calls them.
_SHARES = {
    "valid": "valid calls",
    "short": f"at most {SHORT} tokens",
    "nonsense": "nonsense refused",
    "nothing_fits": "refused where nothing fits",
    "told": "refusals with the right reason",
    "rash": "refused without need",
    "accepted": "right candidates accepted",
    "rejected": "wrong candidates rejected",
}


@dataclass(frozen=True)
class PlanPartCounts:
    """How one part of the plans compares with the canonical ones.

    Attributes:
        needed: plans that should have it.
        missing, wrong: of those, how many lack it, and how many have another.
        unneeded: plans that have it and should not.
        plans: all plans compared.
    """

    needed: int
    missing: int
    wrong: int
    unneeded: int
    plans: int


@dataclass(frozen=True)
class Share:
    """How many of how many."""

    right: int
    of: int

    @property
    def value(self) -> float:
        """Between 0 and 1; nan of nothing."""
        return self.right / self.of if self.of else float("nan")


@dataclass(frozen=True)
class PlannedConcept:
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
class PlannerFigures:
    """Everything that is reported of a planner.

    Attributes:
        exact: answers that are exactly right, over all.
        families: the same by family.
        tokens: of an answer, on average.
        shares: "valid" calls; "short" answers; refusals that should be, and are ("nonsense",
            "nothing_fits"); of those the share with the right reason ("told"); refusals that should
            not be ("rash"); candidates that should be "accepted" or "rejected", and are.
        parts: of plans: "select", "rank_count", "exclude", "review".
        concepts: by name.
    """

    exact: Share
    families: Mapping[str, Share]
    tokens: float
    shares: Mapping[str, Share]
    parts: Mapping[str, PlanPartCounts]
    concepts: Mapping[str, PlannedConcept]

    @property
    def family_mean(self) -> float:
        """The mean of the families' shares."""
        return float(np.mean([share.value for share in self.families.values()]))

    def brief(self) -> dict[str, float]:
        """The figures to follow during training; those of nothing are left out."""
        shares = {
            "exact": self.exact,
            **{f"exact_{family}": share for family, share in self.families.items()},
            "short": self.shares["short"],
            "refused_nonsense": self.shares["nonsense"],
            "refused_nothing_fits": self.shares["nothing_fits"],
            "accept_right": self.shares["accepted"],
            "reject_right": self.shares["rejected"],
        }
        return {name: share.value for name, share in shares.items() if share.of}

    def as_json(self) -> dict[str, Any]:
        """All of it in plain values; each share is written out beside its counts."""
        return {
            "exact": _plain(self.exact),
            "families": {name: _plain(share) for name, share in self.families.items()},
            "family_mean": self.family_mean,
            "tokens": self.tokens,
            **{name: _plain(share) for name, share in self.shares.items()},
            **{name: asdict(part) for name, part in self.parts.items()},
            "concepts": {
                name: asdict(one) | {"exact": _plain(one.exact)}
                for name, one in self.concepts.items()
            },
        }


def figures_of(
    answers: Sequence[PlanAnswer], reviews: Sequence[ReviewAnswer], vocabulary: Vocabulary
) -> PlannerFigures:
    """The figures of an evaluation."""
    plain = [one for one in answers if not one.second_look]
    families: dict[str, list[bool]] = defaultdict(list)
    for one in plain:
        families[one.instruction.family.value].append(one.exact)
    refusals = [one for one in plain if _refuses(one.instruction.plan)]
    nonsense = [one for one in refusals if one.instruction.plan.reason == NOTHING_ASKED]
    unfitting = [one for one in refusals if one.instruction.plan.reason != NOTHING_ASKED]
    refused = [one for one in refusals if _refuses(one.plan)]
    sensible = [one for one in plain if not _refuses(one.instruction.plan)]
    pairs = [(one.plan, one.instruction.plan) for one in answers if one.plan is not None]
    return PlannerFigures(
        exact=_share(one.exact for one in plain),
        families={name: _share(families[name]) for name in sorted(families)},
        tokens=float(np.mean([one.tokens for one in answers])) if answers else float("nan"),
        shares={
            "valid": _share(one.plan is not None for one in answers),
            "short": _share(one.tokens <= SHORT for one in answers),
            "nonsense": _share(_refuses(one.plan) for one in nonsense),
            "nothing_fits": _share(_refuses(one.plan) for one in unfitting),
            "told": _share(
                one.plan is not None and one.plan.reason == one.instruction.plan.reason
                for one in refused
            ),
            "rash": _share(_refuses(one.plan) for one in sensible),
            "accepted": _share(one.accepted is True for one in reviews if one.accept),
            "rejected": _share(one.accepted is False for one in reviews if not one.accept),
        },
        parts={
            "select": _compared(pairs, lambda plan: plan.select and plan.select.by),
            "rank_count": _compared(pairs, _rank_count),
            "exclude": _compared(pairs, lambda plan: frozenset(q.phrase for q in plan.exclude)),
            "review": _compared(pairs, lambda plan: plan.review),
        },
        concepts={concept.name: _concept(plain, concept.index) for concept in vocabulary.concepts},
    )


def table(figures: PlannerFigures) -> str:
    """The figures as Markdown."""
    shares = {
        "exactly right": figures.exact,
        **{f"- {family}": share for family, share in figures.families.items()},
        **{title: figures.shares[name] for name, title in _SHARES.items()},
    }
    parts = {name.replace("_", ", "): part for name, part in figures.parts.items()}
    return "\n".join(
        [
            *_rows(
                "share | | of",
                ([name, _written(one.value), one.of] for name, one in shares.items()),
            ),
            f"Mean over families {_written(figures.family_mean)}; {figures.tokens:.1f} tokens an "
            "answer.\n",
            *_rows(
                "part of the plan | needed | missing | wrong | unneeded | plans",
                ([name, *asdict(part).values()] for name, part in parts.items()),
            ),
            *_rows(
                "concept | wanted in | exactly right | overlooked | uncalled for",
                (
                    [name, one.exact.of, _written(one.exact.value), one.overlooked, one.uncalled]
                    for name, one in figures.concepts.items()
                    if one.exact.of or one.uncalled
                ),
            ),
        ]
    )


def _rows(header: str, rows: Any) -> list[str]:
    lines = [f"| {header} |", "|" + "---|" * (header.count("|") + 1)]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows), ""]


def _share(marks: Any) -> Share:
    counted = list(marks)
    return Share(sum(counted), len(counted))


def _compared(pairs: Sequence[tuple[Plan, Plan]], part: Callable[[Plan], object]) -> PlanPartCounts:
    """Pairs of a plan and its canonical one; `part` gives something false where it is not used."""
    parts = [(part(plan), part(canonical)) for plan, canonical in pairs]
    return PlanPartCounts(
        needed=sum(bool(right) for _, right in parts),
        missing=sum(bool(right) and not own for own, right in parts),
        wrong=sum(bool(own) and bool(right) and own != right for own, right in parts),
        unneeded=sum(bool(own) and not right for own, right in parts),
        plans=len(parts),
    )


def _concept(answers: Sequence[PlanAnswer], concept: int) -> PlannedConcept:
    wanted = [one for one in answers if concept in one.wanted_concepts]
    return PlannedConcept(
        exact=_share(one.exact for one in wanted),
        overlooked=sum(concept not in one.found_concepts for one in wanted),
        uncalled=sum(concept in one.found_concepts - one.wanted_concepts for one in answers),
    )


def _refuses(plan: Plan | None) -> bool:
    return plan is not None and plan.outcome is PlanOutcome.REFUSED


def _rank_count(plan: Plan) -> tuple[int, int] | None:
    """Rank and count, where they are not what they are by default."""
    if plan.select is None or (plan.select.rank, plan.select.count) == (1, 1):
        return None
    return plan.select.rank, plan.select.count


def _plain(share: Share) -> dict[str, float]:
    return {"share": share.value, "right": share.right, "of": share.of}


def _written(share: float) -> str:
    return f"{share:.3f}" if share == share else "-"
