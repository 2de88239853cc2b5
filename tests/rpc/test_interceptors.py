"""What every call of a public server goes through, whichever of the four kinds it is."""

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from limelight.paths import FieldPath
from services import logs
from services.caller import Caller
from services.errors import InvalidRequest, Overloaded, Reason
from services.rpc.calls import current_call
from services.rpc.interceptors import CallInterceptor
from services.rpc.metadata import CallContext, RawPairs
from services.rpc.methods import MethodPolicy
from services.rpc.metrics import PrometheusInstruments, RpcMetrics
from tests.conftest import Clock, Until
from tests.rpc import raw_http2
from tests.rpc.echo import RPCS, SERVICE, EchoRequest, EchoResponse
from tests.rpc.echo import add_EchoServiceServicer_to_server as add
from tests.rpc.faults import fault_of

POLICY = MethodPolicy(default_timeout_s=100, max_timeout_s=200, max_open=2)
KINDS = tuple(RPCS)


class Handlers:
    """Echoes, and fails with `failure` after the first message, or waits for `hold`."""

    def __init__(self) -> None:
        self.calls: list[CallContext] = []
        self.failure: Exception | None = None
        self.hold: asyncio.Event | None = None
        self.cancelled = 0
        self.copies = 1
        """How often a stream of responses repeats the text in each."""
        self.at_home: list[bool] = []
        """Whether each call was ended in the task that it began in."""

    async def _after_first(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.failure is not None:
            raise self.failure

    @contextmanager
    def _called(self) -> Iterator[None]:
        """Notes the call, and a caller that leaves, wherever the handler is."""
        self.calls.append(current_call())
        task = asyncio.current_task()
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.at_home.append(asyncio.current_task() is task)

    async def Unary(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._called():
            await self._after_first()
            return EchoResponse(text=request.text)

    async def ServerStream(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        with self._called():
            for _ in range(3):
                yield EchoResponse(text=self.copies * request.text)
                await self._after_first()

    async def ClientStream(self, requests: Any, context: Any) -> Any:  # noqa: N802
        with self._called():
            texts = [request.text async for request in requests]
            await self._after_first()
            return EchoResponse(text="".join(texts))

    async def Bidi(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        with self._called():
            async for request in requests:
                yield EchoResponse(text=request.text)
                await self._after_first()


class Served:
    """A running server, and how to call it."""

    def __init__(self, channel: grpc.aio.Channel, handlers: Handlers, address: str) -> None:
        self._channel = channel
        self.address = address
        self.handlers = handlers
        self.registry = CollectorRegistry()

    def start(self, method: str, more: bool = True, **options: Any) -> Any:
        """The call, under way; without `more`, a stream of requests rests after its first.

        A client of grpc.aio that writes to a stream just as it fails loses the stream's status.
        """
        rpc = RPCS[method]
        make = {
            "unary": self._channel.unary_unary,
            "server_stream": self._channel.unary_stream,
            "client_stream": self._channel.stream_unary,
            "bidi_stream": self._channel.stream_stream,
        }[rpc.kind]
        call = make(
            rpc.path,
            request_serializer=EchoRequest.SerializeToString,
            response_deserializer=EchoResponse.FromString,
        )
        one = EchoRequest(text="a")
        return call(_three(more) if rpc.client_streaming else one, **options)

    async def texts(self, method: str, more: bool = True, **options: Any) -> list[str]:
        """The responses of a call, to its end."""
        call = self.start(method, more, **options)
        if RPCS[method].server_streaming:
            return [response.text async for response in call]
        return [(await call).text]

    def count(self, name: str, method: str, **labels: str) -> float:
        labels |= {"grpc_service": SERVICE, "grpc_method": method, "grpc_type": RPCS[method].kind}
        return self.registry.get_sample_value(f"grpc_server_{name}_total", labels) or 0.0


async def _three(more: bool) -> AsyncIterator[Any]:
    yield EchoRequest(text="a")
    if not more:
        await asyncio.Event().wait()
    for _ in range(2):
        yield EchoRequest(text="a")


@asynccontextmanager
async def serving(
    policies: dict[str, MethodPolicy] | None = None, authenticate: Any = None, **more: Any
) -> AsyncIterator[Served]:
    if policies is None:
        policies = {rpc.path: POLICY for rpc in RPCS.values()}
    registry = CollectorRegistry()
    given = more if authenticate is None else {"authenticate": authenticate, **more}
    metrics = RpcMetrics(PrometheusInstruments(registry), "server")
    server = grpc.aio.server(interceptors=[CallInterceptor(metrics, policies, **given)])
    handlers = Handlers()
    add(handlers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        served = Served(channel, handlers, f"127.0.0.1:{port}")
        served.registry = registry
        yield served
    await server.stop(None)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest.mark.parametrize("method", KINDS)
async def test_a_call_is_answered_timed_and_counted(served: Served, method: str) -> None:
    call = served.start(method, metadata=(("x-request-id", "job-3"),))
    assert dict(await call.initial_metadata())["x-request-id"] == "job-3"
    texts = await served.texts(method)
    sent, received = len(texts), 3 if RPCS[method].client_streaming else 1
    assert served.count("msg_sent", method) >= sent
    assert served.count("msg_received", method) >= received
    assert served.count("handled", method, grpc_code="OK") >= 1
    remaining = served.handlers.calls[-1].deadline.remaining_s()
    assert remaining is not None
    assert 0 < remaining <= POLICY.default_timeout_s


async def test_a_longer_deadline_is_cut_and_a_shorter_one_kept(served: Served) -> None:
    for timeout, most in ((1000, POLICY.max_timeout_s), (50, 50)):
        await served.texts("Unary", timeout=timeout)
        remaining = served.handlers.calls[-1].deadline.remaining_s()
        assert remaining is not None
        assert most - 40 < remaining <= most + 1  # gRPC rounds


async def test_each_method_has_its_own_time() -> None:
    policies = {rpc.path: POLICY for rpc in RPCS.values()}
    policies[RPCS["Bidi"].path] = MethodPolicy(0.5, 200)
    async with serving(policies) as served:
        served.handlers.hold = asyncio.Event()
        with pytest.raises(grpc.RpcError) as late:
            await served.texts("Bidi", more=False)
        assert fault_of(late.value).reason == "DEADLINE_PASSED"
        assert served.count("handled", "Bidi", grpc_code="DEADLINE_EXCEEDED") == 1
        served.handlers.hold.set()
        assert await served.texts("ServerStream") == ["a"] * 3


@pytest.mark.parametrize("method", KINDS)
async def test_an_error_keeps_its_details_and_what_was_sent_before(
    served: Served, method: str
) -> None:
    path = FieldPath(("text",))
    served.handlers.failure = InvalidRequest(Reason.BOX_INVALID, "inside out", field=path)
    with pytest.raises(grpc.RpcError) as caught:
        await served.texts(method, more=method == "ClientStream")
    fault = fault_of(caught.value)
    assert (fault.reason, fault.field) == ("BOX_INVALID", "text")
    assert fault.request_id == served.handlers.calls[-1].request_id
    assert served.count("handled", method, grpc_code="INVALID_ARGUMENT") == 1
    assert served.count("msg_sent", method) == (1 if RPCS[method].server_streaming else 0)


@pytest.mark.breaks
@pytest.mark.parametrize("method", KINDS)
async def test_a_fault_of_ours_tells_the_id_and_nothing_else(
    served: Served, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    served.handlers.failure = ZeroDivisionError("secret")
    with pytest.raises(grpc.RpcError) as caught:
        await served.texts(method, more=method == "ClientStream")
    fault = fault_of(caught.value)
    assert (fault.reason, fault.message) == ("INTERNAL", "internal error")
    assert "ZeroDivisionError: secret" in caplog.text


@pytest.mark.parametrize("method", KINDS)
async def test_cancellation_reaches_the_handler_and_is_counted(
    served: Served, method: str, until: Until
) -> None:
    served.handlers.hold = asyncio.Event()
    call = served.start(method)
    await until(lambda: served.handlers.calls)
    if RPCS[method].server_streaming:
        await call.read()
    elif method == "ClientStream":
        await until(lambda: served.count("msg_received", method) == 3)
    call.cancel()
    await until(lambda: served.handlers.cancelled == 1)
    await until(lambda: served.count("handled", method, grpc_code="CANCELLED") == 1)


async def test_a_stream_that_is_cut_off_while_it_writes_cleans_up_after_itself(
    served: Served, until: Until
) -> None:
    """In its own task, and not whenever the garbage collector finds its generators."""
    served.handlers.copies = 8 << 20  # more than a connection holds of what nobody reads
    served.handlers.hold = asyncio.Event()
    call = served.start("ServerStream")
    await until(lambda: served.count("msg_sent", "ServerStream") == 1)
    call.cancel()
    await until(lambda: served.handlers.at_home)
    assert served.handlers.at_home == [True]


async def test_a_method_has_only_so_many_open_calls(served: Served, until: Until) -> None:
    served.handlers.hold = asyncio.Event()
    open_calls = [served.start("ServerStream") for _ in range(2)]
    await until(lambda: len(served.handlers.calls) == 2)
    with pytest.raises(grpc.RpcError) as refused:
        await served.texts("ServerStream")
    fault = fault_of(refused.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert fault.retry_after_s is not None
    assert len(served.handlers.calls) == 2
    for call in open_calls:
        call.cancel()
    await until(lambda: served.handlers.cancelled == 2)
    served.handlers.hold = None
    await until(lambda: served.count("handled", "ServerStream", grpc_code="CANCELLED") == 2)
    assert await served.texts("ServerStream") == ["a"] * 3


async def test_who_asks_is_known_before_the_handler_runs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def authenticate(metadata: RawPairs) -> Caller:
        key = dict(metadata).get("authorization")
        if key != "good":
            raise Overloaded(Reason.OVERLOADED, "this key is used up", retry_after_s=9.0)
        return Caller("acme", "key-7")

    caplog.set_level(logging.INFO)
    async with serving(authenticate=authenticate) as served:
        claims = (("authorization", "good"), ("x-limelight-tenant", "somebody-else"))
        await served.texts("Unary", metadata=claims)
        assert served.handlers.calls[-1].caller == Caller("acme", "key-7")
        with pytest.raises(grpc.RpcError) as refused:
            # Not one that streams requests: grpc loses a status that comes while it writes.
            await served.texts("ServerStream")
        assert fault_of(refused.value).retry_after_s == 9.0
        assert len(served.handlers.calls) == 1
        tenant = {"tenant": "acme", "grpc_method": "Unary", "grpc_code": "OK"}
        assert served.registry.get_sample_value("limelight_tenant_calls_total", tenant) == 1


async def test_a_method_without_a_policy_is_neither_timed_nor_authenticated() -> None:
    async def refuse(metadata: RawPairs) -> Caller:
        raise AssertionError("asked")

    async with serving(policies={}, authenticate=refuse) as served:
        assert await served.texts("Unary") == ["a"]
        assert served.handlers.calls[-1].deadline.remaining_s() is None
        assert served.count("handled", "Unary", grpc_code="OK") == 1


@pytest.mark.parametrize("method", KINDS)
async def test_a_call_ends_a_little_early_so_that_its_caller_hears_why(
    served: Served, until: Until, clock: Clock, method: str
) -> None:
    served.handlers.hold = asyncio.Event()
    call = asyncio.create_task(served.texts(method, timeout=150))
    await until(lambda: served.handlers.calls)
    clock.advance(149.95)  # gRPC's own clocks, the client's too, have all of it left
    with pytest.raises(grpc.RpcError) as caught:
        await call
    fault = fault_of(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_PASSED")


@pytest.mark.parametrize("method", KINDS)
async def test_a_request_that_is_no_message_is_refused_by_name(
    served: Served, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    rpc = RPCS[method]
    make = {
        "unary": served._channel.unary_unary,
        "server_stream": served._channel.unary_stream,
        "client_stream": served._channel.stream_unary,
        "bidi_stream": served._channel.stream_stream,
    }[rpc.kind]

    async def one() -> AsyncIterator[bytes]:
        yield b"\x0a\x01\xff"

    call = make(rpc.path)(one() if rpc.client_streaming else b"\x0a\x01\xff")

    async def ended() -> None:
        if rpc.server_streaming:
            async for _ in call:
                pass
        else:
            await call

    with pytest.raises(grpc.RpcError) as caught:
        await ended()
    fault = fault_of(caught.value)
    assert (fault.code, fault.reason, fault.field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "REQUEST_MALFORMED",
        "text",
    )
    assert not any(record.exc_info for record in caplog.records)
    assert served.count("handled", method, grpc_code="INVALID_ARGUMENT") == 1


@pytest.mark.parametrize("method", KINDS)
async def test_metadata_that_cannot_be_read_is_refused_by_name(served: Served, method: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        await served.texts(method, more=False, metadata=(("x-limelight-timeout-ms", "9" * 400),))
    fault = fault_of(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "METADATA_INVALID")
    assert fault.field == "metadata.x-limelight-timeout-ms"
    assert served.handlers.calls == []


@pytest.mark.parametrize("method", KINDS)
async def test_an_answer_too_large_to_send_is_told(method: str) -> None:
    async with serving(max_answer_bytes=2) as served:
        with pytest.raises(grpc.RpcError) as caught:
            await served.texts(method, more=method != "Bidi")
    fault = fault_of(caught.value)
    assert (fault.code, fault.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")
    assert fault.retry_after_s is None


@pytest.mark.parametrize("method", KINDS)
async def test_a_caller_that_takes_less_is_told_too(method: str) -> None:
    async with serving(max_answer_bytes=1000) as served:
        small = (("x-limelight-max-answer-bytes", "2"),)
        with pytest.raises(grpc.RpcError) as caught:
            await served.texts(method, more=method != "Bidi", metadata=small)
        assert fault_of(caught.value).reason == "ANSWER_TOO_LARGE"
        assert await served.texts(method, more=True)  # of others nothing is asked


async def test_an_unknown_method_is_told_whatever_its_kind(served: Served) -> None:
    path = f"/{SERVICE}/Nothing"

    async def none() -> AsyncIterator[bytes]:
        for message in ():
            yield message

    for call in (
        served._channel.unary_unary(path)(b"anything"),
        served._channel.stream_unary(path)(none()),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            await call
        fault = fault_of(caught.value)
        assert (fault.code, fault.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN")
    # A name that a stranger makes up is no series of the metrics.
    names = {
        sample.labels["grpc_method"]
        for metric in served.registry.collect()
        for sample in metric.samples
        if "grpc_method" in sample.labels
    }
    assert "unknown" in names
    assert "Nothing" not in names


async def test_headers_that_are_not_ascii_are_refused_without_a_traceback() -> None:
    written = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure("INFO", written)
    try:
        async with serving() as served:
            frames = await raw_http2.unary(
                served.address, RPCS["Unary"].path, b"", [(b"x-request-id", b"\xff\xfe")]
            )
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert b"x-request-id must be ASCII" in b"".join(payload for _, payload in frames)
    assert "METADATA_INVALID" in written.getvalue()
    assert "Traceback" not in written.getvalue()
