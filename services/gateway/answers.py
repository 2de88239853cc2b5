"""An answer, and the events that lead to it, as the pipeline yields them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from services.domain import Instance, ModelInfo, Plan, PlanOutcome, Verdict
from services.gateway.tasks import RenderSpec


@dataclass(frozen=True, slots=True)
class QueryOutcome:
    """What became of one query: its phrase, its presence, how many instances it gave."""

    phrase: str
    presence: float
    found: int


@dataclass(frozen=True, slots=True)
class Rendering:
    """A picture that was asked for, encoded."""

    spec: RenderSpec
    content: bytes


@dataclass(frozen=True, slots=True)
class PlanMade:
    """The plan is known."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class CandidatesFound:
    """The segmenter has answered; nothing is excluded, selected or reviewed yet."""

    candidates: tuple[Instance, ...]
    queries: tuple[QueryOutcome, ...]


@dataclass(frozen=True, slots=True)
class VerdictGiven:
    """The planner has looked at one candidate."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer for one image."""

    width: int
    height: int
    plan: Plan
    instances: tuple[Instance, ...]
    queries: tuple[QueryOutcome, ...]
    summary: str
    renderings: tuple[Rendering, ...]
    timings_ms: dict[str, float]
    models: tuple[ModelInfo, ...]


Event = PlanMade | CandidatesFound | VerdictGiven | Answer


def summarize(plan: Plan, instances: Sequence[Instance], queries: Sequence[QueryOutcome]) -> str:
    """One sentence for a person; says plainly when nothing was found, and why."""
    if plan.outcome is PlanOutcome.REFUSED:
        return "Nothing to look for" + (f": {plan.reason}" if plan.reason else ".")
    if instances:
        counts = Counter(item.label for item in instances)
        parts = ", ".join(f"{count} x {label}" for label, count in counts.items())
        text = f"Found {len(instances)}: {parts}."
    else:
        wanted = queries[: len(plan.include)]
        names = ", ".join(f'"{query.phrase or "exemplar"}"' for query in wanted)
        if any(query.found for query in wanted):
            text = f"Nothing is left of {names} after exclusion, review and selection."
        else:
            text = f"Nothing was found for {names}."
    if plan.degraded:
        text += " The planner gave no valid plan; the instruction was taken as one phrase."
    return text
