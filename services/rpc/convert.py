"""Protobuf to domain and back: the only module that knows both.

`*_from_proto` raise `InvalidRequest` naming the field at fault, by the path the caller would write
(`queries[2].exemplars[0].box`); they check form (finite numbers, known enums), not policy.
"""

import math
from collections.abc import Iterable

from limelight.v1 import limelight_pb2, media_pb2, plan_pb2, planner_pb2, segmenter_pb2
from services.domain import (
    RLE,
    Box,
    Candidate,
    ConceptQuery,
    Detection,
    Exemplar,
    Instance,
    ModelInfo,
    Plan,
    Planned,
    PlanOutcome,
    QueryResult,
    Reviewed,
    SegmentedImage,
    SelectBy,
    Selection,
    Verdict,
    VerdictKind,
)
from services.errors import InvalidRequest, Reason

_SELECT_BY = {by: plan_pb2.SelectBy.Value(f"SELECT_BY_{by.name}") for by in SelectBy}
_SELECT_FROM = {number: by for by, number in _SELECT_BY.items()}
_OUTCOME = {kind: plan_pb2.PlanOutcome.Value(f"PLAN_OUTCOME_{kind.name}") for kind in PlanOutcome}
_OUTCOME_FROM = {number: kind for kind, number in _OUTCOME.items()}
_VERDICT = {
    VerdictKind.UNREVIEWED: limelight_pb2.VERDICT_UNSPECIFIED,
    VerdictKind.ACCEPTED: limelight_pb2.VERDICT_ACCEPTED,
    VerdictKind.REJECTED: limelight_pb2.VERDICT_REJECTED,
}
_VERDICT_FROM = {number: kind for kind, number in _VERDICT.items()}


def box_to_proto(box: Box) -> media_pb2.Box:
    return media_pb2.Box(x0=box.x0, y0=box.y0, x1=box.x1, y1=box.y1)


def box_from_proto(box: media_pb2.Box, field: str) -> Box:
    values = box.x0, box.y0, box.x1, box.y1
    if not all(math.isfinite(value) for value in values):
        raise InvalidRequest(Reason.BOX_INVALID, "a side is not a finite number", field=field)
    if box.x1 <= box.x0 or box.y1 <= box.y0:
        raise InvalidRequest(
            Reason.BOX_INVALID,
            "the box must have x1 > x0 and y1 > y0, not " + ",".join(f"{v:g}" for v in values),
            field=field,
        )
    return Box(*values)


def rle_to_proto(rle: RLE) -> media_pb2.RunLengths:
    return media_pb2.RunLengths(height=rle.size[0], width=rle.size[1], counts=rle.counts)


def rle_from_proto(rle: media_pb2.RunLengths) -> RLE:
    return RLE((rle.height, rle.width), rle.counts)


def query_to_proto(query: ConceptQuery) -> plan_pb2.ConceptQuery:
    exemplars = [
        plan_pb2.Exemplar(box=box_to_proto(item.box), negative=not item.positive)
        for item in query.exemplars
    ]
    return plan_pb2.ConceptQuery(phrase=query.phrase, exemplars=exemplars)


def query_from_proto(query: plan_pb2.ConceptQuery, field: str) -> ConceptQuery:
    exemplars = tuple(
        Exemplar(box_from_proto(item.box, f"{field}.exemplars[{i}].box"), not item.negative)
        for i, item in enumerate(query.exemplars)
    )
    return ConceptQuery(query.phrase, exemplars)


def queries_from_proto(
    queries: Iterable[plan_pb2.ConceptQuery], field: str
) -> tuple[ConceptQuery, ...]:
    return tuple(query_from_proto(query, f"{field}[{i}]") for i, query in enumerate(queries))


def selection_to_proto(selection: Selection) -> plan_pb2.Selection:
    return plan_pb2.Selection(
        by=_SELECT_BY[selection.by], rank=selection.rank, count=selection.count
    )


def selection_from_proto(selection: plan_pb2.Selection, field: str) -> Selection:
    if selection.by not in _SELECT_FROM:
        raise InvalidRequest(
            Reason.OPTION_INVALID, f"unknown order {selection.by}", field=f"{field}.by"
        )
    for name in ("rank", "count"):
        if getattr(selection, name) < 0:
            raise InvalidRequest(
                Reason.OPTION_INVALID, f"{name} must be 1 or more", field=f"{field}.{name}"
            )
    return Selection(_SELECT_FROM[selection.by], selection.rank or 1, selection.count or 1)


def plan_to_proto(plan: Plan) -> plan_pb2.Plan:
    return plan_pb2.Plan(
        include=[query_to_proto(query) for query in plan.include],
        exclude=[query_to_proto(query) for query in plan.exclude],
        select=None if plan.select is None else selection_to_proto(plan.select),
        review=plan.review,
        reason=plan.reason,
        outcome=_OUTCOME[plan.outcome],
        degraded=plan.degraded,
    )


def plan_from_proto(plan: plan_pb2.Plan) -> Plan:
    return Plan(
        include=queries_from_proto(plan.include, "plan.include"),
        exclude=queries_from_proto(plan.exclude, "plan.exclude"),
        select=(
            selection_from_proto(plan.select, "plan.select") if plan.HasField("select") else None
        ),
        review=plan.review,
        reason=plan.reason,
        outcome=_OUTCOME_FROM.get(plan.outcome, PlanOutcome.OK),
    )


