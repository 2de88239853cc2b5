"""What the services say to each other beside the values of `limelight.values`.

Frozen dataclasses; protobuf stops at the edges (`services.rpc.convert`) and tensors stop at the
engines. Coordinates are those of `limelight.values`.
"""

from dataclasses import dataclass, field

from limelight.values import RLE, Box, ModelInfo, Plan, Verdict, VerdictKind


@dataclass(frozen=True, slots=True)
class Detection:
    """One instance the segmenter found for one query: `box` is the tight box of `mask`."""

    score: float
    box: Box
    mask: RLE
    area: int


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The segmenter's answer to one query; `presence`: how probably the concept is there at all."""

    presence: float
    detections: tuple[Detection, ...]


@dataclass(frozen=True, slots=True)
class SegmentedImage:
    """The segmenter's answer for one image: one result a query, in the order asked."""

    width: int
    height: int
    results: tuple[QueryResult, ...]
    model: ModelInfo
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing put before the planner for review."""

    id: int
    phrase: str
    mask: RLE


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an instance came from: the index of its query in `Plan.queries`, its review."""

    query: int
    verdict: VerdictKind = VerdictKind.UNREVIEWED
    verdict_reason: str = ""


@dataclass(frozen=True, slots=True)
class SegmentedInstance:
    """One answered thing. `id` counts from 1 within an answer; `score` already holds presence."""

    id: int
    label: str
    phrase: str
    score: float
    presence: float
    box: Box
    mask: RLE
    area: int
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Planned:
    """The planner's answer: the plan, who made it, and what it took."""

    plan: Plan
    model: ModelInfo
    cached: bool = False
    attempts: int = 1
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reviewed:
    """The planner's review: one verdict a candidate, in the order asked."""

    verdicts: tuple[Verdict, ...]
    model: ModelInfo
    timings_ms: dict[str, float] = field(default_factory=dict)
