"""The client: one call is arguments -> `tasks` -> gRPC -> `results`, or `errors`."""

import asyncio
import re
import threading
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypedDict, Unpack, get_args

import grpc
import grpc.aio

from limelight import arguments
from limelight.channels import options_for
from limelight.errors import ClientStateError, LimelightError, from_rpc
from limelight.proxies import Proxy, proxy_for
from limelight.results import Event, Segmentation, event_from_proto, segmentation_from_proto
from limelight.retries import Attempts, RetryBudget, RetryPolicy
from limelight.streams import AsyncTracking, Tracking
from limelight.targets import check_target
from limelight.tasks import ImageLike, MaskFormatName, Render, RenderKindName, Want
from limelight.tracking import TrackCall, TrackWant
from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from limelight.values import ConceptQuery, ObjectPrompt, Selection, TimeRange
from limelight.videos import LivePicture, VideoLike, VideoSource

DEFAULT_ADDRESS = "127.0.0.1:50551"
DEFAULT_TIMEOUT_S = 60.0

Metadata: TypeAlias = Sequence[tuple[str, str]]
PriorityName: TypeAlias = Literal["interactive", "batch"]


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
        accept_damaged: take what is left of an image that has lost pixels; the answer's `warnings`
            say so. Otherwise such an image is refused.
        timeout: seconds for the whole call, retries included, above 0; 60 unless said.
        request_id: to find the call in the logs, 1 to 128 of `A-Z a-z 0-9 . _ : -`; made up unless
            given.
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
    accept_damaged: bool
    timeout: float | None
    request_id: str | None


class TrackOptions(TypedDict, total=False):
    """The keyword arguments of `track`.

    Attributes:
        phrases: noun phrases; with them or `queries` the planner is not asked.
        queries: phrases with exemplar boxes of the first frame, or boxes alone.
        exclude: whose instances are taken away, with phrases or queries only.
        select: which of the rest are kept, with phrases or queries only.
        objects: things of the first frame to track besides, by box, points or mask.
        score_threshold: 0 to 1; unset, the service's default.
        max_objects: tracked at once; unset, the service's limit.
        mask_format: "rle" (default), "png", "polygons" or "none".
        review: True always, False never, unset as the plan says.
        time_range: seconds of the video that are tracked; unset, all of it.
        stride: every so many frames is tracked.
        max_side: frames are scaled down until their longer side has this many pixels.
        changed_only: frames tell only what differs from the frame before, and who is gone.
        resume_token: goes on with a stream of another process; all else but `next_frame`, the index
            of the first frame that is lacking, is then ignored.
        timeout: seconds for all of it; unset, as long as it takes.
        request_id: to find the call in the logs; made up unless given.
    """

    phrases: Sequence[str] | None
    queries: Sequence[ConceptQuery] | None
    exclude: Sequence[str | ConceptQuery] | None
    select: Selection | None
    objects: Sequence[ObjectPrompt]
    score_threshold: float | None
    max_objects: int | None
    mask_format: MaskFormatName
    review: bool | None
    time_range: TimeRange | None
    stride: int
    max_side: int | None
    changed_only: bool
    resume_token: str
    next_frame: int
    timeout: float | None
    request_id: str | None


_OPTIONS = tuple(SegmentOptions.__annotations__)
_TRACK_OPTIONS = tuple(TrackOptions.__annotations__)
# What the service takes as an id, what HTTP/2 takes as a header.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_HEADER_NAME = re.compile(r"[a-z0-9_.-]+")
_HEADER_VALUE = re.compile(r"[ -~]*")


class _Call:
    """One call's request, deadline and id, the same for every attempt."""

    def __init__(
        self,
        image: ImageLike,
        instruction: str | None,
        options: SegmentOptions,
        extra: Metadata,
        proxy: Proxy | None,
        retry: RetryPolicy,
        budget: RetryBudget,
    ) -> None:
        arguments.options(options, _OPTIONS, "segment")
        wanted: dict[str, Any] = {
            name: value for name, value in options.items() if name in Want.__slots__
        }
        self.task = Want(instruction=instruction, **wanted).task(image)
        timeout = options.get("timeout")
        length = DEFAULT_TIMEOUT_S if timeout is None else arguments.seconds(timeout, "timeout")
        self.expires_at = time.monotonic() + length
        self.request_id = _request_id(options.get("request_id"))
        self.metadata = (*extra, ("x-request-id", self.request_id))
        self.proxy = proxy
        self.attempts = Attempts(retry, budget, self.expires_at)

    def timeout(self) -> float:
        """Seconds left for the next attempt."""
        return max(0.0, self.expires_at - time.monotonic())

    def check_repeat(self, exc: grpc.RpcError) -> None:
        """Raises the `LimelightError` of a failed attempt, if there is to be no other."""
        error = self.error(exc)
        if self.attempts.after(error) is None:
            raise error from exc

    def error(self, exc: grpc.RpcError) -> LimelightError:
        """The error behind a failed attempt."""
        return from_rpc(exc, self.request_id, self.proxy)


