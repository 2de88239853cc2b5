"""What every call of a public server goes through, whichever of the four kinds it is.

In order: an id, a deadline, metrics, authentication, then the handler; at the end one log line, and
an error's rich status. A handler raises `ServiceError` and knows nothing of statuses. What it
raises besides is a fault of ours: logged whole, answered as "internal error" with the request id.

gRPC itself would answer some calls without any reason: those whose request is no message, whose
answer is too large to send, whose method is unknown, and those whose deadline passes. The first
three come through here as well. A deadline is kept a little early, since nobody hears a status that
comes after it.
"""

import asyncio
import inspect
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    nullcontext,
)
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import grpc
from grpc_status import rpc_status

from services.caller import ANONYMOUS, Caller
from services.deadline import Deadline
from services.errors import (
    Cancelled,
    DeadlinePassed,
    DeadlineTooShort,
    InvalidRequest,
    NoSuchMethod,
    Overloaded,
    Reason,
    ServiceError,
    TooLarge,
)
from services.rpc.calls import current_call, set_current_call
from services.rpc.metadata import (
    REQUEST_ID,
    CallContext,
    RawPairs,
    from_metadata,
    request_id_of,
)
from services.rpc.methods import MethodPolicy, rpc_kind
from services.rpc.metrics import CallMetrics, RpcMetrics
from services.rpc.reporting import CallLog
from services.rpc.status import code_of, rich_status, service_error
from services.rpc.tracing import TRACING
from services.rpc.wire import REQUEST, MalformedRequest, reader

if TYPE_CHECKING:  # generic in the stubs, not at run time
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

# Tells from a call's metadata who asks; raises a `ServiceError` for who may not.
Authenticate = Callable[[RawPairs], Awaitable[Caller]]


class Entrance(Protocol):
    """What a server does about requests that are not whole. Every method raises `ServiceError`."""

    def place(self, call: CallContext, peer: str) -> AbstractContextManager[None]:
        """Hold what `call` from `peer` counts for, or turn it away."""

    def check(self, call: CallContext) -> None:
        """Turn `call`, which has one request, away before anything of it is taken."""

    async def whole(self, messages: AsyncIterator[Any], peer: str) -> Any:
        """The only message of a call from `peer` (`ipv4:10.0.0.7:50312`); StopAsyncIteration,
        where there is none.
        """

    def each(self, messages: AsyncIterator[Any], peer: str) -> AsyncIterator[Any]:
        """The messages of a stream from `peer`."""

    async def before_refusal(self, call: CallContext) -> None:
        """Wait until `call` may be told that there is no room, or no time, for it."""


class _Unguarded:
    """The `Entrance` of a server whose clients are trusted."""

    def place(self, call: CallContext, peer: str) -> AbstractContextManager[None]:
        return nullcontext()

    def check(self, call: CallContext) -> None:
        pass

    async def whole(self, messages: AsyncIterator[Any], peer: str) -> Any:
        return await anext(messages)

    def each(self, messages: AsyncIterator[Any], peer: str) -> AsyncIterator[Any]:
        return messages

    async def before_refusal(self, call: CallContext) -> None:
        pass


# How soon a caller may come again whose call found the method's places taken.
_RETRY_S = 1.0
# The kinds of calls that have one request.
_ONE_REQUEST = frozenset({"unary", "server_stream"})
# The service and method of calls to what does not exist, in the metrics.
_UNKNOWN = "/unknown/unknown"
# What calls are told for which there is no room, or not enough time.
_REFUSALS = (Overloaded, DeadlineTooShort)
# How long the news of a cancellation may be behind the end of its stream.
_NEWS_S = 0.1
# How much before its caller's deadline a call ends: a share of its time, and seconds at most.
_EARLY_SHARE, _EARLY_S = 0.1, 0.1


