"""The public servicer: protobuf in, tasks out; events in, protobuf out. No policy lives here."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import grpc

from limelight.v1 import limelight_pb2, limelight_pb2_grpc, media_pb2
from services.codecs.masks import decode_rle, to_png, to_polygons
from services.domain import Instance
from services.errors import Internal
from services.gateway.admission import Admission
from services.gateway.answers import (
    Answer,
    CandidatesFound,
    Event,
    PlanMade,
    QueryOutcome,
    VerdictGiven,
)
from services.gateway.pipeline import Pipeline
from services.gateway.tasks import MaskFormat, Task, TaskReader
from services.rpc.calls import current_call
from services.rpc.convert import (
    instance_to_proto,
    model_to_proto,
    plan_to_proto,
    rle_to_proto,
    timings_to_proto,
    verdict_to_enum,
)

if TYPE_CHECKING:  # generic in the stubs, not at run time
    Context = grpc.aio.ServicerContext[Any, Any]

_FORMATS = {
    "png": limelight_pb2.IMAGE_FORMAT_PNG,
    "jpeg": limelight_pb2.IMAGE_FORMAT_JPEG,
    "webp": limelight_pb2.IMAGE_FORMAT_WEBP,
}


class LimelightServicer(limelight_pb2_grpc.LimelightServiceServicer):
    """`Segment` and `SegmentStream`."""

    def __init__(
        self, reader: TaskReader, admission: Admission, pipeline: Pipeline, executor: Executor
    ) -> None:
        self._reader = reader
        self._admission = admission
        self._pipeline = pipeline
        self._executor = executor

    async def Segment(  # noqa: N802
        self, request: limelight_pb2.SegmentRequest, context: "Context"
    ) -> limelight_pb2.SegmentResponse:
        task = self._reader.read(request.task)
        answer: Answer | None = None
        async for event in self._events(task):  # to its end, which is what frees the call's place
            if isinstance(event, Answer):
                answer = event
        if answer is None:
            raise Internal()
        return limelight_pb2.SegmentResponse(result=await self._result(answer, task))

    async def SegmentStream(  # noqa: N802
        self, request: limelight_pb2.SegmentStreamRequest, context: "Context"
    ) -> AsyncIterator[limelight_pb2.SegmentStreamResponse]:
        task = self._reader.read(request.task)
        async for event in self._events(task):
            yield await self._event(event, task)

    async def _events(self, task: Task) -> AsyncIterator[Event]:
        call = current_call()
        kind = "explicit" if task.instruction is None else "planned"
        with self._admission.admit(kind, task.size_bytes, call.deadline):
            async for event in self._pipeline.run(task, call):
                yield event

    async def _event(self, event: Event, task: Task) -> limelight_pb2.SegmentStreamResponse:
        response = limelight_pb2.SegmentStreamResponse()
        match event:
            case PlanMade():
                response.plan.request_id = current_call().request_id
                response.plan.plan.CopyFrom(plan_to_proto(event.plan))
            case CandidatesFound():
                instances = await self._instances(event.candidates, task.mask_format)
                response.candidates.instances.extend(instances)
                response.candidates.queries.extend(map(_outcome, event.queries))
            case VerdictGiven():
                response.verdict.id = event.verdict.id
                response.verdict.verdict = verdict_to_enum(event.verdict.kind)
                response.verdict.reason = event.verdict.reason
            case Answer():
                response.done.CopyFrom(await self._result(event, task))
        return response

    async def _result(self, answer: Answer, task: Task) -> limelight_pb2.SegmentResult:
        return limelight_pb2.SegmentResult(
            request_id=current_call().request_id,
            width=answer.width,
            height=answer.height,
            plan=plan_to_proto(answer.plan),
            instances=await self._instances(answer.instances, task.mask_format),
            queries=map(_outcome, answer.queries),
            summary=answer.summary,
            renderings=[
                limelight_pb2.Rendering(
                    kind=limelight_pb2.RenderKind.Value(f"RENDER_KIND_{item.spec.kind.name}"),
                    format=_FORMATS[item.spec.format],
                    content=item.content,
                )
                for item in answer.renderings
            ],
            timings=timings_to_proto(answer.timings_ms),
            models=map(model_to_proto, answer.models),
        )

    async def _instances(
        self, instances: Sequence[Instance], mask_format: MaskFormat
    ) -> list[limelight_pb2.Instance]:
        if mask_format in (MaskFormat.RLE, MaskFormat.NONE):
            return [instance_to_proto(item, _mask(item, mask_format)) for item in instances]
        # Drawing masks takes a while: off the event loop.
        loop = asyncio.get_running_loop()
        masks = [
            await loop.run_in_executor(self._executor, _mask, item, mask_format)
            for item in instances
        ]
        return [instance_to_proto(item, mask) for item, mask in zip(instances, masks, strict=True)]


def _mask(instance: Instance, mask_format: MaskFormat) -> media_pb2.Mask | None:
    match mask_format:
        case MaskFormat.RLE:
            return media_pb2.Mask(rle=rle_to_proto(instance.mask))
        case MaskFormat.PNG:
            return media_pb2.Mask(png=to_png(decode_rle(instance.mask)))
        case MaskFormat.POLYGONS:
            polygons = [
                media_pb2.Polygon(coordinates=[value for point in polygon for value in point])
                for polygon in to_polygons(decode_rle(instance.mask))
            ]
            return media_pb2.Mask(polygons=media_pb2.Polygons(polygons=polygons))
        case MaskFormat.NONE:
            return None


def _outcome(query: QueryOutcome) -> limelight_pb2.QueryOutcome:
    return limelight_pb2.QueryOutcome(
        phrase=query.phrase, presence=query.presence, found=query.found
    )
