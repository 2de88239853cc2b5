"""The client: one call is arguments -> `tasks` -> gRPC -> `results`, or `errors`."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias, TypedDict, Unpack

import grpc
import grpc.aio

from limelight.channels import OPTIONS, RetryPolicy
from limelight.errors import from_rpc
from limelight.results import Event, Segmentation, event_from_proto, segmentation_from_proto
from limelight.tasks import ImageLike, MaskFormatName, Render, RenderKindName, Want
from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from limelight.values import ConceptQuery, Selection

DEFAULT_ADDRESS = "127.0.0.1:50551"
DEFAULT_TIMEOUT_S = 60.0

Metadata: TypeAlias = Sequence[tuple[str, str]]


class SegmentOptions(TypedDict, total=False):
    """The keyword arguments of `segment` and `segment_stream`.

    Attributes:
        phrases: noun phrases; with them or `queries` the planner is not asked.
        queries: phrases with exemplar boxes, or boxes alone.
        exclude: whose instances are taken away, with phrases or queries only.
        select: which of the rest are kept, with phrases or queries only.
        score_threshold: 0 to 1; unset, the service's default.
        max_instances: unset, the service's limit.
        mask_format: "rle" (default), "png", "polygons" or "none".
        review: True always, False never, unset as the plan says.
        renders: pictures to be made from the answer, at most four.
        timeout: seconds for the whole call, retries included; 60 unless said.
        request_id: to find the call in the logs; made up unless given.
    """

    phrases: Sequence[str] | None
    queries: Sequence[ConceptQuery] | None
    exclude: Sequence[str | ConceptQuery] | None
    select: Selection | None
    score_threshold: float | None
    max_instances: int | None
    mask_format: MaskFormatName
    review: bool | None
    renders: Sequence[Render | RenderKindName]
    timeout: float | None
    request_id: str | None


class _Call:
    """One call's request, deadline and id, the same for every attempt."""

    def __init__(
        self, image: ImageLike, instruction: str | None, options: SegmentOptions, extra: Metadata
    ) -> None:
        wanted: dict[str, Any] = {
            name: value for name, value in options.items() if name in Want.__slots__
        }
        self.task = Want(instruction=instruction, **wanted).task(image)
        timeout = options.get("timeout")
        self.expires_at = time.monotonic() + (DEFAULT_TIMEOUT_S if timeout is None else timeout)
        self.request_id = options.get("request_id") or uuid.uuid4().hex
        self.metadata = (*extra, ("x-request-id", self.request_id))
        self.attempt = 0

    def timeout(self) -> float:
        """Seconds left for the next attempt."""
        self.attempt += 1
        return max(0.0, self.expires_at - time.monotonic())

    def wait_or_raise(self, exc: grpc.RpcError, retry: RetryPolicy) -> float:
        """Seconds until the next attempt; raises the `LimelightError` if there is to be none."""
        error = from_rpc(exc, self.request_id)
        delay = retry.delay(error, self.attempt, self.expires_at)
        if delay is None:
            raise error from exc
        return delay


class Client:
    """A blocking client; one channel, safe to share between threads.

    Args:
        address: `host:port` of the gateway, or any name gRPC resolves (`dns:///…`, `unix:…`).
        credentials: for TLS (`grpc.ssl_channel_credentials()`); None: no encryption.
        metadata: sent with every call (an authorization header, say).
        retry: when a call is made again.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        retry: RetryPolicy | None = None,
    ) -> None:
        self.address = address
        self._metadata = tuple(metadata)
        self._retry = retry or RetryPolicy()
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=OPTIONS)
        self._stub = limelight_pb2_grpc.LimelightServiceStub(self._channel)

    def segment(
        self, image: ImageLike, instruction: str | None = None, **options: Unpack[SegmentOptions]
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: a path, a file's bytes, a PIL image, or a uint8 array ``[h, w]``, ``[h, w, 3]``
                or ``[h, w, 4]``.
            instruction: plain words for the planner; or else give `phrases` or `queries`.
            **options: see `SegmentOptions`.

        Raises:
            LimelightError: the call failed.
            TypeError, ValueError, OSError: the arguments make no request.
        """
        call = _Call(image, instruction, options, self._metadata)
        request = limelight_pb2.SegmentRequest(task=call.task)
        while True:
            future = self._stub.Segment.future(
                request, timeout=call.timeout(), metadata=call.metadata
            )
            try:
                return segmentation_from_proto(future.result().result)
            except grpc.RpcError as exc:
                delay = call.wait_or_raise(exc, self._retry)
            except BaseException:
                future.cancel()  # Ctrl-C while waiting: the service must not work on
                raise
            time.sleep(delay)

    def segment_stream(
        self, image: ImageLike, instruction: str | None = None, **options: Unpack[SegmentOptions]
    ) -> Iterator[Event]:
        """Segment one image and tell each step as it happens; arguments and errors as `segment`.

        Closing the iterator early cancels the call. It is repeated only until its first event.
        """
        call = _Call(image, instruction, options, self._metadata)
        return self._events(call, limelight_pb2.SegmentStreamRequest(task=call.task))

    def _events(self, call: _Call, request: limelight_pb2.SegmentStreamRequest) -> Iterator[Event]:
        while True:
            stream = self._stub.SegmentStream(
                request, timeout=call.timeout(), metadata=call.metadata
            )
            started = False
            try:
                for response in stream:
                    started = True
                    event = event_from_proto(response)
                    if event is not None:
                        yield event
                return
            except grpc.RpcError as exc:
                if started:
                    raise from_rpc(exc, call.request_id) from exc
                delay = call.wait_or_raise(exc, self._retry)
            finally:
                stream.cancel()
            time.sleep(delay)

    def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio; arguments as `Client`. Canceling the task cancels the call."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        retry: RetryPolicy | None = None,
    ) -> None:
        self.address = address
        self._metadata = tuple(metadata)
        self._retry = retry or RetryPolicy()
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(address, options=OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(address, credentials, options=OPTIONS)
        self._stub = limelight_pb2_grpc.LimelightServiceStub(self._channel)

    async def segment(
        self, image: ImageLike, instruction: str | None = None, **options: Unpack[SegmentOptions]
    ) -> Segmentation:
        """Segment one image; see `Client.segment`. Files are read off the event loop."""
        call = await asyncio.to_thread(_Call, image, instruction, options, self._metadata)
        request = limelight_pb2.SegmentRequest(task=call.task)
        while True:
            try:
                response = await self._stub.Segment(
                    request, timeout=call.timeout(), metadata=call.metadata
                )
            except grpc.aio.AioRpcError as exc:
                delay = call.wait_or_raise(exc, self._retry)
            else:
                return segmentation_from_proto(response.result)
            await asyncio.sleep(delay)

    async def segment_stream(
        self, image: ImageLike, instruction: str | None = None, **options: Unpack[SegmentOptions]
    ) -> AsyncIterator[Event]:
        """Segment one image and tell each step as it happens; see `Client.segment_stream`."""
        call = await asyncio.to_thread(_Call, image, instruction, options, self._metadata)
        request = limelight_pb2.SegmentStreamRequest(task=call.task)
        while True:
            stream = self._stub.SegmentStream(
                request, timeout=call.timeout(), metadata=call.metadata
            )
            started = False
            try:
                async for response in stream:
                    started = True
                    event = event_from_proto(response)
                    if event is not None:
                        yield event
                return
            except grpc.aio.AioRpcError as exc:
                if started:
                    raise from_rpc(exc, call.request_id) from exc
                delay = call.wait_or_raise(exc, self._retry)
            finally:
                stream.cancel()
            await asyncio.sleep(delay)

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
