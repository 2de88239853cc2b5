"""The services behind the gateway, as it calls them: deadlines sent on, retries where safe.

Both services answer pure questions about an image, so a unary call that ended UNAVAILABLE (a
replica died, a proxy restarted) is asked again while the deadline allows. A refusal is never
retried here: the caller is told, and decides. Nor is a stream: what it carried may have been acted
on.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc

from limelight.convert.plans import query_to_proto
from limelight.internal.v1 import planner_pb2, replica_pb2, segmenter_pb2
from limelight.values import ConceptQuery
from services.deadline import Deadline
from services.domain import (
    Candidate,
    Planned,
    Reviewed,
    SegmentedImage,
    TrackEvent,
    TrackOpening,
    TrackStep,
)
from services.errors import DeadlinePassed, Reason, ServiceError, Unavailable
from services.gateway.channels import ChannelPool
from services.gateway.presence import Presence
from services.rpc.convert.planner import (
    candidate_to_proto,
    planned_from_proto,
    reviewed_from_proto,
)
from services.rpc.convert.segmenter import segmented_from_proto
from services.rpc.convert.tracker import event_from_proto, opening_to_proto, step_to_proto
from services.rpc.credits import FlowControl, Sender
from services.rpc.metadata import CallContext, to_metadata
from services.rpc.methods import Rpc, rpcs
from services.rpc.metrics import CallMetrics, RpcMetrics
from services.rpc.status import error_from_rpc
from services.rpc.tracing import TRACING
from services.rpc.tracking import TRACK, TRACK_FLOW

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 4.0

_CHECK = rpcs(replica_pb2, "ReplicaService")["Check"]
_PLANNER = rpcs(planner_pb2, "PlannerService")
_SEGMENTER = rpcs(segmenter_pb2, "SegmenterService")


class Peer:
    """One service, called by RPCs of all four kinds through Ray Serve's `application`.

    Args:
        pool: connections to Serve's proxies.
        application: its name in Serve.
        away: the reason to give callers when it does not answer.
        attempts: tries of a unary call that found it away.
        metrics: of the calls, as a client.
        silence_s: see `Presence`.
    """

    def __init__(
        self,
        pool: ChannelPool,
        application: str,
        away: Reason,
        attempts: int,
        metrics: RpcMetrics,
        silence_s: float = 5.0,
    ) -> None:
        self._pool = pool
        self._extra = (("application", application),)
        self._away = away
        self._attempts = attempts
        self._metrics = metrics
        self._presence = Presence(application, away, self._check, silence_s)

    @property
    def ready(self) -> bool:
        """Whether the service is connected and has not fallen silent."""
        connected = self._pool.ready  # asked in any case, so that idle channels connect
        return connected and not self._presence.away

    def stalled(self) -> Unavailable | None:
        """See `Presence`."""
        return self._presence.stalled()

    def refusal(self) -> Unavailable | None:
        """See `Presence`."""
        return self._presence.refusal()

    def held_up(self, since: float) -> bool:
        """See `Presence`."""
        return self._presence.held_up(since)

    async def keep(self) -> None:
        """Look after the connections until cancelled."""
        try:
            await self._pool.keep()
        finally:
            await self._presence.close()

    async def close(self) -> None:
        """Close the connections, whatever runs on them."""
        await self._pool.close()

    async def unary(self, rpc: Rpc, request: Any, call: CallContext) -> Any:
        """Ask, and ask again while the service is away and there is time.

        Raises the peer's own `ServiceError`, `Unavailable`, or `DeadlinePassed`.
        """
        for attempt in range(1, self._attempts + 1):
            try:
                return await self._once(rpc, request, call)
            except Unavailable:
                pause = min(LAST_RETRY_S, FIRST_RETRY_S * 2 ** (attempt - 1))
                pause *= random.uniform(0.75, 1.25)
                remaining = call.deadline.remaining_s()
                out_of_time = remaining is not None and remaining < pause
                if attempt == self._attempts or self._presence.away or out_of_time:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("the loop returns or raises")

    async def server_stream(self, rpc: Rpc, request: Any, call: CallContext) -> AsyncIterator[Any]:
        """The responses to one request; leaving the iteration early cancels the call."""
        with self._calling(rpc, call) as (channel, observed, options):
            observed.sent()
            stream = _callable(channel, rpc)(request, **options)
            async for response in _responses(stream, observed):
                yield response

    async def client_stream(self, rpc: Rpc, requests: AsyncIterator[Any], call: CallContext) -> Any:
        """The response to many requests, which HTTP/2 alone paces: for small or few ones."""
        source = _Source(requests)
        with self._calling(rpc, call, source) as (channel, observed, options):
            answer = await _callable(channel, rpc)(source.counted(observed), **options)
            observed.received()
            return answer

    async def bidi_stream(
        self,
        rpc: Rpc,
        requests: AsyncIterator[Any],
        call: CallContext,
        *,
        flow: FlowControl,
    ) -> AsyncIterator[Any]:
        """The responses to a stream of requests; leaving the iteration early cancels the call.

        Args:
            rpc: which one.
            requests: read one at a time, each when there is a credit for it.
            call: its id, caller and deadline.
            flow: how the messages carry credits.
        """
        source = _Source(requests)
        with self._calling(rpc, call, source) as (channel, observed, options):
            sender = Sender(source.counted(observed), flow)
            stream = _callable(channel, rpc)(aiter(sender), **options)
            try:
                async for response in stream:
                    if not response.ByteSize():  # the replica is done
                        sender.close()
                        continue
                    observed.received()
                    sender.received(response)
                    yield response
                    sender.taken()
            finally:
                stream.cancel()

    async def _once(self, rpc: Rpc, request: Any, call: CallContext) -> Any:
        with self._calling(rpc, call) as (channel, observed, options):
            observed.sent()
            answer = await _callable(channel, rpc)(request, **options)
            observed.received()
            return answer

    async def _check(self, timeout_s: float) -> None:
        """Return when a replica has given a sign of life.

        Not counted: it is nobody's call.
        """
        call = CallContext(deadline=Deadline.after(timeout_s))
        with self._pool.lease() as channel:
            try:
                await _callable(channel, _CHECK)(replica_pb2.CheckRequest(), **self._options(call))
            except grpc.RpcError as exc:
                # A replica from before this RPC is alive as well.
                if exc.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    raise error_from_rpc(exc, self._away) from exc

    def _options(self, call: CallContext) -> dict[str, Any]:
        return {
            "timeout": call.deadline.remaining_s(),
            "metadata": to_metadata(call, self._extra),
        }

    @contextmanager
    def _calling(
        self, rpc: Rpc, call: CallContext, source: "_Source | None" = None
    ) -> Iterator[tuple[grpc.aio.Channel, CallMetrics, dict[str, Any]]]:
        """One call: channel, metrics, options; a failure becomes the `ServiceError` it means."""
        call.deadline.check()
        with (
            self._presence.waiting() as answered,
            self._metrics.call(rpc.kind, rpc.service, rpc.method) as observed,
            TRACING.span(rpc.path, "client", call) as traced,
            self._pool.lease() as channel,
        ):
            observed.caller = call.caller
            observed.on_received = answered
            try:
                yield channel, observed, self._options(traced.call)
            except grpc.RpcError as exc:
                observed.code = exc.code().name
                if source is not None and source.failure is not None:
                    raise source.failure from exc
                error = error_from_rpc(exc, self._away)
                if not isinstance(error, Unavailable | DeadlinePassed):
                    answered()  # a refusal is an answer
                raise error from exc
            except (asyncio.CancelledError, GeneratorExit) as exc:
                observed.code = "CANCELLED"
                if source is not None and source.failure is not None:
                    # grpc cancels a call whose requests cannot be had; our caller did not leave.
                    raise source.failure from exc
                raise
            else:
                observed.code = "OK"
            finally:
                traced.code = observed.code


class _Source:
    """Where a stream's requests come from; `failure` is what ended them, if not their end."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = requests
        self.failure: ServiceError | None = None

    async def counted(self, observed: CallMetrics) -> AsyncIterator[Any]:
        try:
            async for request in self._requests:
                observed.sent()
                yield request
        except ServiceError as error:
            self.failure = error
            raise


