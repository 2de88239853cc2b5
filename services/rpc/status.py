"""The one table from errors to gRPC statuses, and back for the services behind the gateway."""

from typing import cast

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from limelight.paths import FieldPath
from services import errors
from services.errors import Internal, Reason, ServiceError

DOMAIN = "limelight.v1"

# Most specific first: the first class an error is an instance of gives its status.
_CODES: tuple[tuple[type[ServiceError], grpc.StatusCode], ...] = (
    (errors.InvalidRequest, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.TooLarge, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.DeadlinePassed, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.DeadlineTooShort, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Idle, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Cancelled, grpc.StatusCode.CANCELLED),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
    (errors.NotDeployed, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Unknown, grpc.StatusCode.NOT_FOUND),
    (errors.NoSuchMethod, grpc.StatusCode.UNIMPLEMENTED),
    (errors.Internal, grpc.StatusCode.INTERNAL),
)

# What gRPC's core says of a message, sent or received, beyond its limit.
_TOO_LARGE = "larger than max"

# The class each reason comes back as, when a service behind the gateway sent it.
_CLASSES: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Idle,
}


def code_of(error: ServiceError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


def service_error(exc: BaseException) -> ServiceError:
    """What an exception of a handler means to the caller; an unknown one is a fault of ours."""
    if isinstance(exc, ServiceError):
        return exc
    return errors.out_of(exc) or Internal()


def is_callers_fault(error: ServiceError) -> bool:
    """Whether one log line will do: nothing of ours broke."""
    return not isinstance(error, errors.Internal | errors.Unavailable | errors.OutOf)


def rich_status(error: ServiceError, request_id: str) -> status_pb2.Status:
    """The status with ErrorInfo, and BadRequest or RetryInfo where they fit."""
    metadata = {"request_id": request_id}
    if error.field is not None:
        metadata["field"] = str(error.field)
    details = [
        error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=metadata)
    ]
    if isinstance(error, errors.InvalidRequest) and error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=str(error.field), description=error.message, reason=error.reason.value
        )
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after_s * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    packed = []
    for detail in details:
        box = any_pb2.Any()
        box.Pack(detail)
        packed.append(box)
    number = code_of(error).value[0]
    return status_pb2.Status(code=number, message=error.message, details=packed)


def trailing_metadata(status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries a rich status (gRPC's `grpc-status-details-bin`)."""
    return (("grpc-status-details-bin", status.SerializeToString()),)


def error_from_rpc(exc: grpc.RpcError, away: Reason) -> ServiceError:
    """What a peer's failure means here. `away` is the reason when the peer itself is the trouble.

    A rich status of ours comes back as the error it was. Anything else a peer can say (a replica
    died, a proxy's traceback) is the peer's trouble, and its text is kept out of the message. That
    includes a bare CANCELLED: gRPC's server says so of the calls that reach it while it stops,
    whereas a call that we cancel ourselves ends in `asyncio.CancelledError`.
    """
    code = exc.code()
    try:
        status = rpc_status.from_call(cast(grpc.Call, exc))
    except ValueError:  # details that contradict the status did not come from us
        status = None
    if status is not None:
        error = _error_from_status(status, code)
        if error is not None:
            return error
    match code:
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.DeadlinePassed()
        case grpc.StatusCode.RESOURCE_EXHAUSTED if _TOO_LARGE in (exc.details() or ""):
            return errors.TooLarge(
                Reason.ANSWER_TOO_LARGE, "a part of the answer is larger than a message may be"
            )
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.Overloaded(
                Reason.OVERLOADED, "the service is at its limit", retry_after_s=1.0
            )
    name = away.value.removesuffix("_UNAVAILABLE").lower()
    return errors.Unavailable(away, f"the {name} does not answer ({code.name})", retry_after_s=1.0)


def _error_from_status(status: status_pb2.Status, code: grpc.StatusCode) -> ServiceError | None:
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    retry_after_s: float | None = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(retry.DESCRIPTOR):
            detail.Unpack(retry)
            retry_after_s = retry.retry_delay.ToTimedelta().total_seconds()
    if info.domain != DOMAIN or info.reason not in Reason.__members__:
        return None
    reason = Reason(info.reason)
    match reason:
        case Reason.DEADLINE_PASSED:
            return errors.DeadlinePassed(status.message)
        case Reason.DEADLINE_TOO_SHORT:
            return errors.DeadlineTooShort(status.message)
        case Reason.CANCELLED:
            return errors.Cancelled(status.message)
        case Reason.INTERNAL:
            return errors.Internal()
    kind = _CLASSES.get(code)
    if kind is None:
        kind = errors.Overloaded if reason is Reason.OVERLOADED else errors.TooLarge
    return kind(
        reason,
        status.message,
        field=_path(info.metadata.get("field", "")),
        retry_after_s=retry_after_s,
    )


def _path(text: str) -> FieldPath | None:
    try:
        return FieldPath.parse(text) if text else None
    except ValueError:
        return None  # a newer peer's way of writing it: better no field than a wrong one
