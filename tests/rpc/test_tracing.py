"""Spans go to an OTLP receiver, under the caller's; without one, calls pass as they came."""

from collections.abc import Iterator

import pytest

from services.caller import Caller
from services.rpc.calls import set_current_call
from services.rpc.metadata import CallContext, from_metadata, to_metadata
from services.rpc.tracing import Tracing
from tests.rpc.otlp import Receiver, receiving

PATH = "/limelight.v1.LimelightService/Segment"
CALL = CallContext("job-1", caller=Caller("acme"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture
def tracing(receiver: Receiver) -> Iterator[Tracing]:
    made = Tracing()
    made.configure(receiver.address, "limelight-test", 1.0)
    yield made
    made.close()


def test_a_call_and_its_stages_are_one_trace(tracing: Tracing, receiver: Receiver) -> None:
    with tracing.span(PATH, "server", CALL) as outer:
        set_current_call(outer.call)
        tracing.stage("read", 0.5)
        with tracing.span("/limelight.internal.v1.S/M", "client", outer.call) as inner:
            inner.code = "UNAVAILABLE"
    tracing.close()
    spans = {span.name: span for span in receiver.spans}
    segment = spans["limelight.v1.LimelightService/Segment"]
    assert segment.parent == ""
    assert segment.service == "limelight-test"
    assert segment.attributes["limelight.request_id"] == "job-1"
    assert segment.attributes["limelight.tenant"] == "acme"
    assert segment.attributes["rpc.grpc.status"] == "OK"
    assert spans["read"].parent == segment.span
    assert spans["read"].seconds == pytest.approx(0.5, abs=1e-3)
    asked = spans["limelight.internal.v1.S/M"]
    assert (asked.parent, asked.attributes["rpc.grpc.status"]) == (segment.span, "UNAVAILABLE")
    assert {span.trace for span in spans.values()} == {segment.trace}


def test_a_trace_goes_on_across_processes(tracing: Tracing, receiver: Receiver) -> None:
    with tracing.span(PATH, "client", CALL) as sent:
        received = from_metadata(to_metadata(sent.call), trusted=True)
        with tracing.span(PATH, "server", received):
            pass
    tracing.close()
    server, client = receiver.spans
    assert (server.trace, server.parent) == (client.trace, client.span)


def test_a_clients_own_trace_goes_on(tracing: Tracing, receiver: Receiver) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    call = from_metadata((("traceparent", parent),), trusted=False)
    with tracing.span(PATH, "server", call):
        pass
    tracing.close()
    (span,) = receiver.spans
    assert (span.trace, span.parent) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")


def test_what_the_caller_does_not_trace_is_not_recorded(
    tracing: Tracing, receiver: Receiver
) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    call = from_metadata((("traceparent", parent),), trusted=False)
    with tracing.span(PATH, "server", call):
        pass
    tracing.close()
    assert receiver.spans == []


@pytest.mark.parametrize("parent", ["nonsense", "00-0-0-00", "x" * 500])
def test_a_trace_that_is_none_is_left_out(
    tracing: Tracing, receiver: Receiver, parent: str
) -> None:
    call = from_metadata((("traceparent", parent),), trusted=False)
    with tracing.span(PATH, "server", call):
        pass
    tracing.close()
    assert [span.parent for span in receiver.spans] == [""]


def test_without_a_receiver_nothing_changes() -> None:
    tracing = Tracing()
    tracing.configure("", "limelight-test", 1.0)
    with tracing.span(PATH, "server", CALL) as traced:
        assert traced.call is CALL
    tracing.stage("read", 1.0)  # no current call is needed
    tracing.close()


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_receiver_on_this_machine_is_reached_past_a_proxy(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    tracing = Tracing()
    tracing.configure(receiver.address, "limelight-test", 1.0)
    with tracing.span(PATH, "server", CALL):
        pass
    tracing.close()
    assert len(receiver.spans) == 1
