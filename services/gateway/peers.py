"""The services behind the gateway: channel pools, deadlines sent on, retries where they are safe.

Both services answer pure questions about an image, so a call that ended UNAVAILABLE (a replica
died, a proxy restarted) is asked again while the deadline allows. A refusal is never retried here:
the caller is told, and decides.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc

from limelight.v1 import planner_pb2, planner_pb2_grpc, segmenter_pb2, segmenter_pb2_grpc
from services.domain import (
    Candidate,
    ConceptQuery,
    Planned,
    Reviewed,
    SegmentedImage,
)
from services.errors import Reason, Unavailable
from services.rpc.convert import (
    candidate_to_proto,
    planned_from_proto,
    query_to_proto,
    reviewed_from_proto,
    segmented_from_proto,
)
from services.rpc.metadata import CallContext, to_metadata
from services.rpc.metrics import RpcMetrics
from services.rpc.status import error_from_rpc

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 4.0

A = TypeVar("A")


class ChannelPool:
    """Several connections to one address; each call takes the one with the fewest calls.

    One HTTP/2 connection through a ClusterIP reaches one pod for as long as it lives. Channels with
    subchannel pools of their own are separate connections, and so are spread over the pods.
    """

    def __init__(self, address: str, size: int, max_message_bytes: int) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 10_000),
            ("grpc.max_reconnect_backoff_ms", 2_000),
        ]
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(size)]
        self._calls = [0] * size

    @property
    def ready(self) -> bool:
        """Whether a connection stands; asks idle ones to connect."""
        states = [channel.get_state(try_to_connect=True) for channel in self._channels]
        return grpc.ChannelConnectivity.READY in states

    async def use(self, call: Callable[[grpc.aio.Channel], Awaitable[A]]) -> A:
        index = min(range(len(self._calls)), key=self._calls.__getitem__)
        self._calls[index] += 1
        try:
            return await call(self._channels[index])
        finally:
            self._calls[index] -= 1

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels))


class Peer:
    """One service, called by unary RPCs through Ray Serve's `application`."""

    def __init__(
        self,
        pool: ChannelPool,
        application: str,
        away: Reason,
        attempts: int,
        metrics: RpcMetrics,
    ) -> None:
        self._pool = pool
        self._extra = (("application", application),)
        self._away = away
        self._attempts = attempts
        self._metrics = metrics

    @property
    def ready(self) -> bool:
        return self._pool.ready

    async def call(
        self,
        path: str,
        method: Callable[[grpc.aio.Channel], Callable[..., Awaitable[A]]],
        request: Any,
        call: CallContext,
    ) -> A:
        """Ask, and ask again while the service is away and there is time.

        Raises the peer's own `ServiceError`, `Unavailable`, or `DeadlinePassed`.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._once(path, method, request, call)
            except Unavailable:
                pause = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (attempt - 1))
                pause *= random.uniform(0.75, 1.25)
                remaining = call.deadline.remaining_s()
                if attempt == self._attempts or (remaining is not None and remaining < pause):
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("the loop returns or raises")

    async def _once(
        self,
        path: str,
        method: Callable[[grpc.aio.Channel], Callable[..., Awaitable[A]]],
        request: Any,
        call: CallContext,
    ) -> A:
        call.deadline.check()
        with self._metrics.call("unary", path) as observed:
            observed.sent()
            try:
                answer = await self._pool.use(
                    lambda channel: method(channel)(
                        request,
                        timeout=call.deadline.remaining_s(),
                        metadata=to_metadata(call, self._extra),
                    )
                )
            except grpc.RpcError as exc:
                observed.code = exc.code().name
                raise error_from_rpc(exc, self._away) from exc
            except asyncio.CancelledError:
                observed.code = "CANCELLED"
                raise
            observed.code = "OK"
            observed.received()
            return answer


class PlannerPeer:
    """The planner, in domain terms."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def plan(self, image: bytes, instruction: str, call: CallContext) -> Planned:
        request = planner_pb2.MakePlanRequest(instruction=instruction)
        request.image.content = image
        response = await self._peer.call(
            "/limelight.v1.PlannerService/MakePlan",
            lambda channel: planner_pb2_grpc.PlannerServiceStub(channel).MakePlan,
            request,
            call,
        )
        return planned_from_proto(response)

    async def review(
        self, image: bytes, instruction: str, candidates: list[Candidate], call: CallContext
    ) -> Reviewed:
        request = planner_pb2.ReviewCandidatesRequest(
            instruction=instruction, candidates=[candidate_to_proto(item) for item in candidates]
        )
        request.image.content = image
        response = await self._peer.call(
            "/limelight.v1.PlannerService/ReviewCandidates",
            lambda channel: planner_pb2_grpc.PlannerServiceStub(channel).ReviewCandidates,
            request,
            call,
        )
        return reviewed_from_proto(response)


class SegmenterPeer:
    """The segmenter, in domain terms."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def segment(
        self,
        image: bytes,
        queries: tuple[ConceptQuery, ...],
        score_threshold: float,
        max_instances: int,
        call: CallContext,
    ) -> SegmentedImage:
        request = segmenter_pb2.SegmentConceptsRequest(
            queries=[query_to_proto(query) for query in queries],
            score_threshold=score_threshold,
            max_instances=max_instances,
        )
        request.image.content = image
        response = await self._peer.call(
            "/limelight.v1.SegmenterService/SegmentConcepts",
            lambda channel: segmenter_pb2_grpc.SegmenterServiceStub(channel).SegmentConcepts,
            request,
            call,
        )
        return segmented_from_proto(response)
