"""A peer, called by every kind of RPC over a real connection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from limelight.paths import FieldPath
from services.caller import Caller
from services.deadline import Deadline
from services.errors import (
    DeadlinePassed,
    Internal,
    InvalidRequest,
    Overloaded,
    Reason,
    TooLarge,
    Unavailable,
)
from services.gateway.channels import ChannelPool
from services.gateway.peers import Peer
from services.rpc.metadata import CallContext
from services.rpc.metrics import PrometheusInstruments, RpcMetrics
from tests.conftest import Until
from tests.rpc.echo import FLOW, RPCS, SERVICE, EchoRequest
from tests.rpc.echo_server import EchoServer, serving

CALL = CallContext("job-1", Deadline(), Caller("acme"))
FAULT = InvalidRequest(Reason.BOX_INVALID, "inside out", field=FieldPath(("text",)))


@pytest.fixture
def echo() -> EchoServer:
    server = EchoServer()
    server.mid_stream = FAULT
    return server


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
async def peer(echo: EchoServer, registry: CollectorRegistry) -> AsyncIterator[Peer]:
    async with serving(echo) as address:
        pool = ChannelPool(address, 2, 1 << 20)
        metrics = RpcMetrics(PrometheusInstruments(registry), "client")
        yield Peer(pool, "echo", Reason.SEGMENTER_UNAVAILABLE, 3, metrics)
        await pool.close()


async def requests(*texts: str, **fields: Any) -> AsyncIterator[Any]:
    for text in texts:
        yield EchoRequest(text=text, **fields)


async def endless(text: str, **fields: Any) -> AsyncIterator[Any]:
    """Writes as fast as there are credits, also at the moment the stream ends."""
    while True:
        yield EchoRequest(text=text, **fields)


def bidi(peer: Peer, source: AsyncIterator[Any], call: CallContext = CALL) -> AsyncIterator[Any]:
    return peer.bidi_stream(RPCS["Bidi"], source, call, flow=FLOW)


def counted(registry: CollectorRegistry, name: str, method: str, **labels: str) -> float:
    labels |= {"grpc_service": SERVICE, "grpc_method": method, "grpc_type": RPCS[method].kind}
    return registry.get_sample_value(f"grpc_client_{name}_total", labels) or 0.0


async def test_all_four_kinds(peer: Peer, echo: EchoServer, registry: CollectorRegistry) -> None:
    assert (await peer.unary(RPCS["Unary"], EchoRequest(text="a"), CALL)).text == "a"
    stream = peer.server_stream(RPCS["ServerStream"], EchoRequest(text="a", repeat=3), CALL)
    assert [answer.text async for answer in stream] == ["a"] * 3
    answer = await peer.client_stream(RPCS["ClientStream"], requests("x", "y"), CALL)
    assert answer.text == "xy"
    texts = [str(number) for number in range(50)]
    assert [answer.text async for answer in bidi(peer, requests(*texts))] == texts
    for metadata in echo.metadata:
        assert metadata["application"] == "echo"
        assert metadata["x-request-id"] == "job-1"
        assert metadata["x-limelight-tenant"] == "acme"
    for method, sent, received in (
        ("Unary", 1, 1),
        ("ServerStream", 1, 3),
        ("ClientStream", 2, 1),
        ("Bidi", 50, 50),
    ):
        assert counted(registry, "handled", method, grpc_code="OK") == 1
        assert counted(registry, "msg_sent", method) == sent
        assert counted(registry, "msg_received", method) == received


async def test_a_peer_that_is_away_is_asked_again(peer: Peer, echo: EchoServer) -> None:
    echo.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE]
    assert (await peer.unary(RPCS["Unary"], EchoRequest(text="a"), CALL)).text == "a"
    echo.failures = [grpc.StatusCode.UNAVAILABLE] * 3
    with pytest.raises(Unavailable) as away:
        await peer.unary(RPCS["Unary"], EchoRequest(), CALL)
    assert away.value.reason is Reason.SEGMENTER_UNAVAILABLE
    assert "secret" not in away.value.message
    assert len(echo.metadata) == 6


async def test_there_is_no_retry_beyond_the_deadline(peer: Peer, echo: EchoServer) -> None:
    echo.failures = [Unavailable(Reason.SEGMENTER_UNAVAILABLE, "away", retry_after_s=1.0)]
    passed = CallContext("job-1", Deadline.after(0))
    with pytest.raises(DeadlinePassed):
        await peer.unary(RPCS["Unary"], EchoRequest(), passed)
    assert echo.metadata == []


@pytest.mark.parametrize(
    "refusal",
    [
        FAULT,
        TooLarge(Reason.MASKS_TOO_LARGE, "too big", field=FieldPath(("image", "content"))),
        Overloaded(Reason.OVERLOADED, "full", retry_after_s=2.5),
        Internal(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_refusal_comes_back_as_it_was_and_is_not_repeated(
    peer: Peer, echo: EchoServer, refusal: Any
) -> None:
    echo.failures = [refusal]
    with pytest.raises(type(refusal)) as caught:
        await peer.unary(RPCS["Unary"], EchoRequest(), CALL)
    error = caught.value
    assert (error.reason, error.message) == (refusal.reason, refusal.message)
    assert (error.field, error.retry_after_s) == (refusal.field, refusal.retry_after_s)
    assert len(echo.metadata) == 1


@pytest.mark.parametrize("method", ["ServerStream", "Bidi"])
async def test_an_error_in_mid_stream(peer: Peer, registry: CollectorRegistry, method: str) -> None:
    if method == "Bidi":
        stream = bidi(peer, endless("a", fail_after=2))
    else:
        request = EchoRequest(text="a", repeat=9, fail_after=2)
        stream = peer.server_stream(RPCS[method], request, CALL)
    received = []
    with pytest.raises(InvalidRequest) as caught:
        await collect(stream, received)
    assert (len(received), str(caught.value.field)) == (2, "text")
    assert counted(registry, "handled", method, grpc_code="INVALID_ARGUMENT") == 1


async def collect(stream: AsyncIterator[Any], received: list[Any]) -> None:
    async for response in stream:
        received.append(response)


@pytest.mark.parametrize("method", ["ServerStream", "ClientStream", "Bidi"])
async def test_a_stream_is_not_repeated(peer: Peer, echo: EchoServer, method: str) -> None:
    echo.failures = [grpc.StatusCode.UNAVAILABLE]
    calls = {
        "ServerStream": lambda: collect(
            peer.server_stream(RPCS["ServerStream"], EchoRequest(repeat=1), CALL), []
        ),
        "ClientStream": lambda: peer.client_stream(RPCS["ClientStream"], requests("a"), CALL),
        "Bidi": lambda: collect(bidi(peer, endless("a")), []),
    }
    with pytest.raises(Unavailable):
        await calls[method]()
    assert len(echo.metadata) == 1


async def test_who_leaves_early_cancels_the_call(
    peer: Peer, echo: EchoServer, registry: CollectorRegistry, until: Until
) -> None:
    echo.hold = asyncio.Event()
    for method, stream in (
        ("ServerStream", peer.server_stream(RPCS["ServerStream"], EchoRequest(repeat=9), CALL)),
        ("Bidi", bidi(peer, requests("a", "b"))),
    ):
        before = echo.cancelled
        if method == "ServerStream":
            stream = peer.server_stream(RPCS[method], EchoRequest(text="a", repeat=9), CALL)
        assert (await anext(stream)).text == "a"
        await stream.aclose()
        await until(lambda before=before: echo.cancelled == before + 1)
        assert counted(registry, "handled", method, grpc_code="CANCELLED") == 1


async def test_no_more_is_read_than_the_peer_has_credits_for(
    peer: Peer, echo: EchoServer, until: Until
) -> None:
    echo.hold = asyncio.Event()
    read = 0

    async def source() -> AsyncIterator[Any]:
        nonlocal read
        for number in range(100):
            read += 1
            yield EchoRequest(text=str(number))

    stream = bidi(peer, source())
    await anext(stream)
    await until(lambda: read >= FLOW.window)
    await asyncio.sleep(0)
    # A window, and one for the credit that came with the first answer.
    assert read <= FLOW.window + 1
    echo.hold.set()
    assert len([answer async for answer in stream]) == 99


async def test_a_source_that_fails_surfaces_as_itself(peer: Peer) -> None:
    async def source() -> AsyncIterator[Any]:
        yield EchoRequest(text="a")
        raise InvalidRequest(Reason.OPTION_INVALID, "the caller sent nonsense")

    with pytest.raises(InvalidRequest, match="nonsense"):
        await collect(bidi(peer, source()), [])
    with pytest.raises(InvalidRequest, match="nonsense"):
        await peer.client_stream(RPCS["ClientStream"], source(), CALL)
