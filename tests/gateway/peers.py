"""A planner and a segmenter that answer what a test tells them to, over real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np

from limelight.convert.plans import queries_from_proto
from limelight.internal.v1 import (
    planner_pb2,
    planner_pb2_grpc,
    replica_pb2,
    replica_pb2_grpc,
    segmenter_pb2,
    segmenter_pb2_grpc,
)
from limelight.masks import encode_rle, rle_bbox
from limelight.values import ModelInfo, Plan, Verdict, VerdictKind
from services.domain import Detection, Planned, QueryResult, Reviewed, SegmentedImage
from services.errors import ServiceError
from services.rpc.convert.planner import candidate_from_proto, planned_to_proto, reviewed_to_proto
from services.rpc.convert.segmenter import segmented_to_proto
from services.rpc.status import code_of, rich_status, trailing_metadata

PLANNER = ModelInfo("planner", "scripted", "1", "test")
SEGMENTER = ModelInfo("segmenter", "scripted", "1", "test")

WIDTH, HEIGHT = 120, 80


def detection(x0: int, y0: int, x1: int, y1: int, score: float = 0.9) -> Detection:
    """A filled rectangle of a 120 x 80 image."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[y0:y1, x0:x1] = True
    rle = encode_rle(mask)
    return Detection(score, rle_bbox(rle), rle, int(mask.sum()))


@dataclass
class Peers:
    """The script: what is answered, what is raised, and what was asked.

    `plans` are answered one after the other, and then always `plan`.
    """

    plan: Plan = field(default_factory=Plan)
    plans: list[Plan] = field(default_factory=list)
    things: dict[str, list[Detection]] = field(default_factory=dict)
    verdict: Callable[[str], VerdictKind] = lambda phrase: VerdictKind.ACCEPTED
    failures: dict[str, list[ServiceError | grpc.StatusCode]] = field(default_factory=dict)
    hold: asyncio.Event | None = None
    alive: bool = True
    asked: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    cancelled: int = 0
    metadata: list[dict[str, str]] = field(default_factory=list)
    address: str = ""

    async def enter(self, name: str, context: grpc.aio.ServicerContext) -> None:
        self.asked.append(name)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.failures.get(name):
            failure = self.failures[name].pop(0)
            if isinstance(failure, grpc.StatusCode):
                await context.abort(failure, "Traceback: secret")
            status = rich_status(failure, "peer")
            context.set_trailing_metadata(trailing_metadata(status))
            await context.abort(code_of(failure), status.message)
        if self.hold is not None:
            try:
                await self.hold.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise


class _Planner(planner_pb2_grpc.PlannerServiceServicer):
    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def MakePlan(  # noqa: N802
        self, request: planner_pb2.MakePlanRequest, context: grpc.aio.ServicerContext
    ) -> planner_pb2.MakePlanResponse:
        self._peers.images.append(request.image.content)
        await self._peers.enter("plan", context)
        plans = self._peers.plans
        return planned_to_proto(Planned(plans.pop(0) if plans else self._peers.plan, PLANNER))

    async def ReviewCandidates(  # noqa: N802
        self, request: planner_pb2.ReviewCandidatesRequest, context: grpc.aio.ServicerContext
    ) -> planner_pb2.ReviewCandidatesResponse:
        self._peers.images.append(request.image.content)
        await self._peers.enter("review", context)
        candidates = [candidate_from_proto(item) for item in request.candidates]
        verdicts = tuple(
            Verdict(item.id, self._peers.verdict(item.phrase), "seen") for item in candidates
        )
        return reviewed_to_proto(Reviewed(verdicts, PLANNER))


class _Segmenter(segmenter_pb2_grpc.SegmenterServiceServicer):
    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def SegmentConcepts(  # noqa: N802
        self, request: segmenter_pb2.SegmentConceptsRequest, context: grpc.aio.ServicerContext
    ) -> segmenter_pb2.SegmentConceptsResponse:
        self._peers.images.append(request.image.content)
        await self._peers.enter("segment", context)
        results = []
        for query in queries_from_proto(request.queries):
            things = self._peers.things.get(query.phrase, [])
            kept = tuple(item for item in things if item.score >= request.score_threshold)
            results.append(QueryResult(0.95 if things else 0.02, kept))
        image = SegmentedImage(WIDTH, HEIGHT, tuple(results), SEGMENTER, {"encode": 1.0})
        return segmented_to_proto(image)


class _Replica(replica_pb2_grpc.ReplicaServiceServicer):
    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def Check(  # noqa: N802
        self, request: replica_pb2.CheckRequest, context: grpc.aio.ServicerContext
    ) -> replica_pb2.CheckResponse:
        if not self._peers.alive:  # as Ray Serve does without a replica
            await asyncio.Event().wait()
        return replica_pb2.CheckResponse()


@asynccontextmanager
async def serving(peers: Peers) -> AsyncIterator[Peers]:
    """`peers`, answering on a free loopback port."""
    server = grpc.aio.server()
    planner_pb2_grpc.add_PlannerServiceServicer_to_server(_Planner(peers), server)
    segmenter_pb2_grpc.add_SegmenterServiceServicer_to_server(_Segmenter(peers), server)
    replica_pb2_grpc.add_ReplicaServiceServicer_to_server(_Replica(peers), server)
    peers.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield peers
    finally:
        await server.stop(None)
