"""The public servicer, in the order of the edge: admit -> read -> take turns -> run -> write.

The interceptor has authenticated the caller before. Nothing of a request is looked into before it
is admitted, but for the sizes that its cost is estimated by.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc

from limelight.v1 import limelight_pb2, limelight_pb2_grpc, video_pb2
from services.errors import Internal, NotDeployed, Reason
from services.gateway.admission import Admission
from services.gateway.answers import Answer, PipelineEvent
from services.gateway.arrivals import Arrivals
from services.gateway.pipeline import Pipeline
from services.gateway.reading import estimated_cost, known_cost, read_task
from services.gateway.rules import TaskRules
from services.gateway.video.calls import TrackCalls
from services.gateway.writing import answer_to_proto, event_to_proto
from services.rpc.calls import current_call
from services.rpc.tracing import TRACING
from services.stages import StageTimer

if TYPE_CHECKING:  # generic in the stubs, not at run time
    Context = grpc.aio.ServicerContext[Any, Any]


class LimelightServicer(limelight_pb2_grpc.LimelightServiceServicer):
    """`Segment`, `SegmentStream` and `TrackVideo`."""

    def __init__(
        self,
        rules: TaskRules,
        admission: Admission,
        arrivals: Arrivals,
        pipeline: Pipeline,
        tracking: TrackCalls | None,
        observe_stage: Callable[[str, float], None],
    ) -> None:
        self._rules = rules
        self._admission = admission
        self._arrivals = arrivals
        self._pipeline = pipeline
        self._tracking = tracking
        self._observe_stage = observe_stage

    async def Segment(  # noqa: N802
        self, request: limelight_pb2.SegmentRequest, context: "Context"
    ) -> limelight_pb2.SegmentResponse:
        answer: Answer | None = None
        # To its end, which is what frees the call's place.
        async for event in self._events(request.task, steps=False):
            if isinstance(event, Answer):
                answer = event
        if answer is None:
            raise Internal()
        result = answer_to_proto(answer, current_call().request_id)
        return limelight_pb2.SegmentResponse(result=result)

    async def SegmentStream(  # noqa: N802
        self, request: limelight_pb2.SegmentStreamRequest, context: "Context"
    ) -> AsyncIterator[limelight_pb2.SegmentStreamResponse]:
        async for event in self._events(request.task, steps=True):
            yield event_to_proto(event, current_call().request_id)

    async def TrackVideo(  # noqa: N802
        self, request_iterator: AsyncIterator[video_pb2.TrackVideoRequest], context: "Context"
    ) -> AsyncIterator[video_pb2.TrackVideoResponse]:
        if self._tracking is None:
            raise NotDeployed(
                Reason.TRACKER_ABSENT, "this deployment runs no tracker, so it takes no videos"
            )
        answers = self._tracking.answer(request_iterator, current_call())
        async with aclosing(answers):  # type: ignore[type-var]
            async for response in answers:
                yield response

    async def _events(
        self, message: limelight_pb2.SegmentTask, *, steps: bool
    ) -> AsyncIterator[PipelineEvent]:
        call = current_call()
        cost = estimated_cost(message)
        with (
            self._admission.admit(call.caller, cost, call.deadline, call.priority),
            StageTimer(self._observe_stage, trace=TRACING.stage) as timer,
        ):
            await self._arrivals.lull()
            with timer.stage("read"):
                task = await read_task(message, self._rules)
            cost = known_cost(task)
            async with self._admission.turn(call.caller, cost, call.deadline, call.priority):
                async for event in self._pipeline.run(task, call, timer, steps=steps):
                    yield event