def _request_id(given: object) -> str:
    if given is None or given == "":
        return uuid.uuid4().hex
    known = arguments.text(given, "request_id")
    if not _REQUEST_ID.fullmatch(known):
        raise ValueError(
            "request_id must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -, "
            f"not {arguments.shown(known)}"
        )
    return known


def _priority(priority: object) -> Metadata:
    if priority not in get_args(PriorityName):
        raise ValueError(
            f"priority must be one of {', '.join(get_args(PriorityName))}, "
            f"not {arguments.shown(priority)}"
        )
    # The default needs no words.
    return () if priority == "interactive" else (("x-limelight-priority", str(priority)),)


def _checked_metadata(metadata: Metadata) -> Metadata:
    """The pairs, if gRPC can send them.

    Raises:
        TypeError: they are no pairs of texts.
        ValueError: a name or a value has characters that HTTP/2's headers have not.
    """
    if isinstance(metadata, Mapping):
        raise TypeError("metadata must be pairs, not a mapping: metadata=tuple(headers.items())")
    for pair in metadata:
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise TypeError(f"metadata must be pairs of a name and a value, not {pair!r}")
        name, value = pair
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"metadata: {name!r} is not a name of a-z 0-9 _ . -")
        if name.endswith("-bin") and isinstance(value, bytes):
            continue
        if not isinstance(value, str):  # not shown: it may be a secret
            raise TypeError(f"metadata: the value of {name} must be text")
        if not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"metadata: the value of {name} must be printable ASCII")
    return tuple(metadata)


