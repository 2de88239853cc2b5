"""Traces: one for each request, with spans from the gateway and the replicas it calls.

W3C's trace context (`traceparent`) travels beside the request id, so a client's own trace goes on
here. Spans are sent to an OTLP receiver in the background; without one configured, nothing is
recorded, and OpenTelemetry's SDK is not even imported.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from limelight.proxies import local_options
from services.rpc.calls import current_call
from services.rpc.metadata import TRACEPARENT, CallContext

_PROPAGATOR = TraceContextTextMapPropagator()


@dataclass(slots=True)
class TracedCall:
    """A call and its span: `call` is what to hand on, `code` the name of its status once known."""

    call: CallContext
    code: str = "OK"


class Tracing:
    """The spans of one process. There is one instance, `TRACING`: a process has one receiver."""

    def __init__(self) -> None:
        self._tracer: Any = None
        self._provider: Any = None

    def configure(self, endpoint: str, service: str, ratio: float, **attributes: str) -> None:
        """Send spans to the OTLP receiver at `endpoint`, host:port; to nobody if that is empty.

        Args:
            endpoint: of an OTLP receiver that speaks gRPC, without TLS.
            service: the process's `service.name`.
            ratio: the share of traces that begin here to record; those begun elsewhere are
                recorded if they are recorded there.
            attributes: of the process.
        """
        if not endpoint:
            return
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        self._provider = TracerProvider(
            resource=Resource({"service.name": service, **attributes}),
            sampler=ParentBased(TraceIdRatioBased(ratio)),
        )
        exporter = OTLPSpanExporter(
            endpoint=f"http://{endpoint}",
            insecure=True,
            channel_options=local_options(endpoint) or None,  # type: ignore[arg-type]
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("limelight")

    def close(self) -> None:
        """Send what is recorded, and record nothing more."""
        if self._provider is not None:
            self._provider.shutdown()
        self._tracer = self._provider = None

    @contextmanager
    def span(
        self, path: str, kind: Literal["server", "client"], call: CallContext
    ) -> Iterator[TracedCall]:
        """The span of one RPC, under the one that `call` came with."""
        traced = TracedCall(call)
        if self._tracer is None:
            yield traced
            return
        service, _, method = path.lstrip("/").partition("/")
        span = self._tracer.start_span(
            path.lstrip("/"),
            context=_extracted(call),
            kind=SpanKind.SERVER if kind == "server" else SpanKind.CLIENT,
            attributes={
                "rpc.system": "grpc",
                "rpc.service": service,
                "rpc.method": method,
                "limelight.request_id": call.request_id,
            },
        )
        traced.call = replace(call, traceparent=_injected(span))
        try:
            yield traced
        finally:
            span.set_attribute("limelight.tenant", traced.call.caller.tenant)
            span.set_attribute("rpc.grpc.status", traced.code)
            if traced.code != "OK":
                span.set_status(Status(StatusCode.ERROR, traced.code))
            span.end()

    def stage(self, name: str, seconds: float) -> None:
        """The span of a stage of the current call, which ended now."""
        if self._tracer is None:
            return
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            name, context=_extracted(current_call()), start_time=end_ns - int(seconds * 1e9)
        )
        span.end(end_time=end_ns)


TRACING = Tracing()


def _extracted(call: CallContext) -> Context:
    """OpenTelemetry's context of the span that a call came with."""
    return _PROPAGATOR.extract({TRACEPARENT: call.traceparent})


def _injected(span: Span) -> str:
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return carrier.get(TRACEPARENT, "")
