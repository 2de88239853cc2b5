"""What every call of a public server goes through, whichever of the four kinds it is.

In order: an id, a deadline, metrics, authentication, then the handler; at the end one log line, and
an error's rich status. A handler raises `ServiceError` and knows nothing of statuses. What it
raises besides is a fault of ours: logged whole, answered as "internal error" with the request id.
"""

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
from grpc_status import rpc_status

from services.caller import ANONYMOUS, Caller
from services.deadline import Deadline
from services.errors import Cancelled, DeadlinePassed, Overloaded, Reason, ServiceError
from services.rpc.calls import set_current_call
from services.rpc.metadata import REQUEST_ID, RawPairs, from_metadata
from services.rpc.methods import MethodPolicy, rpc_kind
from services.rpc.metrics import CallMetrics, RpcMetrics
from services.rpc.reporting import log_call
from services.rpc.status import code_of, rich_status, service_error
from services.rpc.tracing import TRACING

if TYPE_CHECKING:  # generic in the stubs, not at run time
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

# Tells from a call's metadata who asks; raises a `ServiceError` for who may not.
Authenticate = Callable[[RawPairs], Awaitable[Caller]]

# How soon a caller may come again whose call found the method's places taken.
_RETRY_S = 1.0


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
    """

    def __init__(
        self,
        metrics: RpcMetrics,
        policies: Mapping[str, MethodPolicy],
        authenticate: Authenticate = anonymous,
    ) -> None:
        self._metrics = metrics
        self._policies = policies
        self._authenticate = authenticate
        self._open: Counter[str] = Counter()

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        path: str = handler_call_details.method
        kind = rpc_kind(handler.request_streaming, handler.response_streaming)
        behavior: Any = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )

        async def respond(request: Any, context: "Context") -> Any:
            async with self._answering(kind, path, context) as observed:
                answer = behavior(_counted(request, observed), context)
                answer = await answer if inspect.isawaitable(answer) else answer
                observed.sent()
                return answer

        async def stream(request: Any, context: "Context") -> AsyncIterator[Any]:
            async with self._answering(kind, path, context) as observed:
                answers = behavior(_counted(request, observed), context)
                if inspect.isawaitable(answers):  # a handler that writes to the context itself
                    await answers
                    return
                async for answer in answers:
                    observed.sent()
                    yield answer

        wrapped = stream if handler.response_streaming else respond
        maker = {
            "unary": grpc.unary_unary_rpc_method_handler,
            "server_stream": grpc.unary_stream_rpc_method_handler,
            "client_stream": grpc.stream_unary_rpc_method_handler,
            "bidi_stream": grpc.stream_stream_rpc_method_handler,
        }[kind]
        return maker(
            wrapped,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    @asynccontextmanager
    async def _answering(
        self, kind: str, path: str, context: "Context"
    ) -> AsyncIterator[CallMetrics]:
        """One call, from its metadata to its log line."""
        policy = self._policies.get(path)
        metadata: RawPairs = context.invocation_metadata() or ()
        call = from_metadata(metadata, context.time_remaining(), trusted=False)
        if policy is not None:
            granted_s = policy.granted_s(call.deadline.remaining_s())
            call = replace(call, deadline=Deadline.after(granted_s))
        # The caller learns the id even when it sent none, and even when the call fails.
        await context.send_initial_metadata(((REQUEST_ID, call.request_id),))
        service, _, method = path.lstrip("/").partition("/")
        begin = time.perf_counter()
        error: ServiceError | None = None
        with (
            self._metrics.call(kind, service, method) as observed,
            TRACING.span(path, "server", call) as traced,
        ):
            call = traced.call
            set_current_call(call)
            self._open[path] += 1
            try:
                async with asyncio.timeout(call.deadline.remaining_s()):
                    if policy is not None:
                        observed.caller = await self._authenticate(metadata)
                        call = traced.call = replace(call, caller=observed.caller)
                        set_current_call(call)
                        self._check_room(path, policy)
                    yield observed
                observed.code = "OK"
            except (asyncio.CancelledError, GeneratorExit):
                # grpc cancels the handler both when the caller does and when its time is up; there
                # is nobody left to answer.
                gone = DeadlinePassed() if call.deadline.passed else Cancelled()
                observed.code = code_of(gone).name
                log_call(path, gone, None, begin)
                raise
            except Exception as exc:
                # Our own timer's; a handler's TimeoutError about something else is a fault.
                late = isinstance(exc, TimeoutError) and call.deadline.passed
                error = DeadlinePassed() if late else service_error(exc)
                observed.code = code_of(error).name
                log_call(path, error, exc, begin)
            else:
                log_call(path, None, None, begin)
            finally:
                traced.code = observed.code
                self._open[path] -= 1
        if error is not None:
            status = rich_status(error, call.request_id)
            await context.abort_with_status(rpc_status.to_status(status))

    def _check_room(self, path: str, policy: MethodPolicy) -> None:
        if policy.max_open is not None and self._open[path] > policy.max_open:
            raise Overloaded(
                Reason.OVERLOADED,
                f"{policy.max_open} calls of this method are open",
                retry_after_s=_RETRY_S,
            )


def _counted(request: Any, observed: CallMetrics) -> Any:
    """The request, or the stream of them, each counted as it is taken."""
    if not hasattr(request, "__aiter__"):
        observed.received()
        return request

    async def messages() -> AsyncIterator[Any]:
        async for message in request:
            observed.received()
            yield message

    return messages()
