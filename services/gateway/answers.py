"""An answer, and the events that lead to it, as the pipeline yields them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from limelight.masks import Polygon
from limelight.values import RLE, ModelInfo, Plan, PlanOutcome, QueryOutcome, Verdict
from services.domain import SegmentedInstance
from services.gateway.tasks import RenderSpec

WrittenMask: TypeAlias = RLE | bytes | list[Polygon]


@dataclass(frozen=True, slots=True)
class MaskedInstance:
    """An instance and its mask as the caller asked for it: run lengths, a PNG's bytes, polygons, or
    None where no masks were asked for.
    """

    instance: SegmentedInstance
    mask: WrittenMask | None


@dataclass(frozen=True, slots=True)
class RenderedPicture:
    """A picture that was asked for, encoded."""

    spec: RenderSpec
    content: bytes


@dataclass(frozen=True, slots=True)
class PlanEvent:
    """The plan is known."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class CandidatesEvent:
    """The segmenter has answered; nothing is excluded, selected or reviewed yet."""

    candidates: tuple[MaskedInstance, ...]
    queries: tuple[QueryOutcome, ...]


@dataclass(frozen=True, slots=True)
class VerdictEvent:
    """The planner has looked at one candidate."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer for one image."""

    width: int
    height: int
    plan: Plan
    instances: tuple[MaskedInstance, ...]
    queries: tuple[QueryOutcome, ...]
    summary: str
    pictures: tuple[RenderedPicture, ...]
    timings_ms: dict[str, float]
    models: tuple[ModelInfo, ...]
    warnings: tuple[str, ...] = ()


PipelineEvent: TypeAlias = PlanEvent | CandidatesEvent | VerdictEvent | Answer


def summarize(
    plan: Plan, instances: Sequence[SegmentedInstance], queries: Sequence[QueryOutcome]
) -> str:
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
    if plan.outcome is PlanOutcome.DEGRADED:
        text += " The planner gave no valid plan; the instruction was taken as one phrase."
    return text
