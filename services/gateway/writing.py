"""From the pipeline's events to public responses: protobuf begins again here."""

from collections.abc import Iterable

from limelight.convert.answers import model_to_proto, outcome_to_proto, timings_to_proto
from limelight.convert.enums import IMAGE_FORMAT, RENDER_KIND, VERDICT
from limelight.convert.media import box_to_proto, mask_to_proto
from limelight.convert.plans import plan_to_proto
from limelight.v1 import limelight_pb2
from services.gateway.answers import (
    Answer,
    CandidatesEvent,
    MaskedInstance,
    PipelineEvent,
    PlanEvent,
    VerdictEvent,
)


def event_to_proto(event: PipelineEvent, request_id: str) -> limelight_pb2.SegmentStreamResponse:
    """One message of `SegmentStream`."""
    response = limelight_pb2.SegmentStreamResponse()
    match event:
        case PlanEvent():
            response.plan.request_id = request_id
            response.plan.plan.CopyFrom(plan_to_proto(event.plan))
        case CandidatesEvent():
            response.candidates.instances.extend(_instances(event.candidates))
            response.candidates.queries.extend(map(outcome_to_proto, event.queries))
        case VerdictEvent():
            response.verdict.id = event.verdict.id
            response.verdict.verdict = VERDICT.to_proto(event.verdict.kind)
            response.verdict.reason = event.verdict.reason
        case Answer():
            response.done.CopyFrom(answer_to_proto(event, request_id))
    return response


def answer_to_proto(answer: Answer, request_id: str) -> limelight_pb2.SegmentResult:
    """The whole answer."""
    return limelight_pb2.SegmentResult(
        request_id=request_id,
        width=answer.width,
        height=answer.height,
        plan=plan_to_proto(answer.plan),
        instances=_instances(answer.instances),
        queries=map(outcome_to_proto, answer.queries),
        summary=answer.summary,
        renderings=[
            limelight_pb2.Rendering(
                kind=RENDER_KIND.to_proto(picture.spec.kind),
                format=IMAGE_FORMAT.to_proto(picture.spec.format),
                content=picture.content,
            )
            for picture in answer.pictures
        ],
        timings=timings_to_proto(answer.timings_ms),
        models=map(model_to_proto, answer.models),
        warnings=answer.warnings,
    )


def _instances(instances: Iterable[MaskedInstance]) -> list[limelight_pb2.Instance]:
    messages = []
    for masked in instances:
        item = masked.instance
        provenance = limelight_pb2.Provenance(
            query=item.provenance.query,
            verdict=VERDICT.to_proto(item.provenance.verdict),
            verdict_reason=item.provenance.verdict_reason,
        )
        messages.append(
            limelight_pb2.Instance(
                id=item.id,
                label=item.label,
                phrase=item.phrase,
                score=item.score,
                presence=item.presence,
                box=box_to_proto(item.box),
                mask=None if masked.mask is None else mask_to_proto(masked.mask),
                area=item.area,
                provenance=provenance,
            )
        )
    return messages
