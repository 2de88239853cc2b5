"""Ray Serve's gRPC ingress, made to speak our errors.

Serve answers an exception with INTERNAL and a traceback, and `set_code` followed by a raise loses
the trailing metadata; only `set_code`, `set_trailing_metadata` and a *returned* empty message keep
all three (tried with Ray Serve 2.60). So that is what `ingress` does.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import Message

from services.errors import Internal, ServiceError
from services.rpc.metadata import CallContext, from_metadata
from services.rpc.status import code_of, is_callers_fault, rich_status, trailing_metadata

logger = logging.getLogger(__name__)

S = TypeVar("S")
Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)


def ingress(
    response: type[R],
) -> Callable[
    [Callable[[S, Q, CallContext], Awaitable[R]]],
    Callable[[S, Q, Any], Awaitable[R]],
]:
    """Make `async def Method(self, request, call)` a Serve gRPC method answering `response`.

    A deployment with a method `observe_rpc(method, code)` is told of every outcome: Serve's own
    metrics count a call that failed this way as OK.
    """

    def decorate(
        method: Callable[[S, Q, CallContext], Awaitable[R]],
    ) -> Callable[[S, Q, Any], Awaitable[R]]:
        name = getattr(method, "__name__", "call")

        @functools.wraps(method)
        async def handle(self: S, request: Q, grpc_context: Any) -> R:
            call = from_metadata(grpc_context.invocation_metadata())
            observe: Callable[[str, str], None] | None = getattr(self, "observe_rpc", None)
            try:
                answer = await method(self, request, call)
            except Exception as exc:
                error = exc if isinstance(exc, ServiceError) else Internal()
                _log(name, call.request_id, error, exc)
                status = rich_status(error, call.request_id)
                grpc_context.set_code(code_of(error))
                grpc_context.set_details(status.message)
                grpc_context.set_trailing_metadata(list(trailing_metadata(status)))
                answer = response()
                code = code_of(error).name
            else:
                code = "OK"
            if observe is not None:
                observe(name, code)
            return answer

        # Serve passes the context only to a method whose signature names `grpc_context`, and would
        # read the signature of what is wrapped.
        del handle.__wrapped__
        return handle

    return decorate


def _log(method: str, request_id: str, error: ServiceError, exc: Exception) -> None:
    if isinstance(exc, ServiceError) and is_callers_fault(error):
        logger.info("%s refused: %s (%s) request_id=%s", method, error, error.reason, request_id)
    else:
        logger.error("%s failed request_id=%s", method, request_id, exc_info=exc)
