"""What a failed call tells the caller: the status, the service's reason, and what to do about it.

The last station of an error's way: the service packs its reason into `grpc-status-details-bin`
(`google.rpc.Status` with `ErrorInfo`, `BadRequest`, `RetryInfo`), and here it is read again.
"""

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from limelight.faults import pickled
from limelight.proxies import Proxy

_DETAILS = "grpc-status-details-bin"
# What gRPC's core says of a call that never left this process because no connection could be made.
_NEVER_SENT = (
    "failed to connect",
    "dns resolution failed",
    "no address added",
    "errors resolving",
)
# What it says of a call that was under way when this process closed its own channel.
_OWN_CHANNEL_CLOSED = "channel closed"
# Refusals that a service of ours makes before or instead of the work.
_REFUSALS = frozenset({"DRAINING", "PLANNER_UNAVAILABLE", "SEGMENTER_UNAVAILABLE"})


class LimelightError(Exception):
    """A call that failed.

    Attributes:
        code: the gRPC status.
        reason: the name of an `ErrorReason` of the contract without its prefix
            (`IMAGE_CORRUPT`), or "" where the failure did not come from the service.
        field: the part of the request at fault (`queries[2].exemplars[0].box`), or None.
        message: for a person.
        retry_after: seconds after which the service asks to be tried again, or None.
        request_id: finds the call in the service's logs.
        proxy: where the failure did not come from the service, the proxy that the call went through
            and the variable that names it, without user and password; or None.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        field: str | None = None,
        retry_after: float | None = None,
        request_id: str = "",
        proxy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.field = field
        self.retry_after = retry_after
        self.request_id = request_id
        self.proxy = proxy

    def __reduce__(self) -> Any:
        return pickled(self)

    def __str__(self) -> str:
        where = f" (field {self.field})" if self.field else ""
        return f"{self.reason or self.code.name}: {self.message}{where}"

    @property
    def safe_to_retry(self) -> bool:
        """Whether the work was certainly not done, so that asking again repeats nothing.

        That is so when no connection could be made, when the service refused before the work, and
        when it was full and said when to come again. A connection lost half-way is not safe.
        `docs/retries.md` has the whole table.
        """
        return self.full or self.away

    @property
    def full(self) -> bool:
        """Whether the service had no room, and said when to come again."""
        return self.code is grpc.StatusCode.RESOURCE_EXHAUSTED and self.retry_after is not None

    @property
    def away(self) -> bool:
        """Whether the service, or a part of it, is not there: the work was not begun, and what has
        ended is started again in seconds.
        """
        if self.code is not grpc.StatusCode.UNAVAILABLE:
            return False
        return self.reason in _REFUSALS or self.unreachable

    @property
    def lost(self) -> bool:
        """Whether the connection or the process at its other end went away before the answer.

        The work may have been done, or not. A gRPC server that stops tells CANCELLED to calls that
        reach it in that moment; a call that this process cancels does not get here.
        """
        if self.reason or self.unreachable or _OWN_CHANNEL_CLOSED in self.message.lower():
            return False
        return self.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

    @property
    def unreachable(self) -> bool:
        """Whether nothing answered at the address at all."""
        text = self.message.lower()
        return (
            self.code is grpc.StatusCode.UNAVAILABLE
            and not self.reason
            and any(phrase in text for phrase in _NEVER_SENT)
        )


class ClientStateError(RuntimeError):
    """A client that cannot make calls: it is closed, or belongs to another event loop."""


def from_rpc(exc: grpc.RpcError, request_id: str, proxy: Proxy | None = None) -> LimelightError:
    """The error behind a failed call, sync or async.

    Args:
        exc: gRPC's own.
        request_id: the one that was sent.
        proxy: that the channel goes through.
    """
    code = exc.code()
    message = exc.details() or code.name
    status = _rich_status(exc)
    if status is None:
        if proxy is None:
            return LimelightError(code, message, request_id=request_id)
        return LimelightError(
            code,
            f"{message}; the call went through the proxy {proxy}",
            request_id=request_id,
            proxy=str(proxy),
        )
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    field: str | None = None
    retry_after: float | None = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(bad_request.DESCRIPTOR):
            detail.Unpack(bad_request)
            field = next((fault.field for fault in bad_request.field_violations), None)
        elif detail.Is(retry.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    return LimelightError(
        code,
        status.message or message,
        reason=info.reason,
        field=field or info.metadata.get("field"),
        retry_after=retry_after,
        request_id=info.metadata.get("request_id") or request_id,
    )


def _rich_status(exc: grpc.RpcError) -> status_pb2.Status | None:
    trailing: Any = exc.trailing_metadata() or ()
    for key, value in trailing:
        if key == _DETAILS:
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                return None  # a proxy's own idea of details; the plain status still stands
    return None
