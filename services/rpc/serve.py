"""Ray Serve's gRPC ingress, made to speak our errors, for all four kinds of RPC.

Serve answers an exception with INTERNAL and a traceback, and `set_code` followed by a raise loses
the trailing metadata; only `set_code`, `set_trailing_metadata` and a *returned* message keep all
three (tried with Ray Serve 2.60). So that is what `ingress` does. A stream's status travels to
Serve's proxy with each message and not after the last, so a stream that fails ends with an empty
message that carries it, and one in both directions always does (`services.rpc.credits`);
`services.gateway.peers` leaves that message out.
"""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Protocol, TypeVar

from services.errors import Cancelled, DeadlinePassed, ServiceError
from services.rpc.calls import set_current_call
from services.rpc.credits import FlowControl, Receiver
from services.rpc.metadata import CallContext, from_metadata
from services.rpc.methods import Rpc
from services.rpc.metrics import CallMetrics, RpcMetrics
from services.rpc.reporting import log_call
from services.rpc.status import (
    code_of,
    rich_status,
    service_error,
    trailing_metadata,
)
from services.rpc.tracing import TRACING

Handler = Callable[..., Any]
T = TypeVar("T")

# How long a stream that is done waits for its caller to close its side; a round trip does.
_CLOSE_S = 10.0


class Replica(Protocol):
    """What `ingress` needs of the deployment whose methods it wraps."""

    rpc_metrics: RpcMetrics


def ingress(rpc: Rpc, flow: FlowControl | None = None) -> Callable[[Handler], Handler]:
    """Make `Method(self, request, call)` the Serve method that answers `rpc`.

    `request` is a message, or an async iterator of messages where the client streams; the method is
    a coroutine, or an async generator where the server streams. A failure ends the call with our
    rich status, after whatever was sent before it. An RPC that streams in both directions has a
    `flow`, which is handled here: the method sees payload only.
    """
    if (flow is None) == (rpc.kind == "bidi_stream"):
        raise ValueError(f"{rpc.path} must have flow control if and only if both sides stream")

    def decorate(method: Handler) -> Handler:
        if flow is not None:
            return _with_context(_exchanging(rpc, method, flow))
        respond = _streaming if rpc.server_streaming else _single
        return _with_context(respond(rpc, method))

    return decorate


def _single(rpc: Rpc, method: Handler) -> Handler:
    @functools.wraps(method)
    async def handle(self: Replica, request: Any, grpc_context: Any) -> Any:
        with _answering(self, rpc, grpc_context) as (call, observed):
            answer = await method(self, _observed(rpc, request, observed), call)
            observed.sent()
            return answer
        return rpc.response()

    return handle


def _streaming(rpc: Rpc, method: Handler) -> Handler:
    @functools.wraps(method)
    async def handle(self: Replica, request: Any, grpc_context: Any) -> AsyncIterator[Any]:
        with _answering(self, rpc, grpc_context) as (call, observed):
            answers = method(self, _observed(rpc, request, observed), call)
            async with aclosing(answers):
                while (answer := await _in_time(anext(answers, None), call)) is not None:
                    observed.sent()
                    yield answer
            return
        yield rpc.response()

    return handle


def _exchanging(rpc: Rpc, method: Handler, flow: FlowControl) -> Handler:
    @functools.wraps(method)
    async def handle(self: Replica, requests: Any, grpc_context: Any) -> AsyncIterator[Any]:
        async with Receiver(requests, flow) as incoming:
            with _answering(self, rpc, grpc_context) as (call, observed):
                answers = method(self, _observed(rpc, incoming, observed), call)
                async with aclosing(answers):
                    while (answer := await _in_time(anext(answers, None), call)) is not None:
                        await _in_time(incoming.release(answer), call)
                        observed.sent()
                        yield answer
            yield rpc.response()
            await incoming.closed(_CLOSE_S)

    return handle


async def _in_time(step: Awaitable[T], call: CallContext) -> T:
    """Serve knows no deadline, and a stream may wait for its client for ever."""
    async with asyncio.timeout(call.deadline.remaining_s()):
        return await step


def _with_context(handle: Handler) -> Handler:
    """Serve passes the context only to a method whose signature names `grpc_context`, and would
    read the signature of what is wrapped.
    """
    del handle.__wrapped__  # type: ignore[attr-defined]
    return handle


def _observed(rpc: Rpc, request: Any, observed: CallMetrics) -> Any:
    if not rpc.client_streaming:
        observed.received()
        return request

    async def messages() -> AsyncIterator[Any]:
        async for message in request:
            observed.received()
            yield message

    return messages()


@contextmanager
def _answering(
    replica: Replica, rpc: Rpc, grpc_context: Any
) -> Iterator[tuple[CallContext, CallMetrics]]:
    """One call: its context, its metrics, its log line; an error becomes the call's status."""
    call = from_metadata(grpc_context.invocation_metadata(), trusted=True)
    begin = time.perf_counter()
    with (
        replica.rpc_metrics.call(rpc.kind, rpc.service, rpc.method) as observed,
        TRACING.span(rpc.path, "server", call) as traced,
    ):
        call = traced.call
        set_current_call(call)
        observed.caller = call.caller
        try:
            yield call, observed
        except (asyncio.CancelledError, GeneratorExit):
            # Serve cancels the handler when the caller goes away; there is nobody to answer.
            error: ServiceError = DeadlinePassed() if call.deadline.passed else Cancelled()
            observed.code = code_of(error).name
            log_call(rpc.path, error, None, begin)
            raise
        except Exception as exc:
            passed = isinstance(exc, TimeoutError) and call.deadline.passed
            error = DeadlinePassed() if passed else service_error(exc)
            observed.code = code_of(error).name
            log_call(rpc.path, error, exc, begin)
            status = rich_status(error, call.request_id)
            grpc_context.set_code(code_of(error))
            grpc_context.set_details(status.message)
            grpc_context.set_trailing_metadata(list(trailing_metadata(status)))
        else:
            observed.code = "OK"
            log_call(rpc.path, None, None, begin)
        finally:
            traced.code = observed.code
