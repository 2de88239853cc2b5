"""The error tree every layer raises, free of gRPC.

Data flows client -> gateway -> planner or segmenter, and each arrow has its errors: a request that
is wrong (`InvalidRequest`, `InvalidMedia`), a service that is full (`Overloaded`), a clock that ran
out (`DeadlinePassed`), a peer that is away (`Unavailable`), and faults of our own (`Internal`).
`services.rpc.status` holds the one table from these classes to gRPC statuses.
"""

from enum import StrEnum


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


class ServiceError(Exception):
    """The root. `message` is written for the caller; `field` is the request's path at fault."""

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


class InvalidRequest(ServiceError):
    """The caller's request is wrong and will be wrong next time: INVALID_ARGUMENT."""


class InvalidMedia(InvalidRequest):
    """The caller's image cannot be read, or lies about itself: INVALID_ARGUMENT."""


class Overloaded(ServiceError):
    """The request is sound and there is no room for it now: RESOURCE_EXHAUSTED, with RetryInfo."""


class TooLarge(ServiceError):
    """The request is sound but over a limit that waiting will not lift: RESOURCE_EXHAUSTED."""


class DeadlinePassed(ServiceError):
    """The caller's time ran out, or provably would: DEADLINE_EXCEEDED."""

    def __init__(self, message: str = "the deadline passed before the work was done") -> None:
        super().__init__(Reason.DEADLINE_PASSED, message)


class Cancelled(ServiceError):
    """The caller went away: CANCELLED."""

    def __init__(self, message: str = "the caller cancelled") -> None:
        super().__init__(Reason.CANCELLED, message)


class Unavailable(ServiceError):
    """A service behind the gateway is away or draining; the call may be sent again: UNAVAILABLE."""


class Internal(ServiceError):
    """A fault of ours. The caller learns the request id and nothing else: INTERNAL."""

    def __init__(self, message: str = "internal error") -> None:
        super().__init__(Reason.INTERNAL, message)
