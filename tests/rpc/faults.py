"""Reading a failed call the way a standard client does."""

from dataclasses import dataclass

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status


@dataclass(frozen=True)
class Fault:
    """A failed call: its status, and what its rich details say."""

    code: grpc.StatusCode
    message: str
    reason: str
    request_id: str
    field: str | None
    retry_after_s: float | None


def fault_of(exc: grpc.RpcError) -> Fault:
    status = rpc_status.from_call(exc)
    assert status is not None, f"no rich status: {exc.code()} {exc.details()}"
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    present = set()
    for detail in status.details:
        for message in (info, bad, retry):
            if detail.Unpack(message):
                present.add(message.DESCRIPTOR.name)
    assert info.domain == "limelight.v1"
    field = info.metadata.get("field")
    if "BadRequest" in present:
        assert bad.field_violations[0].field == field
    delay = retry.retry_delay.ToTimedelta().total_seconds() if "RetryInfo" in present else None
    return Fault(exc.code(), status.message, info.reason, info.metadata["request_id"], field, delay)
