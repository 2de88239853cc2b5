"""What can be wrong with a request, said the same on both sides of the wire.

`Reason` mirrors the contract's `ErrorReason`. `ServiceError` is the root of the tree that the
services raise (`services.errors` has the rest of it); `InvalidRequest` is its branch that code of
the client and of the services shares, since both convert and validate the same values.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

from limelight.paths import FieldPath

E = TypeVar("E", bound=BaseException)


def pickled(error: E) -> tuple[Callable[..., E], tuple[Any, ...]]:
    """What `__reduce__` of an exception answers whose arguments are not its `args`.

    Without it such an exception cannot be unpickled, which breaks the process pool it is raised in.
    """
    return _unpickled, (type(error), error.args, error.__dict__)


def _unpickled(kind: type[E], args: tuple[Any, ...], state: dict[str, Any]) -> E:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class Reason(StrEnum):
    """Why a call failed; the names are those of `ErrorReason` in `errors.proto`."""

    IMAGE_MISSING = "IMAGE_MISSING"
    IMAGE_UNSUPPORTED = "IMAGE_UNSUPPORTED"
    IMAGE_CORRUPT = "IMAGE_CORRUPT"
    IMAGE_TOO_LARGE = "IMAGE_TOO_LARGE"
    IMAGE_BAD_SHAPE = "IMAGE_BAD_SHAPE"
    TASK_MISSING = "TASK_MISSING"
    INSTRUCTION_INVALID = "INSTRUCTION_INVALID"
    QUERY_INVALID = "QUERY_INVALID"
    PHRASE_INVALID = "PHRASE_INVALID"
    PHRASE_TOO_LONG = "PHRASE_TOO_LONG"
    BOX_INVALID = "BOX_INVALID"
    OPTION_INVALID = "OPTION_INVALID"
    CANDIDATE_INVALID = "CANDIDATE_INVALID"
    TOO_MANY_QUERIES = "TOO_MANY_QUERIES"
    MASKS_TOO_LARGE = "MASKS_TOO_LARGE"
    OVERLOADED = "OVERLOADED"
    DRAINING = "DRAINING"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    CANCELLED = "CANCELLED"
    PLANNER_UNAVAILABLE = "PLANNER_UNAVAILABLE"
    SEGMENTER_UNAVAILABLE = "SEGMENTER_UNAVAILABLE"
    INTERNAL = "INTERNAL"
    VIDEO_MISSING = "VIDEO_MISSING"
    VIDEO_UNSUPPORTED = "VIDEO_UNSUPPORTED"
    VIDEO_CORRUPT = "VIDEO_CORRUPT"
    VIDEO_TOO_LARGE = "VIDEO_TOO_LARGE"
    VIDEO_TOO_LONG = "VIDEO_TOO_LONG"
    VIDEO_BAD_SHAPE = "VIDEO_BAD_SHAPE"
    FRAME_PASSED = "FRAME_PASSED"
    STREAM_UNKNOWN = "STREAM_UNKNOWN"
    STREAM_IDLE = "STREAM_IDLE"
    MESSAGE_INVALID = "MESSAGE_INVALID"
    OBJECT_INVALID = "OBJECT_INVALID"
    TRACKER_ABSENT = "TRACKER_ABSENT"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    METADATA_INVALID = "METADATA_INVALID"
    REQUEST_MALFORMED = "REQUEST_MALFORMED"
    ANSWER_TOO_LARGE = "ANSWER_TOO_LARGE"
    SERVICE_UNKNOWN = "SERVICE_UNKNOWN"
    METHOD_UNKNOWN = "METHOD_UNKNOWN"


class ServiceError(Exception):
    """The root. `message` is written for the caller; `field` is the request's path at fault."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        field: FieldPath | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> Any:
        return pickled(self)


class InvalidRequest(ServiceError, ValueError):
    """A value of the request is wrong and will be wrong next time: INVALID_ARGUMENT."""
