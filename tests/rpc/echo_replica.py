"""The echo service as a replica of Ray Serve, and what a gateway does with it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from ray import serve

from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from services.replica.metrics import RayInstruments
from services.rpc.metadata import CallContext
from services.rpc.metrics import RpcMetrics
from services.rpc.serve import ingress
from tests.rpc.echo import FLOW, RPCS, EchoResponse

FAULT = InvalidRequest(Reason.BOX_INVALID, "inside out", field=FieldPath(("text",)))


class EchoReplica:
    """Echoes every kind of call; `fail_after` counts the messages before a fault.

    `Unary` tells what the replica has seen: its text is "<taken> <made> <left>", the messages that
    the last stream took, the responses it made, and the streams whose callers left.
    """

    def __init__(self) -> None:
        self.rpc_metrics = RpcMetrics(RayInstruments(), "server")
        self._taken = self._made = self._left = 0

    @ingress(RPCS["Unary"])
    async def Unary(self, request: Any, call: CallContext) -> Any:  # noqa: N802
        seen = f"{self._taken} {self._made} {self._left}"
        return EchoResponse(text=seen, caller=call.caller.tenant)

    @ingress(RPCS["ServerStream"])
    async def ServerStream(  # noqa: N802
        self, request: Any, call: CallContext
    ) -> AsyncIterator[Any]:
        self._made = 0
        for number in range(request.repeat):
            if request.fail_after and number == request.fail_after:
                raise FAULT
            self._made += 1
            yield EchoResponse(text=request.text, caller=call.caller.tenant)

    @ingress(RPCS["ClientStream"])
    async def ClientStream(  # noqa: N802
        self, requests: AsyncIterator[Any], call: CallContext
    ) -> Any:
        return EchoResponse(text="".join([request.text async for request in requests]))

    @ingress(RPCS["Bidi"], FLOW)
    async def Bidi(  # noqa: N802
        self, requests: AsyncIterator[Any], call: CallContext
    ) -> AsyncIterator[Any]:
        self._taken = self._made = 0
        try:
            async for request in requests:
                if request.text == "stop":  # takes nothing more until its caller leaves
                    await asyncio.Event().wait()
                self._taken += 1
                for _ in range(max(1, request.repeat)):
                    self._made += 1
                    yield EchoResponse(text=request.text, caller=call.caller.tenant)
                if request.fail_after and self._taken == request.fail_after:
                    raise FAULT
        except (asyncio.CancelledError, GeneratorExit):
            self._left += 1
            raise


def build() -> serve.Application:
    """The application; made here, so that Ray's workers import the class instead of copying it."""
    deployment = serve.deployment(
        EchoReplica, name="Echo", max_ongoing_requests=16, graceful_shutdown_timeout_s=60
    )
    return deployment.bind()