def _callable(channel: grpc.aio.Channel, rpc: Rpc) -> Any:
    make: Any = {
        "unary": channel.unary_unary,
        "server_stream": channel.unary_stream,
        "client_stream": channel.stream_unary,
        "bidi_stream": channel.stream_stream,
    }[rpc.kind]
    return make(
        rpc.path,
        request_serializer=rpc.request.SerializeToString,
        response_deserializer=rpc.response.FromString,
    )


async def _responses(stream: Any, observed: CallMetrics) -> AsyncIterator[Any]:
    """The responses but for the empty one that only carries an error (`services.rpc.serve`)."""
    held = None
    try:
        async for response in stream:
            if held is not None:
                observed.received()
                yield held
                held = None
            if not response.ByteSize():
                held = response
                continue
            observed.received()
            yield response
        if held is not None:
            observed.received()
            yield held
    finally:
        stream.cancel()


class PlannerPeer:
    """The planner, in domain terms."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def plan(self, image: bytes, instruction: str, call: CallContext) -> Planned:
        request = planner_pb2.MakePlanRequest(instruction=instruction)
        request.image.content = image
        return planned_from_proto(await self._peer.unary(_PLANNER["MakePlan"], request, call))

    async def review(
        self, image: bytes, instruction: str, candidates: list[Candidate], call: CallContext
    ) -> Reviewed:
        request = planner_pb2.ReviewCandidatesRequest(
            instruction=instruction, candidates=map(candidate_to_proto, candidates)
        )
        request.image.content = image
        response = await self._peer.unary(_PLANNER["ReviewCandidates"], request, call)
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
            queries=map(query_to_proto, queries),
            score_threshold=score_threshold,
            max_instances=max_instances,
        )
        request.image.content = image
        response = await self._peer.unary(_SEGMENTER["SegmentConcepts"], request, call)
        return segmented_from_proto(response)


class TrackerPeer:
    """The tracker, in domain terms."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    @property
    def ready(self) -> bool:
        """Whether a session may be opened."""
        return self._peer.ready

    async def track(
        self, opening: TrackOpening, steps: AsyncIterator[TrackStep], call: CallContext
    ) -> AsyncIterator[TrackEvent]:
        """What one session tells; leaving the iteration early ends it.

        `steps` are read one at a time, each when the session has room for it.
        """

        async def requests() -> AsyncIterator[Any]:
            yield opening_to_proto(opening)
            async with aclosing(steps):  # type: ignore[type-var]
                async for step in steps:
                    yield step_to_proto(step)

        responses = self._peer.bidi_stream(TRACK, requests(), call, flow=TRACK_FLOW)
        async with aclosing(responses):  # type: ignore[type-var]
            async for response in responses:
                event = event_from_proto(response)
                if event is not None:
                    yield event
