"""The echo service as a plain grpc.aio server that a test scripts."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc

from services.errors import ServiceError
from services.rpc.credits import Receiver
from services.rpc.status import code_of, rich_status, trailing_metadata
from tests.rpc.echo import FLOW, EchoResponse, add_EchoServiceServicer_to_server


class EchoServer:
    """Echoes; `failures` are taken one a call, `hold` stops it after the first message.

    A failure is an error of ours, which comes back with its details, or a bare status.
    """

    def __init__(self) -> None:
        self.failures: list[ServiceError | grpc.StatusCode] = []
        self.hold: asyncio.Event | None = None
        self.metadata: list[dict[str, str]] = []
        self.taken = 0
        self.cancelled = 0

    async def _enter(self, context: Any) -> None:
        self.metadata.append(dict(context.invocation_metadata()))
        if self.failures:
            await self._fail(self.failures.pop(0), context)

    async def _fail(self, failure: ServiceError | grpc.StatusCode, context: Any) -> None:
        if isinstance(failure, grpc.StatusCode):
            await context.abort(failure, "Traceback: secret")
        status = rich_status(failure, "peer")
        context.set_trailing_metadata(trailing_metadata(status))
        await context.abort(code_of(failure), status.message)

    async def _wait(self) -> None:
        if self.hold is not None:
            await self.hold.wait()

    @contextmanager
    def _leaving(self) -> Iterator[None]:
        """Counts a caller that leaves, wherever the handler is."""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    async def Unary(self, request: Any, context: Any) -> Any:  # noqa: N802
        await self._enter(context)
        await self._wait()
        return EchoResponse(text=request.text)

    async def ServerStream(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await self._enter(context)
        with self._leaving():
            for number in range(request.repeat):
                if number == request.fail_after > 0:
                    await self._fail(self.mid_stream, context)
                yield EchoResponse(text=request.text)
                await self._wait()

    async def ClientStream(self, requests: Any, context: Any) -> Any:  # noqa: N802
        await self._enter(context)
        return EchoResponse(text="".join([request.text async for request in requests]))

    async def Bidi(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        await self._enter(context)
        failure: ServiceError | None = None
        with self._leaving():
            async with Receiver(aiter(requests), FLOW) as incoming:
                async for request in incoming:
                    self.taken += 1
                    response = EchoResponse(text=request.text)
                    await incoming.release(response)
                    yield response
                    if self.taken == request.fail_after > 0:
                        failure = self.mid_stream
                        break
                    await self._wait()
                yield EchoResponse()
                await incoming.closed(60)
        if failure is not None:
            await self._fail(failure, context)

    mid_stream: ServiceError


@asynccontextmanager
async def serving(echo: EchoServer, interceptors: Sequence[Any] = ()) -> AsyncIterator[str]:
    """Its address while it runs."""
    server = grpc.aio.server(interceptors=list(interceptors))
    add_EchoServiceServicer_to_server(echo, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
