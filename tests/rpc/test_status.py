"""The table from errors to statuses, there and back."""

import errno
from typing import Any

import grpc
import pytest

from limelight.paths import FieldPath
from limelight.v1 import errors_pb2
from services import errors
from services.errors import Reason, ServiceError
from services.rpc.status import (
    code_of,
    error_from_rpc,
    is_callers_fault,
    rich_status,
    service_error,
    trailing_metadata,
)


class Failed(grpc.RpcError):
    """A failed call as grpc gives it to a client."""

    def __init__(self, code: grpc.StatusCode, details: str, metadata: tuple[Any, ...] = ()) -> None:
        self._code, self._details, self._metadata = code, details, metadata

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def trailing_metadata(self) -> tuple[Any, ...]:
        return self._metadata


def sent(error: ServiceError) -> Failed:
    status = rich_status(error, "r1")
    return Failed(code_of(error), status.message, trailing_metadata(status))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (
            errors.InvalidMedia(
                Reason.IMAGE_CORRUPT, "cut off", field=FieldPath.parse("image.content")
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            errors.InvalidRequest(
                Reason.BOX_INVALID, "inside out", field=FieldPath.parse("queries[0]")
            ),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            errors.Overloaded(Reason.OVERLOADED, "full", retry_after_s=1.5),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
        (
            errors.TooLarge(
                Reason.MASKS_TOO_LARGE, "too big", field=FieldPath.parse("image.content")
            ),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
        (errors.DeadlinePassed(), grpc.StatusCode.DEADLINE_EXCEEDED),
        (errors.Cancelled(), grpc.StatusCode.CANCELLED),
        (
            errors.Unavailable(Reason.DRAINING, "going", retry_after_s=1.0),
            grpc.StatusCode.UNAVAILABLE,
        ),
        (errors.Internal(), grpc.StatusCode.INTERNAL),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else type(value).__name__,
)
def test_there_and_back(error: ServiceError, code: grpc.StatusCode) -> None:
    failed = sent(error)
    assert failed.code() is code
    back = error_from_rpc(failed, Reason.SEGMENTER_UNAVAILABLE)
    assert code_of(back) is code
    assert (back.reason, back.message) == (error.reason, error.message)
    assert (back.field, back.retry_after_s) == (error.field, error.retry_after_s)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (grpc.StatusCode.INTERNAL, errors.Unavailable),
        (grpc.StatusCode.UNKNOWN, errors.Unavailable),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unavailable),
        (grpc.StatusCode.NOT_FOUND, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlinePassed),
        (grpc.StatusCode.CANCELLED, errors.Unavailable),  # of a server that stops
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
    ],
)
def test_what_a_peer_says_without_our_details(
    code: grpc.StatusCode, expected: type[ServiceError]
) -> None:
    error = error_from_rpc(Failed(code, "Traceback (most recent call last)"), Reason.INTERNAL)
    assert isinstance(error, expected)
    assert "Traceback" not in error.message


def test_details_of_another_domain_are_not_believed() -> None:
    status = rich_status(errors.Internal(), "r1")
    status.ClearField("details")
    failed = Failed(grpc.StatusCode.INTERNAL, "x", trailing_metadata(status))
    error = error_from_rpc(failed, Reason.PLANNER_UNAVAILABLE)
    assert error.reason is Reason.PLANNER_UNAVAILABLE


def test_every_reason_is_in_the_contract() -> None:
    known = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}  # noqa: SIM118
    assert {reason.value for reason in Reason} | {"UNSPECIFIED"} == known


@pytest.mark.parametrize(
    ("exc", "what"),
    [
        (MemoryError(), "memory"),
        (OSError(errno.ENOMEM, "cannot allocate"), "memory"),
        (RuntimeError("can't start new thread"), "memory or threads"),
        (OSError(errno.ENOSPC, "no space left"), "disk"),
        (OSError(errno.EFBIG, "file too large"), "disk"),
        (OSError(errno.EMFILE, "too many open files"), "open files"),
    ],
)
def test_what_the_machine_has_no_more_of_passes(exc: Exception, what: str) -> None:
    error = service_error(exc)
    assert code_of(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.reason is Reason.OVERLOADED
    assert what in error.message
    assert error.retry_after_s is not None
    assert not is_callers_fault(error), "whoever runs the service must see it"


def test_other_faults_are_ours() -> None:
    for exc in (OSError(errno.ENOENT, "no such file"), OSError("bare"), KeyError("x")):
        assert service_error(exc).reason is Reason.INTERNAL