class Client:
    """A blocking client; one channel, safe to share between threads.

    Args:
        address: `host:port` of the gateway, or any name gRPC resolves (`dns:///…`, `unix:…`).
        credentials: for TLS (`grpc.ssl_channel_credentials()`); None: no encryption.
        metadata: sent with every call (an authorization header, say).
        retry: when a call is made again.
        priority: "interactive", or "batch" for work that can be done later: under load its calls
            come last.

    Raises:
        TypeError, ValueError: the address or the metadata cannot be ones.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        retry: RetryPolicy | None = None,
        priority: PriorityName = "interactive",
    ) -> None:
        self.address = check_target(address)
        self._metadata = (*_checked_metadata(metadata), *_priority(priority))
        self._retry = retry or RetryPolicy()
        self._budget = RetryBudget(self._retry.budget)
        self._closed = False
        self._proxy = proxy_for(address)
        options = options_for(address)
        if credentials is None:
            self._channel = grpc.insecure_channel(address, options=options)
        else:
            self._channel = grpc.secure_channel(address, credentials, options=options)
        self._stub = limelight_pb2_grpc.LimelightServiceStub(self._channel)

    def segment(
        self, image: ImageLike, instruction: str | None = None, **options: Unpack[SegmentOptions]
    ) -> Segmentation:
        """Segment one image.

        Args:
            image: a path, a file's bytes, a PIL image (read as its file would be, orientation
                applied), or a uint8 array ``[h, w]``, ``[h, w, 3]`` RGB or ``[h, w, 4]`` RGBA.
            instruction: plain words for the planner; or else give `phrases` or `queries`.
            **options: see `SegmentOptions`.

        Raises:
            LimelightError: the call failed.
            ClientStateError: the client is closed.
            TypeError, ValueError, OSError: the arguments make no request.
        """
        call = self._call(image, instruction, options)
        request = limelight_pb2.SegmentRequest(task=call.task)
        with call.attempts:
            while True:
                with self._open():
                    future = self._stub.Segment.future(
                        request, timeout=call.timeout(), metadata=call.metadata
                    )
                try:
                    result = future.result().result
                    self._budget.answered()
                    return segmentation_from_proto(result)
                except grpc.RpcError as exc:
                    call.check_repeat(exc)
                except BaseException:
                    future.cancel()  # Ctrl-C while waiting: the service must not work on
                    raise
                call.attempts.pause()

    def segment_stream(
        self, image: ImageLike, instruction: str | None = None, **options: Unpack[SegmentOptions]
    ) -> Iterator[Event]:
        """Segment one image and tell each step as it happens; arguments and errors as `segment`.

        Closing the iterator early cancels the call. It is repeated only until its first event.
        """
        call = self._call(image, instruction, options)
        return self._events(call, limelight_pb2.SegmentStreamRequest(task=call.task))

    def _events(self, call: _Call, request: limelight_pb2.SegmentStreamRequest) -> Iterator[Event]:
        with call.attempts:
            while True:
                with self._open():
                    stream = self._stub.SegmentStream(
                        request, timeout=call.timeout(), metadata=call.metadata
                    )
                started = False
                try:
                    for response in stream:
                        started = True
                        call.attempts.answered()
                        event = event_from_proto(response)
                        if event is not None:
                            yield event
                    self._budget.answered()
                    return
                except grpc.RpcError as exc:
                    if started:
                        raise call.error(exc) from exc
                    call.check_repeat(exc)
                finally:
                    stream.cancel()
                call.attempts.pause()

    def track(
        self,
        video: VideoLike | Iterable[LivePicture],
        instruction: str | None = None,
        **options: Unpack[TrackOptions],
    ) -> Tracking:
        """Follow things through a video, and tell each frame as it is done.

            with client.track("street.mp4", "the dog on the left") as events:
                for event in events:
                    if isinstance(event, TrackedFrame):
                        print(event.index, [item.id for item in event.instances])

        The call begins with the first event that is asked for. A connection that is cut is made
        again, and the stream goes on where it was. No more frames are made than are taken.

        Args:
            video: a file's path, its bytes, or a file opened for reading bytes (a pipe too); or
                live pictures, as an iterable of `LivePicture`, which are answered at once.
            instruction: plain words for the planner; or else give `phrases`, `queries`, `objects`.
            **options: see `TrackOptions`.

        Raises:
            LimelightError: the call failed (from the iterator).
            TypeError, ValueError, OSError: the arguments make no request, or the video cannot be
                read (also from the iterator).
        """
        with self._open():
            call, source = _track_call(
                video, instruction, options, self._retry, self._budget, self._proxy
            )
        return Tracking(self._open_track, call, source)

    def _open_track(self, requests: Any, call: TrackCall) -> Any:
        metadata = (*self._metadata, ("x-request-id", call.request_id))
        with self._open():
            return self._stub.TrackVideo(requests, timeout=call.timeout(), metadata=metadata)

    def _call(self, image: ImageLike, instruction: str | None, options: SegmentOptions) -> _Call:
        with self._open():
            return _Call(
                image,
                instruction,
                options,
                self._metadata,
                self._proxy,
                self._retry,
                self._budget,
            )

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Raises `ClientStateError` if the client is closed, now or by the end of the block."""
        if self._closed:
            raise ClientStateError("the client is closed")
        try:
            yield
        except ValueError as exc:  # what gRPC says of a closed channel
            if self._closed:
                raise ClientStateError("the client is closed") from exc
            raise

    def close(self) -> None:
        """Close the channel; calls under way are cancelled. A closed client stays closed."""
        self._closed = True
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
    """The same for asyncio; arguments as `Client`. Canceling the task cancels the call.

    It may be made anywhere. It connects in the event loop of its first call and belongs to that
    loop from then on: calls from another raise `ClientStateError`.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Metadata = (),
        retry: RetryPolicy | None = None,
        priority: PriorityName = "interactive",
    ) -> None:
        self.address = check_target(address)
        self._metadata = (*_checked_metadata(metadata), *_priority(priority))
        self._retry = retry or RetryPolicy()
        self._budget = RetryBudget(self._retry.budget)
        self._credentials = credentials
        self._proxy = proxy_for(address)
        self._options = options_for(address)
        self._lock = threading.Lock()  # two loops run in two threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._channel: grpc.aio.Channel | None = None
        self._closed = False

    async def segment(
        self, image: ImageLike, instruction: str | None = None, **options: Unpack[SegmentOptions]
    ) -> Segmentation:
        """Segment one image; see `Client.segment`. Files are read off the event loop."""
        call = await self._call(image, instruction, options)
        request = limelight_pb2.SegmentRequest(task=call.task)
        with call.attempts:
            while True:
                stub = self._connected()
                try:
                    response = await stub.Segment(
                        request, timeout=call.timeout(), metadata=call.metadata
                    )
                except grpc.aio.AioRpcError as exc:
                    call.check_repeat(exc)
                else:
                    self._budget.answered()
                    return segmentation_from_proto(response.result)
                await call.attempts.pause_async()

    async def segment_stream(
        self, image: ImageLike, instruction: str | None = None, **options: Unpack[SegmentOptions]
    ) -> AsyncIterator[Event]:
        """Segment one image and tell each step as it happens; see `Client.segment_stream`."""
        call = await self._call(image, instruction, options)
        request = limelight_pb2.SegmentStreamRequest(task=call.task)
        with call.attempts:
            while True:
                stream = self._connected().SegmentStream(
                    request, timeout=call.timeout(), metadata=call.metadata
                )
                started = False
                try:
                    async for response in stream:
                        started = True
                        call.attempts.answered()
                        event = event_from_proto(response)
                        if event is not None:
                            yield event
                    self._budget.answered()
                    return
                except grpc.aio.AioRpcError as exc:
                    if started:
                        raise call.error(exc) from exc
                    call.check_repeat(exc)
                finally:
                    stream.cancel()
                await call.attempts.pause_async()

    def track(
        self,
        video: VideoLike | Iterable[LivePicture] | AsyncIterable[LivePicture],
        instruction: str | None = None,
        **options: Unpack[TrackOptions],
    ) -> AsyncTracking:
        """Follow things through a video; see `Client.track`. Files are read off the event loop."""
        if isinstance(video, AsyncIterable):
            call, source = _track_call(
                (), instruction, options, self._retry, self._budget, self._proxy
            )
            return AsyncTracking(self._open_track, call, source, video)
        call, source = _track_call(
            video, instruction, options, self._retry, self._budget, self._proxy
        )
        return AsyncTracking(self._open_track, call, source)

    def _open_track(self, requests: Any, call: TrackCall) -> Any:
        metadata = (*self._metadata, ("x-request-id", call.request_id))
        return self._connected().TrackVideo(requests, timeout=call.timeout(), metadata=metadata)

    async def _call(
        self, image: ImageLike, instruction: str | None, options: SegmentOptions
    ) -> _Call:
        self._connected()
        return await asyncio.to_thread(
            _Call,
            image,
            instruction,
            options,
            self._metadata,
            self._proxy,
            self._retry,
            self._budget,
        )

    def _connected(self) -> "limelight_pb2_grpc.LimelightServiceAsyncStub":
        """The service, through the channel of the loop that runs.

        Raises:
            ClientStateError: the client is closed, or belongs to another loop.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise ClientStateError("the client is closed")
            if self._loop is None:
                self._loop = loop
            if self._loop is not loop:
                raise ClientStateError(
                    "the client belongs to another event loop, that of its first call; make a "
                    "client for each loop"
                )
            if self._channel is None:
                if self._credentials is None:
                    self._channel = grpc.aio.insecure_channel(self.address, options=self._options)
                else:
                    self._channel = grpc.aio.secure_channel(
                        self.address, self._credentials, options=self._options
                    )
                self._stub = limelight_pb2_grpc.LimelightServiceStub(self._channel)
            return self._stub

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled. A closed client stays closed.

        Raises:
            ClientStateError: the client belongs to another loop, which still runs.
        """
        with self._lock:
            foreign = self._loop not in (None, asyncio.get_running_loop())
            if foreign and self._loop is not None and not self._loop.is_closed():
                raise ClientStateError("the client belongs to another event loop: close it there")
            channel, self._channel = self._channel, None
            self._closed = True
        if channel is not None and not foreign:  # with its loop, the connection is gone
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _track_call(
    video: VideoLike | Iterable[LivePicture],
    instruction: str | None,
    options: TrackOptions,
    retry: RetryPolicy,
    budget: RetryBudget,
    proxy: Proxy | None,
) -> tuple[TrackCall, VideoSource]:
    arguments.options(options, _TRACK_OPTIONS, "track")
    timeout = options.get("timeout")
    length = None if timeout is None else arguments.seconds(timeout, "timeout")
    request_id = _request_id(options.get("request_id"))
    wanted: dict[str, Any] = {
        name: value for name, value in options.items() if name in TrackWant.__slots__
    }
    want = TrackWant(instruction=instruction, **wanted)
    source = VideoSource(video)
    try:
        call = TrackCall(want, source.live, length, request_id, retry, proxy, budget)
    except BaseException:
        source.close()
        raise
    return call, source