async def anonymous(metadata: RawPairs) -> Caller:
    """Whoever asks is the anonymous tenant."""
    return ANONYMOUS


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        metrics: of the server's calls.
        policies: by path. Methods without one (health, reflection) are counted and logged, and
            neither timed nor authenticated.
        authenticate: the first thing that happens to a call of a method with a policy.
        max_answer_bytes: a larger message is refused rather than sent; callers may say less.
        entrance: takes the requests; the calls of methods with a policy, and one request, have its
            leave before.
    """

    def __init__(
        self,
        metrics: RpcMetrics,
        policies: Mapping[str, MethodPolicy],
        authenticate: Authenticate = anonymous,
        max_answer_bytes: int | None = None,
        entrance: Entrance | None = None,
    ) -> None:
        self._entrance = _Unguarded() if entrance is None else entrance
        self._metrics = metrics
        self._policies = policies
        self._authenticate = authenticate
        self._max_answer_bytes = max_answer_bytes
        self._open: Counter[str] = Counter()
        self._log = CallLog()

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        path: str = handler_call_details.method
        if handler is None:
            return self._unknown(path)
        kind = rpc_kind(handler.request_streaming, handler.response_streaming)
        behavior: Any = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )

        # gRPC would wait for the only message of a call itself, for as long as its client likes, so
        # every method takes a stream of them: on the wire there is no difference.
        async def taken(messages: Any, context: "Context", observed: CallMetrics) -> Any:
            if handler.request_streaming:
                return _counted(self._entrance.each(messages, context.peer()), observed)
            message = await self._only(messages, context)
            observed.received()
            return _readable(message)

        async def respond(messages: Any, context: "Context") -> Any:
            async with self._answering(kind, path, context) as observed:
                answer = behavior(await taken(messages, context, observed), context)
                answer = await answer if inspect.isawaitable(answer) else answer
                self._check_size(answer, path)
                observed.sent()
                return answer

        async def stream(messages: Any, context: "Context") -> None:
            """Writes to the context itself: a generator whose task is canceled while gRPC writes
            what it gave would be left to the garbage collector, which closes what still runs.
            """
            async with self._answering(kind, path, context) as observed:
                answers = behavior(await taken(messages, context, observed), context)
                if inspect.isawaitable(answers):  # so does its handler
                    await answers
                    return
                async with aclosing(answers):
                    async for answer in answers:
                        self._check_size(answer, path)
                        observed.sent()
                        try:
                            await context.write(answer)
                        except grpc.aio.InternalError as exc:
                            # The call is over, and the cancellation on its way.
                            raise asyncio.CancelledError from exc

        wrapped, maker = (
            (stream, grpc.stream_stream_rpc_method_handler)
            if handler.response_streaming
            else (respond, grpc.stream_unary_rpc_method_handler)
        )
        return maker(
            wrapped,
            request_deserializer=reader(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    @asynccontextmanager
    async def _answering(
        self, kind: str, path: str, context: "Context", *, known: bool = True
    ) -> AsyncIterator[CallMetrics]:
        """One call, from its metadata to its log line."""
        policy = self._policies.get(path)
        metadata: RawPairs = context.invocation_metadata() or ()
        unreadable: ServiceError | None = None
        try:
            call = from_metadata(metadata, context.time_remaining(), trusted=False)
        except InvalidRequest as fault:
            call, unreadable = CallContext(request_id_of(metadata)), fault
        if policy is not None:
            granted_s = policy.granted_s(_early(call.deadline.remaining_s()))
            call = replace(call, deadline=Deadline.after(granted_s))
        # What strangers make up must not become series of the metrics, or counts that stay.
        service, _, method = (path if known else _UNKNOWN).lstrip("/").partition("/")
        begin = time.perf_counter()
        error: ServiceError | None = None
        with (
            self._metrics.call(kind, service, method) as observed,
            TRACING.span(path, "server", call) as traced,
        ):
            call = traced.call
            set_current_call(call)
            if policy is not None:
                self._open[path] += 1
            try:
                # The caller learns the id even when it sent none, and even when the call fails.
                await _send_id(context, call.request_id)
                async with asyncio.timeout(call.deadline.remaining_s()), AsyncExitStack() as held:
                    if unreadable is not None:
                        raise unreadable
                    if policy is not None:
                        observed.caller = await self._authenticate(metadata)
                        call = traced.call = replace(call, caller=observed.caller)
                        set_current_call(call)
                        held.enter_context(self._entrance.place(call, context.peer()))
                        self._check_room(path, policy)
                        if kind in _ONE_REQUEST:
                            self._entrance.check(call)
                    yield observed
                observed.code = "OK"
            except (asyncio.CancelledError, GeneratorExit):
                # grpc cancels the handler both when the caller does and when its time is up; there
                # is nobody left to answer.
                gone = DeadlinePassed() if call.deadline.passed else Cancelled()
                observed.code = code_of(gone).name
                self._log.ended(path, gone, None, begin)
                raise
            except grpc.aio.AbortError:
                # A handler of gRPC's own (health, reflection) has said what there is to say.
                observed.code = _code_of(context)
                raise
            except Exception as exc:
                # Our own timer's; a handler's TimeoutError about something else is a fault.
                late = isinstance(exc, TimeoutError) and call.deadline.passed
                error = DeadlinePassed() if late else service_error(exc)
                observed.code = code_of(error).name
                self._log.ended(path, error, exc, begin)
                if isinstance(error, _REFUSALS):
                    # What waits to be refused must not hold its request meanwhile.
                    traceback.clear_frames(exc.__traceback__)
                    exc.__traceback__ = None  # another call may be told the same
            else:
                self._log.ended(path, None, None, begin)
            finally:
                traced.code = observed.code
                if policy is not None:
                    self._open[path] -= 1
        if error is not None:
            if policy is not None and isinstance(error, _REFUSALS):
                await self._entrance.before_refusal(call)
            status = rich_status(error, call.request_id)
            await context.abort_with_status(rpc_status.to_status(status))

    async def _only(self, messages: AsyncIterator[Any], context: "Context") -> Any:
        """The only message of a call."""
        try:
            return await self._entrance.whole(messages, context.peer())
        except StopAsyncIteration:
            # A call that is canceled looks the same for a moment.
            await asyncio.sleep(_NEWS_S)
            fault = "the call has no request"
            raise InvalidRequest(Reason.REQUEST_MALFORMED, fault, field=REQUEST) from None

    def _unknown(self, path: str) -> "Handler":
        """Answers what gRPC would refuse without a reason; whatever is sent is not looked at."""

        async def refuse(request: Any, context: "Context") -> Any:
            async with self._answering("unary", path, context, known=False):
                raise NoSuchMethod(Reason.METHOD_UNKNOWN, "the server has no such method")

        return grpc.stream_stream_rpc_method_handler(refuse)

    def _check_size(self, answer: Any, path: str) -> None:
        """The last look at a message: whoever makes it should have seen to its size before."""
        if self._max_answer_bytes is None or not hasattr(answer, "ByteSize"):
            return
        size = answer.ByteSize()
        most = current_call().message_bytes(self._max_answer_bytes)
        if size > most:
            policy = self._policies.get(path)
            raise TooLarge(
                Reason.ANSWER_TOO_LARGE,
                f"the answer has {size} bytes; a message may have {most}",
                field=None if policy is None else policy.answer_field,
            )

    def _check_room(self, path: str, policy: MethodPolicy) -> None:
        if policy.max_open is not None and self._open[path] > policy.max_open:
            raise Overloaded(
                Reason.OVERLOADED,
                f"{policy.max_open} calls of this method are open",
                retry_after_s=_RETRY_S,
            )


async def _send_id(context: "Context", request_id: str) -> None:
    try:
        await context.send_initial_metadata(((REQUEST_ID, request_id),))
    except grpc.aio.InternalError as exc:
        # The call is over, and the cancellation on its way.
        raise asyncio.CancelledError from exc


def _early(remaining_s: float | None) -> float | None:
    if remaining_s is None:
        return None
    return remaining_s - min(remaining_s * _EARLY_SHARE, _EARLY_S)


def _code_of(context: "Context") -> str:
    code: Any = context.code()
    if isinstance(code, int):  # as grpcio keeps it
        code = next((each for each in grpc.StatusCode if each.value[0] == code), None)
    return code.name if isinstance(code, grpc.StatusCode) else "UNKNOWN"


async def _counted(messages: AsyncIterator[Any], observed: CallMetrics) -> AsyncIterator[Any]:
    """A stream of requests, each counted as it is taken.

    Raises:
        InvalidRequest: REQUEST_MALFORMED, for bytes that are no message.
    """
    async for message in messages:
        observed.received()
        yield _readable(message)


def _readable(message: Any) -> Any:
    if isinstance(message, MalformedRequest):
        raise InvalidRequest(Reason.REQUEST_MALFORMED, message.fault, field=message.field)
    if isinstance(message, ServiceError):
        raise message
    return message
