"""An RPC as code handles it: where it is, which of the four kinds it is, what it answers.

Read from the contract's descriptors, so that no path or kind is written twice.
"""

from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from limelight.paths import FieldPath


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC of a service.

    Attributes:
        service: full name, `limelight.v1.LimelightService`.
        method: `Segment`.
        client_streaming, server_streaming: whether there are many requests, many responses.
        request, response: the messages' classes.
    """

    service: str
    method: str
    client_streaming: bool
    server_streaming: bool
    request: type[Message]
    response: type[Message]

    @classmethod
    def of(cls, method: MethodDescriptor) -> "Rpc":
        return cls(
            service=method.containing_service.full_name,
            method=method.name,
            client_streaming=method.client_streaming,
            server_streaming=method.server_streaming,
            request=GetMessageClass(method.input_type),
            response=GetMessageClass(method.output_type),
        )

    @property
    def path(self) -> str:
        """`/limelight.v1.LimelightService/Segment`."""
        return f"/{self.service}/{self.method}"

    @property
    def kind(self) -> str:
        """As go-grpc-prometheus labels it."""
        return rpc_kind(self.client_streaming, self.server_streaming)


def rpcs(file: Any, service: str) -> dict[str, Rpc]:
    """The RPCs of the service named `service` in a generated module, by method name."""
    methods = file.DESCRIPTOR.services_by_name[service].methods
    return {method.name: Rpc.of(method) for method in methods}


def rpc_kind(client_streaming: bool, server_streaming: bool) -> str:
    """unary, server_stream, client_stream or bidi_stream."""
    match client_streaming, server_streaming:
        case False, False:
            return "unary"
        case False, True:
            return "server_stream"
        case True, False:
            return "client_stream"
    return "bidi_stream"


@dataclass(frozen=True, slots=True)
class MethodPolicy:
    """How a server holds the calls of one RPC.

    Attributes:
        default_timeout_s: time for a call whose caller sets no deadline.
        max_timeout_s: a longer deadline is cut to this.
        max_open: calls open at once, beyond which new ones are refused; None: no bound. Streams
            stay open as long as their callers like, so theirs should have one.
        answer_field: the request's field that decides most about how large an answer is.
    """

    default_timeout_s: float
    max_timeout_s: float
    max_open: int | None = None
    answer_field: FieldPath | None = None

    def granted_s(self, remaining_s: float | None) -> float:
        """Seconds a call gets of the `remaining_s` its caller asked for."""
        asked = self.default_timeout_s if remaining_s is None else remaining_s
        return min(asked, self.max_timeout_s)
