"""What every call of a server goes through: an id, a deadline, metrics, one log line, our errors.

A handler raises `ServiceError` and knows nothing of statuses. What it raises besides is a fault of
ours: logged whole, answered as "internal error" with the request id.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
from grpc_status import rpc_status

from services.deadline import Deadline
from services.errors import Cancelled, DeadlinePassed, Internal, ServiceError
from services.rpc.calls import set_current_call
from services.rpc.metadata import REQUEST_ID, CallContext, from_metadata
from services.rpc.metrics import CallMetrics, RpcMetrics
from services.rpc.status import code_of, is_callers_fault, rich_status

if TYPE_CHECKING:  # generic in the stubs, not at run time
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

logger = logging.getLogger(__name__)


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler. Deadlines are given and cut for paths under `timed`, and no other."""

    def __init__(
        self, metrics: RpcMetrics, *, timed: str, default_timeout_s: float, max_timeout_s: float
    ) -> None:
        self._metrics = metrics
        self._timed = timed
        self._default_timeout_s = default_timeout_s
        self._max_timeout_s = max_timeout_s

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        path: str = handler_call_details.method
        kind = _kind(handler)
        behavior: Any = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )

        async def respond(request: Any, context: "Context") -> Any:
            async with _Call(self, kind, path, context) as metrics:
                metrics.received()
                answer = behavior(request, context)
                answer = await answer if inspect.isawaitable(answer) else answer
                metrics.sent()
                return answer

        async def stream(request: Any, context: "Context") -> AsyncIterator[Any]:
            async with _Call(self, kind, path, context) as metrics:
                metrics.received()
                answers = behavior(request, context)
                if inspect.isawaitable(answers):  # a handler that writes to the context itself
                    await answers
                    return
                async for answer in answers:
                    metrics.sent()
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

    def limit(self, path: str, call: CallContext) -> CallContext:
        """The call with the deadline it is held to."""
        if not path.startswith(self._timed):
            return call
        remaining = call.deadline.remaining_s()
        granted = self._default_timeout_s if remaining is None else remaining
        return replace(call, deadline=Deadline.after(min(granted, self._max_timeout_s)))

    def observe(self, kind: str, path: str) -> AbstractContextManager[CallMetrics]:
        return self._metrics.call(kind, path)


class _Call:
    """One call, from its metadata to its log line."""

    def __init__(
        self,
        interceptor: CallInterceptor,
        kind: str,
        path: str,
        context: "Context",
    ) -> None:
        self._path = path
        self._context = context
        metadata = from_metadata(context.invocation_metadata(), context.time_remaining())
        self._call = interceptor.limit(path, metadata)
        self._observe = interceptor.observe(kind, path)
        self._timeout = asyncio.timeout(self._call.deadline.remaining_s())
        self._begin = time.perf_counter()

    async def __aenter__(self) -> CallMetrics:
        set_current_call(self._call)
        # The caller learns the id even when it sent none, and even when the call fails.
        await self._context.send_initial_metadata(((REQUEST_ID, self._call.request_id),))
        self._metrics = self._observe.__enter__()
        await self._timeout.__aenter__()
        return self._metrics

    async def __aexit__(self, kind: Any, exc: BaseException | None, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, exc, trace)
        except TimeoutError:
            exc = DeadlinePassed()
        error = self._error(exc)
        self._metrics.code = "OK" if error is None else code_of(error).name
        self._observe.__exit__(None, None, None)
        self._log(error, exc)
        if error is None:
            return
        if isinstance(exc, asyncio.CancelledError | GeneratorExit):
            return  # the caller is gone; let the cancellation go on
        status = rich_status(error, self._call.request_id)
        await self._context.abort_with_status(rpc_status.to_status(status))

    def _error(self, exc: BaseException | None) -> ServiceError | None:
        match exc:
            case None:
                return None
            case ServiceError():
                return exc
            case asyncio.CancelledError() | GeneratorExit():
                # grpc cancels the handler both when the caller does and when its time is up.
                return DeadlinePassed() if self._call.deadline.passed else Cancelled()
            case TimeoutError():
                return DeadlinePassed()
        return Internal()

    def _log(self, error: ServiceError | None, exc: BaseException | None) -> None:
        fields: dict[str, object] = {
            "method": self._path,
            "code": self._metrics.code,
            "milliseconds": round((time.perf_counter() - self._begin) * 1000, 1),
        }
        if error is None:
            level = logging.DEBUG if self._path.startswith("/grpc.") else logging.INFO
            logger.log(level, "answered", extra={"fields": fields})
            return
        fields |= {"reason": error.reason.value, "field": error.field}
        if is_callers_fault(error):
            logger.info("refused: %s", error, extra={"fields": fields})
        else:
            ours = not isinstance(exc, ServiceError)
            logger.error(
                "failed: %s", error, extra={"fields": fields}, exc_info=exc if ours else None
            )


def _kind(handler: "Handler") -> str:
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return "unary"
        case False, True:
            return "server_stream"
        case True, False:
            return "client_stream"
    return "bidi_stream"
