"""All four kinds of call through a gateway's interceptor and peer and through a real Ray Serve.

The product's own RPCs are unary and server-streaming as yet; an echo service has all four.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from services.caller import Caller
from services.errors import Reason
from services.gateway.channels import ChannelPool
from services.gateway.peers import Peer
from services.rpc.calls import current_call
from services.rpc.interceptors import CallInterceptor
from services.rpc.metadata import RawPairs
from services.rpc.methods import MethodPolicy
from services.rpc.metrics import PrometheusInstruments, RpcMetrics
from tests.e2e.conftest import RayCluster
from tests.rpc.echo import (
    FLOW,
    RPCS,
    SERVICE,
    EchoRequest,
    EchoResponse,
    add_EchoServiceServicer_to_server,
)
from tests.rpc.faults import fault_of

pytestmark = pytest.mark.serve

APPLICATION = "echo"
BIG = "x" * 100_000
POLICIES = {rpc.path: MethodPolicy(600, 600) for rpc in RPCS.values()}


class EchoServicer:
    """Forwards each call to the replica, as the gateway's servicers do."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.read = 0

    async def Unary(self, request: Any, context: Any) -> Any:  # noqa: N802
        return await self._peer.unary(RPCS["Unary"], request, current_call())

    async def ServerStream(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for response in self._peer.server_stream(
            RPCS["ServerStream"], request, current_call()
        ):
            yield response

    async def ClientStream(self, requests: Any, context: Any) -> Any:  # noqa: N802
        return await self._peer.client_stream(RPCS["ClientStream"], requests, current_call())

    async def Bidi(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for response in self._peer.bidi_stream(
            RPCS["Bidi"], self._counted(requests), current_call(), flow=FLOW
        ):
            yield response

    async def _counted(self, requests: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self.read += 1
            yield request


@dataclass
class EchoGateway:
    """A running gateway and a channel to it."""

    channel: grpc.aio.Channel
    server: grpc.aio.Server
    servicer: EchoServicer
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def call(self, method: str) -> Any:
        """The method as a client calls it."""
        rpc = RPCS[method]
        make = {
            "unary": self.channel.unary_unary,
            "server_stream": self.channel.unary_stream,
            "client_stream": self.channel.stream_unary,
            "bidi_stream": self.channel.stream_stream,
        }[rpc.kind]
        return make(
            rpc.path,
            request_serializer=EchoRequest.SerializeToString,
            response_deserializer=EchoResponse.FromString,
        )

    async def seen(self) -> tuple[int, int, int]:
        """What the replica says of itself: messages taken, made, and streams left."""
        taken, made, left = (await self.call("Unary")(EchoRequest())).text.split()
        return int(taken), int(made), int(left)

    def count(self, side: str, name: str, method: str, **labels: str) -> float:
        """A counter of the gateway."""
        rpc = RPCS[method]
        labels |= {"grpc_service": SERVICE, "grpc_method": method, "grpc_type": rpc.kind}
        return self.registry.get_sample_value(f"grpc_{side}_{name}_total", labels) or 0.0


async def acme(metadata: RawPairs) -> Caller:
    return Caller("acme")


@asynccontextmanager
async def gateway_to(address: str, policies: dict[str, MethodPolicy]) -> AsyncIterator[EchoGateway]:
    registry = CollectorRegistry()
    instruments = PrometheusInstruments(registry)
    pool = ChannelPool(address, 1, 64 << 20)
    peer = Peer(
        pool,
        APPLICATION,
        Reason.SEGMENTER_UNAVAILABLE,
        3,
        RpcMetrics(instruments, "client"),
    )
    server = grpc.aio.server(
        interceptors=[CallInterceptor(RpcMetrics(instruments, "server"), policies, acme)]
    )
    servicer = EchoServicer(peer)
    add_EchoServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield EchoGateway(channel, server, servicer, registry)
    await server.stop(None)
    await pool.close()


@pytest.fixture(scope="module")
def echo(ray_cluster: RayCluster) -> Iterator[RayCluster]:
    from ray import serve

    from tests.rpc.echo_replica import build

    serve.run(build(), name=APPLICATION, route_prefix="/echo")
    yield ray_cluster
    serve.delete(APPLICATION)


@pytest.fixture
async def gateway(echo: RayCluster) -> AsyncIterator[EchoGateway]:
    async with gateway_to(echo.grpc, POLICIES) as running:
        yield running


async def requests(*texts: str, **fields: Any) -> AsyncIterator[Any]:
    for text in texts:
        if text == "rest":
            await asyncio.Event().wait()
        yield EchoRequest(text=text, **fields)


async def eventually(holds: Callable[[], Any]) -> None:
    """Wait until `holds` gives something true; two minutes at most."""
    async with asyncio.timeout(120):
        while not await holds():  # noqa: ASYNC110  (the replica is another process)
            await asyncio.sleep(0.02)


async def test_every_kind_of_call_is_answered_and_counted(gateway: EchoGateway) -> None:
    assert (await gateway.call("Unary")(EchoRequest())).caller == "acme"
    stream = gateway.call("ServerStream")(EchoRequest(text="a", repeat=3))
    assert [answer.text async for answer in stream] == ["a", "a", "a"]
    assert (await gateway.call("ClientStream")(requests("x", "y"))).text == "xy"
    texts = [str(number) for number in range(100)]
    echoed = [answer async for answer in gateway.call("Bidi")(requests(*texts))]
    assert [answer.text for answer in echoed] == texts
    assert {answer.caller for answer in echoed} == {"acme"}
    for method, received, sent in (
        ("Unary", 1, 1),
        ("ServerStream", 1, 3),
        ("ClientStream", 2, 1),
        ("Bidi", 100, 100),
    ):
        assert gateway.count("server", "msg_received", method) == received
        assert gateway.count("server", "msg_sent", method) == sent
        for side in ("server", "client"):
            assert gateway.count(side, "handled", method, grpc_code="OK") == 1


@pytest.mark.parametrize("method", ["ServerStream", "Bidi"])
async def test_an_error_in_mid_stream_keeps_its_details(gateway: EchoGateway, method: str) -> None:
    if method == "Bidi":
        stream = gateway.call(method)(requests("a", "b", "rest", fail_after=2))
    else:
        stream = gateway.call(method)(EchoRequest(text="a", repeat=9, fail_after=2))
    received = []

    async def read() -> None:
        async for response in stream:
            received.append(response.text)

    with pytest.raises(grpc.RpcError) as caught:
        await read()
    assert len(received) == 2
    assert all(received)
    fault = fault_of(caught.value)
    assert (fault.reason, fault.field, fault.message) == ("BOX_INVALID", "text", "inside out")
    headers = dict(await stream.initial_metadata())
    assert fault.request_id == headers["x-request-id"]
    for side in ("server", "client"):
        assert gateway.count(side, "handled", method, grpc_code="INVALID_ARGUMENT") == 1


async def test_who_leaves_in_mid_stream_is_gone_from_the_replica_too(gateway: EchoGateway) -> None:
    _, _, before = await gateway.seen()
    stream = gateway.call("Bidi")(requests("a", "stop"))
    assert (await stream.read()).text == "a"
    stream.cancel()

    async def left() -> bool:
        return (await gateway.seen())[2] > before

    await eventually(left)

    async def counted() -> bool:
        return all(
            gateway.count(side, "handled", "Bidi", grpc_code="CANCELLED") == 1
            for side in ("server", "client")
        )

    await eventually(counted)


async def test_a_stream_ends_with_the_deadline_of_its_method(echo: RayCluster) -> None:
    bidi = RPCS["Bidi"].path
    async with gateway_to(echo.grpc, {**POLICIES, bidi: MethodPolicy(2, 60)}) as gateway:
        stream = gateway.call("Bidi")(requests("a", "stop"))
        assert (await stream.read()).text == "a"
        with pytest.raises(grpc.RpcError) as caught:
            await stream.read()
        assert fault_of(caught.value).reason == "DEADLINE_PASSED"
        code = "DEADLINE_EXCEEDED"
        assert gateway.count("server", "handled", "Bidi", grpc_code=code) == 1


async def test_requests_wait_at_the_client_while_the_replica_takes_none(
    gateway: EchoGateway,
) -> None:
    stream = gateway.call("Bidi")(requests("a", "stop", *[BIG] * 500))
    assert (await stream.read()).text == "a"

    async def full() -> bool:
        return gateway.servicer.read >= FLOW.window

    await eventually(full)
    await gateway.seen()  # a round trip through all of it: time for more to come, if more could
    # A window, the one that was answered, and one that waits for its credit.
    assert gateway.servicer.read <= FLOW.window + 2
    stream.cancel()


async def test_responses_wait_in_the_replica_while_the_client_reads_none(
    gateway: EchoGateway,
) -> None:
    stream = gateway.call("Bidi")(requests(BIG, repeat=500))
    await stream.read()

    async def resting() -> bool:
        first = await gateway.seen()
        await asyncio.sleep(0.2)
        return first == await gateway.seen()

    await eventually(resting)
    _, made, _ = await gateway.seen()
    # What fits into HTTP/2's windows, and a window of credits: far from all 50 MB.
    assert FLOW.window <= made < 200
    rest = 1
    while await stream.read() is not grpc.aio.EOF:
        rest += 1
    assert rest == 500


async def test_streams_finish_when_gateway_and_replica_drain(echo: RayCluster) -> None:
    from ray import serve

    from tests.rpc.echo_replica import build

    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[Any]:
        yield EchoRequest(text="before")
        await go_on.wait()
        yield EchoRequest(text="after")

    async with gateway_to(echo.grpc, POLICIES) as gateway:
        stream = gateway.call("Bidi")(slow())
        assert (await stream.read()).text == "before"
        deleting = asyncio.create_task(asyncio.to_thread(serve.delete, APPLICATION))
        stopping = asyncio.create_task(gateway.server.stop(60))

        async def refused() -> bool:
            try:
                await gateway.call("Unary")(EchoRequest(), timeout=120)
            except grpc.RpcError:
                return True
            return False

        await eventually(refused)
        go_on.set()
        assert (await stream.read()).text == "after"
        assert await stream.read() is grpc.aio.EOF
        await stopping
        await deleting
    serve.run(build(), name=APPLICATION, route_prefix="/echo")
