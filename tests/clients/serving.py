"""Planner and segmenter with the fake engines over plain gRPC, for a gateway that needs no Ray.

The services are the real ones; what a replica on Ray Serve translates is translated here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from limelight.convert.plans import queries_from_proto
from limelight.internal.v1 import (
    planner_pb2,
    planner_pb2_grpc,
    replica_pb2,
    replica_pb2_grpc,
    segmenter_pb2,
    segmenter_pb2_grpc,
)
from services.deadline import Deadline
from services.errors import ServiceError
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.service import PlannerService, open_planner
from services.planner.settings import PlannerSettings
from services.replica.metrics import RecordedMetrics
from services.rpc.convert.planner import candidate_from_proto, planned_to_proto, reviewed_to_proto
from services.rpc.convert.segmenter import segmented_to_proto
from services.rpc.status import code_of, rich_status, trailing_metadata
from services.segmenter.segmenting import Segmenter, open_segmenter
from services.segmenter.settings import SegmenterSettings


@asynccontextmanager
async def _told(context: grpc.aio.ServicerContext) -> AsyncIterator[Deadline]:
    """The deadline of a call, whose failure is told as a replica tells it."""
    try:
        yield Deadline.after(context.time_remaining())
    except ServiceError as error:
        status = rich_status(error, "replica")
        context.set_trailing_metadata(trailing_metadata(status))
        await context.abort(code_of(error), status.message)


class _Planner(planner_pb2_grpc.PlannerServiceServicer):
    def __init__(self, service: PlannerService) -> None:
        self._service = service

    async def MakePlan(  # noqa: N802
        self, request: planner_pb2.MakePlanRequest, context: grpc.aio.ServicerContext
    ) -> planner_pb2.MakePlanResponse:
        async with _told(context) as deadline:
            content, instruction = request.image.content, request.instruction
            return planned_to_proto(await self._service.plan(content, instruction, deadline))

    async def ReviewCandidates(  # noqa: N802
        self, request: planner_pb2.ReviewCandidatesRequest, context: grpc.aio.ServicerContext
    ) -> planner_pb2.ReviewCandidatesResponse:
        async with _told(context) as deadline:
            candidates = [candidate_from_proto(item) for item in request.candidates]
            return reviewed_to_proto(
                await self._service.review(
                    request.image.content, request.instruction, candidates, deadline
                )
            )


class _Segmenter(segmenter_pb2_grpc.SegmenterServiceServicer):
    def __init__(self, service: Segmenter) -> None:
        self._service = service

    async def SegmentConcepts(  # noqa: N802
        self, request: segmenter_pb2.SegmentConceptsRequest, context: grpc.aio.ServicerContext
    ) -> segmenter_pb2.SegmentConceptsResponse:
        async with _told(context) as deadline:
            segmented = await self._service.segment(
                request.image.content,
                queries_from_proto(request.queries),
                request.score_threshold,
                request.max_instances,
                deadline,
            )
            return segmented_to_proto(segmented)


class _Replica(replica_pb2_grpc.ReplicaServiceServicer):
    async def Check(  # noqa: N802
        self, request: replica_pb2.CheckRequest, context: grpc.aio.ServicerContext
    ) -> replica_pb2.CheckResponse:
        return replica_pb2.CheckResponse()


@asynccontextmanager
async def serving_engines() -> AsyncIterator[str]:
    """The address, on loopback, of a planner and a segmenter with the fake engines."""
    planner = open_planner(PlannerSettings(engine="fake"), RecordedPlannerMetrics())
    segmenter = open_segmenter(SegmenterSettings(engine="fake"), RecordedMetrics())
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    planner_pb2_grpc.add_PlannerServiceServicer_to_server(_Planner(planner), server)
    segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server(_Segmenter(segmenter), server)
    replica_pb2_grpc.add_ReplicaServiceServicer_to_server(_Replica(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
        await planner.close()
        await segmenter.close()
