"""An echo service with all four kinds of RPC, as protobuf describes one, without generated files.

Tests put it behind a gateway's interceptor and behind Ray Serve, whose proxy finds
`add_EchoServiceServicer_to_server` by its import path as it finds generated ones.
"""

from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message_factory import GetMessageClass

from services.rpc.credits import FlowControl
from services.rpc.methods import Rpc

_FIELD = descriptor_pb2.FieldDescriptorProto


def _field(name: str, number: int, kind: "_FIELD.Type.ValueType") -> _FIELD:
    return _FIELD(name=name, number=number, type=kind, label=_FIELD.LABEL_OPTIONAL)


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/echo.proto", package="tests", syntax="proto3"
    )
    request = file.message_type.add(name="EchoRequest")
    # `repeat`: how many responses; `fail_after`: fail after so many messages, 0 for never;
    # `credits` and `finish`: flow control.
    request.field.extend(
        [
            _field("text", 1, _FIELD.TYPE_STRING),
            _field("repeat", 2, _FIELD.TYPE_INT32),
            _field("fail_after", 3, _FIELD.TYPE_INT32),
            _field("credits", 4, _FIELD.TYPE_INT32),
            _field("finish", 5, _FIELD.TYPE_BOOL),
        ]
    )
    response = file.message_type.add(name="EchoResponse")
    response.field.extend(
        [
            _field("text", 1, _FIELD.TYPE_STRING),
            _field("credits", 2, _FIELD.TYPE_INT32),
            _field("caller", 3, _FIELD.TYPE_STRING),
        ]
    )
    service = file.service.add(name="EchoService")
    for name, client, server in (
        ("Unary", False, False),
        ("ServerStream", False, True),
        ("ClientStream", True, False),
        ("Bidi", True, True),
    ):
        service.method.add(
            name=name,
            input_type=".tests.EchoRequest",
            output_type=".tests.EchoResponse",
            client_streaming=client,
            server_streaming=server,
        )
    return file


_POOL = descriptor_pool.DescriptorPool()
_POOL.Add(_file())
EchoRequest: Any = GetMessageClass(_POOL.FindMessageTypeByName("tests.EchoRequest"))
EchoResponse: Any = GetMessageClass(_POOL.FindMessageTypeByName("tests.EchoResponse"))


def _give_back(response: Any, credits: int) -> None:
    response.credits = credits


FLOW = FlowControl(
    window=8,
    acknowledge=lambda count: EchoRequest(credits=count),
    finish=lambda: EchoRequest(finish=True),
    credits_of=lambda message: message.credits,
    give_back=_give_back,
    is_finish=lambda request: request.finish,
)
SERVICE = "tests.EchoService"
RPCS = {
    method.name: Rpc.of(method) for method in _POOL.FindServiceByName("tests.EchoService").methods
}


def add_EchoServiceServicer_to_server(servicer: Any, server: Any) -> None:  # noqa: N802
    """Register `servicer`'s four methods, as a generated function does."""
    makers = {
        "unary": grpc.unary_unary_rpc_method_handler,
        "server_stream": grpc.unary_stream_rpc_method_handler,
        "client_stream": grpc.stream_unary_rpc_method_handler,
        "bidi_stream": grpc.stream_stream_rpc_method_handler,
    }
    handlers = {
        name: makers[rpc.kind](
            getattr(servicer, name),
            request_deserializer=EchoRequest.FromString,
            response_serializer=EchoResponse.SerializeToString,
        )
        for name, rpc in RPCS.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
