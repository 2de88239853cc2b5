"""What plans make use of, beside the canonical plans: `select`, `rank`, `exclude`, `review`.

Another plan than the canonical one may be right, too; `InstructionFigures.plan_right` says whether
it is. This says whether a planner uses a part of the plan language when, and only when, it needs
to.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.domain import Plan
from services.stickers.evaluation.detections import share_of
from services.stickers.evaluation.marking import InstructionMark

_PARTS: Mapping[str, Callable[[Plan], bool]] = {
    "select": lambda plan: plan.select is not None,
    "rank": lambda plan: plan.select is not None and plan.select.rank > 1,
    "count": lambda plan: plan.select is not None and plan.select.count > 1,
    "exclude": lambda plan: bool(plan.exclude),
    "review": lambda plan: plan.review,
}


@dataclass(frozen=True)
class PlanPart:
    """One part of the plan language.

    Attributes:
        part: "select", "rank" (other than the first), "count" (more than one), "exclude", "review".
        plans: plans that came back.
        needed: canonical plans with it.
        missing: share of the plans that lack it, where the canonical one has it.
        needless: share of the plans that have it, where the canonical one does not.
    """

    part: str
    plans: int
    needed: int
    missing: float
    needless: float


def plan_parts(marks: Sequence[InstructionMark]) -> tuple[PlanPart, ...]:
    """Each part's use; instructions without a plan, whose calls failed, are left out."""
    pairs = [(m.plan, m.question.instruction.plan) for m in marks if m.plan is not None]
    return tuple(_part(name, has, pairs) for name, has in _PARTS.items())


def _part(name: str, has: Callable[[Plan], bool], pairs: Sequence[tuple[Plan, Plan]]) -> PlanPart:
    needing = [has(made) for made, canonical in pairs if has(canonical)]
    others = [has(made) for made, canonical in pairs if not has(canonical)]
    return PlanPart(
        part=name,
        plans=len(pairs),
        needed=len(needing),
        missing=share_of(needing.count(False), len(needing)),
        needless=share_of(others.count(True), len(others)),
    )