def model_to_proto(model: ModelInfo) -> limelight_pb2.Model:
    return limelight_pb2.Model(
        role=model.role, name=model.name, revision=model.revision, engine=model.engine
    )


def model_from_proto(model: limelight_pb2.Model) -> ModelInfo:
    return ModelInfo(model.role, model.name, model.revision, model.engine)


def timings_to_proto(timings_ms: dict[str, float]) -> list[limelight_pb2.StageTiming]:
    return [
        limelight_pb2.StageTiming(stage=stage, milliseconds=value)
        for stage, value in timings_ms.items()
    ]


def timings_from_proto(timings: Iterable[limelight_pb2.StageTiming]) -> dict[str, float]:
    return {timing.stage: timing.milliseconds for timing in timings}


def planned_to_proto(planned: Planned) -> planner_pb2.MakePlanResponse:
    return planner_pb2.MakePlanResponse(
        plan=plan_to_proto(planned.plan),
        model=model_to_proto(planned.model),
        cached=planned.cached,
        attempts=planned.attempts,
        timings=timings_to_proto(planned.timings_ms),
    )


def planned_from_proto(response: planner_pb2.MakePlanResponse) -> Planned:
    return Planned(
        plan=plan_from_proto(response.plan),
        model=model_from_proto(response.model),
        cached=response.cached,
        attempts=response.attempts,
        timings_ms=timings_from_proto(response.timings),
    )


def candidate_to_proto(candidate: Candidate) -> planner_pb2.Candidate:
    return planner_pb2.Candidate(
        id=candidate.id, phrase=candidate.phrase, mask=rle_to_proto(candidate.mask)
    )


def candidate_from_proto(candidate: planner_pb2.Candidate) -> Candidate:
    return Candidate(candidate.id, candidate.phrase, rle_from_proto(candidate.mask))


def verdict_to_enum(kind: VerdictKind) -> "limelight_pb2.Verdict.ValueType":
    return _VERDICT[kind]


def verdict_from_enum(number: "limelight_pb2.Verdict.ValueType") -> VerdictKind:
    return _VERDICT_FROM.get(number, VerdictKind.UNREVIEWED)


def reviewed_to_proto(reviewed: Reviewed) -> planner_pb2.ReviewCandidatesResponse:
    return planner_pb2.ReviewCandidatesResponse(
        verdicts=[
            planner_pb2.CandidateVerdict(
                id=verdict.id, verdict=_VERDICT[verdict.kind], reason=verdict.reason
            )
            for verdict in reviewed.verdicts
        ],
        model=model_to_proto(reviewed.model),
        timings=timings_to_proto(reviewed.timings_ms),
    )


def reviewed_from_proto(response: planner_pb2.ReviewCandidatesResponse) -> Reviewed:
    return Reviewed(
        verdicts=tuple(
            Verdict(verdict.id, verdict_from_enum(verdict.verdict), verdict.reason)
            for verdict in response.verdicts
        ),
        model=model_from_proto(response.model),
        timings_ms=timings_from_proto(response.timings),
    )


def segmented_to_proto(image: SegmentedImage) -> segmenter_pb2.SegmentConceptsResponse:
    return segmenter_pb2.SegmentConceptsResponse(
        width=image.width,
        height=image.height,
        results=[
            segmenter_pb2.ConceptResult(
                presence=result.presence,
                detections=[
                    segmenter_pb2.Detection(
                        score=detection.score,
                        box=box_to_proto(detection.box),
                        mask=rle_to_proto(detection.mask),
                        area=detection.area,
                    )
                    for detection in result.detections
                ],
            )
            for result in image.results
        ],
        model=model_to_proto(image.model),
        timings=timings_to_proto(image.timings_ms),
    )


def segmented_from_proto(response: segmenter_pb2.SegmentConceptsResponse) -> SegmentedImage:
    return SegmentedImage(
        width=response.width,
        height=response.height,
        results=tuple(
            QueryResult(
                presence=result.presence,
                detections=tuple(
                    Detection(
                        score=detection.score,
                        box=Box(
                            detection.box.x0, detection.box.y0, detection.box.x1, detection.box.y1
                        ),
                        mask=rle_from_proto(detection.mask),
                        area=detection.area,
                    )
                    for detection in result.detections
                ),
            )
            for result in response.results
        ),
        model=model_from_proto(response.model),
        timings_ms=timings_from_proto(response.timings),
    )


def instance_to_proto(instance: Instance, mask: media_pb2.Mask | None) -> limelight_pb2.Instance:
    """`mask` is the instance's mask in the format the caller asked for; None leaves it out."""
    return limelight_pb2.Instance(
        id=instance.id,
        label=instance.label,
        phrase=instance.phrase,
        score=instance.score,
        presence=instance.presence,
        box=box_to_proto(instance.box),
        mask=mask,
        area=instance.area,
        provenance=limelight_pb2.Provenance(
            query=instance.provenance.query,
            verdict=_VERDICT[instance.provenance.verdict],
            verdict_reason=instance.provenance.verdict_reason,
        ),
    )
