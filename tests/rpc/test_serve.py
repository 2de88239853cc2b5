"""Ray Serve's ingress: every outcome of every kind of call keeps its code, details and id."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from prometheus_client import CollectorRegistry

from limelight.paths import FieldPath
from services.caller import Caller
from services.errors import InvalidRequest, Reason
from services.rpc.calls import current_call
from services.rpc.metadata import CallContext
from services.rpc.metrics import PrometheusInstruments, RpcMetrics
from services.rpc.serve import ingress
from tests.rpc.echo import FLOW, RPCS, EchoRequest, EchoResponse

LABELS = {"grpc_service": "tests.EchoService"}


class Context:
    """What the ingress uses of Serve's `RayServegRPCContext`."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = [("x-request-id", "job-9"), ("x-limelight-timeout-ms", "5000"), *pairs]
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: list[tuple[str, Any]] = []

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self.pairs

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing: list[tuple[str, Any]]) -> None:
        self.trailing = trailing


class EchoDeployment:
    """Echoes, and fails with `failure` where there is one, after the first response of a stream."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.registry = CollectorRegistry()
        self.rpc_metrics = RpcMetrics(PrometheusInstruments(self.registry), "server")
        self.failure = failure
        self.call: CallContext | None = None
        self.closed = False

    @ingress(RPCS["Unary"])
    async def unary(self, request: Any, call: CallContext) -> Any:
        self.call = call
        assert current_call() == call
        self._fail()
        return EchoResponse(text=request.text)

    @ingress(RPCS["ServerStream"])
    async def server_stream(self, request: Any, call: CallContext) -> AsyncIterator[Any]:
        try:
            for number in range(request.repeat):
                yield EchoResponse(text=f"{request.text}{number}")
                self._fail()
        finally:
            self.closed = True

    @ingress(RPCS["ClientStream"])
    async def client_stream(self, requests: AsyncIterator[Any], call: CallContext) -> Any:
        texts = [request.text async for request in requests]
        self._fail()
        return EchoResponse(text="".join(texts))

    @ingress(RPCS["Bidi"], FLOW)
    async def bidi(self, requests: AsyncIterator[Any], call: CallContext) -> AsyncIterator[Any]:
        async for request in requests:
            yield EchoResponse(text=request.text)
            self._fail()

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure

    def count(self, name: str, method: str, **labels: str) -> float:
        """The value of a counter for one method."""
        rpc = RPCS[method]
        labels = {**LABELS, "grpc_type": rpc.kind, "grpc_method": method, **labels}
        return self.registry.get_sample_value(f"grpc_server_{name}_total", labels) or 0.0


async def sent(texts: Sequence[str]) -> AsyncIterator[Any]:
    for text in texts:
        yield EchoRequest(text=text)


def reason_of(context: Context) -> tuple[str, str]:
    """The reason and the request id in the trailing metadata."""
    ((key, value),) = context.trailing
    assert key == "grpc-status-details-bin"
    status = status_pb2.Status.FromString(value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason, info.metadata["request_id"]


async def test_an_answer() -> None:
    deployment, context = EchoDeployment(), Context()
    response = await deployment.unary(EchoRequest(text="a"), context)
    assert response.text == "a"
    assert context.code is None
    assert deployment.call is not None
    assert deployment.call.request_id == "job-9"
    remaining = deployment.call.deadline.remaining_s()
    assert remaining is not None
    assert 0 < remaining <= 5
    assert deployment.count("handled", "Unary", grpc_code="OK") == 1


async def test_the_gateway_says_who_asks() -> None:
    deployment = EchoDeployment()
    pairs = (
        ("x-limelight-tenant", "acme"),
        ("x-limelight-key-id", "k1"),
        ("x-limelight-scopes", "b a"),
    )
    await deployment.unary(EchoRequest(), Context(*pairs))
    assert deployment.call is not None
    assert deployment.call.caller == Caller("acme", "k1", frozenset({"a", "b"}))
    labels = {"tenant": "acme", "grpc_method": "Unary", "grpc_code": "OK"}
    assert deployment.registry.get_sample_value("limelight_tenant_calls_total", labels) == 1


async def test_streams_count_their_messages() -> None:
    deployment = EchoDeployment()
    found = deployment.server_stream(EchoRequest(text="a", repeat=3), Context())
    assert [answer.text async for answer in found] == ["a0", "a1", "a2"]
    assert deployment.count("msg_received", "ServerStream") == 1
    assert deployment.count("msg_sent", "ServerStream") == 3

    assert (await deployment.client_stream(sent("xyz"), Context())).text == "xyz"
    assert deployment.count("msg_received", "ClientStream") == 3
    assert deployment.count("msg_sent", "ClientStream") == 1

    echoed = [answer.text async for answer in deployment.bidi(sent("xyz"), Context())]
    assert echoed == ["x", "y", "z", ""]  # the empty one says that no other comes
    assert deployment.count("msg_received", "Bidi") == 3
    assert deployment.count("msg_sent", "Bidi") == 3
    for method in ("ServerStream", "ClientStream", "Bidi"):
        assert deployment.count("handled", method, grpc_code="OK") == 1


async def test_a_refusal_keeps_its_details() -> None:
    path = FieldPath() / "queries" / 0
    failure = InvalidRequest(Reason.BOX_INVALID, "inside out", field=path)
    deployment, context = EchoDeployment(failure), Context()
    response = await deployment.unary(EchoRequest(text="a"), context)
    assert response == EchoResponse()
    assert (context.code, context.details) == (grpc.StatusCode.INVALID_ARGUMENT, "inside out")
    assert reason_of(context) == ("BOX_INVALID", "job-9")
    assert deployment.count("handled", "Unary", grpc_code="INVALID_ARGUMENT") == 1


@pytest.mark.parametrize("method", ["ServerStream", "Bidi"])
async def test_a_refusal_in_mid_stream_keeps_what_was_sent_and_its_details(method: str) -> None:
    deployment = EchoDeployment(InvalidRequest(Reason.BOX_INVALID, "inside out"))
    context = Context()
    if method == "Bidi":
        stream = deployment.bidi(sent("xyz"), context)
    else:
        stream = deployment.server_stream(EchoRequest(text="x", repeat=3), context)
    *answers, last = [answer async for answer in stream]
    assert len(answers) == 1
    assert last == EchoResponse()  # what carries the status to Serve's proxy
    assert context.code is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(context) == ("BOX_INVALID", "job-9")
    assert deployment.count("handled", method, grpc_code="INVALID_ARGUMENT") == 1
    assert deployment.count("msg_sent", method) == 1


@pytest.mark.breaks
async def test_a_fault_of_ours_tells_the_caller_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    deployment, context = EchoDeployment(ZeroDivisionError("secret")), Context()
    await deployment.unary(EchoRequest(), context)
    assert (context.code, context.details) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "ZeroDivisionError: secret" in caplog.text


async def test_cancellation_passes_through() -> None:
    deployment = EchoDeployment(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        await deployment.unary(EchoRequest(), Context())
    assert deployment.count("handled", "Unary", grpc_code="CANCELLED") == 1


async def test_a_stream_that_is_left_ends_and_is_counted() -> None:
    deployment = EchoDeployment()
    stream = deployment.server_stream(EchoRequest(repeat=9), Context())
    await anext(stream)
    await stream.aclose()
    assert deployment.closed
    assert deployment.count("handled", "ServerStream", grpc_code="CANCELLED") == 1


async def test_a_stream_that_waits_for_its_client_ends_with_its_deadline() -> None:
    async def silent() -> AsyncIterator[Any]:
        yield EchoRequest(text="x")
        while context.code is None:  # noqa: ASYNC110  (a plain attribute)
            await asyncio.sleep(0.01)

    deployment = EchoDeployment()
    context = Context(("x-limelight-timeout-ms", "200"))
    assert [answer.text async for answer in deployment.bidi(silent(), context)] == ["x", ""]
    assert context.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert reason_of(context) == ("DEADLINE_PASSED", "job-9")


def test_an_ingress_has_flow_control_where_both_sides_stream_and_nowhere_else() -> None:
    for method in ("Unary", "ServerStream", "ClientStream"):
        with pytest.raises(ValueError, match="flow control"):
            ingress(RPCS[method], FLOW)
    with pytest.raises(ValueError, match="flow control"):
        ingress(RPCS["Bidi"])
