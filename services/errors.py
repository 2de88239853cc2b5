"""The error tree every layer raises, free of gRPC.

Data flows client -> gateway -> planner or segmenter, and each arrow has its errors: a request that
is wrong (`InvalidRequest`, `InvalidMedia`), a service that is full (`Overloaded`), a clock that ran
out (`DeadlinePassed`), a peer that is away (`Unavailable`), and faults of our own (`Internal`).
Root and reasons come from `limelight.faults`, which the client shares. `services.rpc.status` holds
the one table from these classes to gRPC statuses. A `CheckpointError` comes before any request: a
model's files cannot be served or trained.
"""

import errno

from limelight.faults import InvalidRequest, Reason, ServiceError

__all__ = [
    "Cancelled",
    "CheckpointError",
    "DeadlinePassed",
    "DeadlineTooShort",
    "Idle",
    "Internal",
    "InvalidMedia",
    "InvalidRequest",
    "NoSuchMethod",
    "NotDeployed",
    "OutOf",
    "Overloaded",
    "Reason",
    "ServiceError",
    "TooLarge",
    "Unavailable",
    "Unknown",
    "out_of",
]

# What a system call says that found no more of something. EFBIG is a limit on files (RLIMIT_FSIZE).
_OUT_OF = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "disk"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "open files"),
    errno.ENOMEM: "memory",
}
_OUT_OF_RETRY_S = 5.0
# What Python says, without a type for it, where the system gives no thread or no stack for one.
_NO_THREAD = "can't start new thread"


class InvalidMedia(InvalidRequest):
    """The caller's image cannot be read, or lies about itself: INVALID_ARGUMENT."""


class Overloaded(ServiceError):
    """The request is sound and there is no room for it now: RESOURCE_EXHAUSTED, with RetryInfo."""


class OutOf(Overloaded):
    """The machine has no more of something that the request needs, which it gets back as other work
    ends or somebody makes room.
    """

    def __init__(self, what: str) -> None:
        message = f"the service is out of {what}"
        super().__init__(Reason.OVERLOADED, message, retry_after_s=_OUT_OF_RETRY_S)


def out_of(exc: BaseException) -> OutOf | None:
    """What the machine has no more of, where an exception says so."""
    if isinstance(exc, MemoryError):
        return OutOf("memory")
    if isinstance(exc, RuntimeError) and str(exc) == _NO_THREAD:
        return OutOf("memory or threads")
    what = _OUT_OF.get(exc.errno or 0) if isinstance(exc, OSError) else None
    return None if what is None else OutOf(what)


class TooLarge(ServiceError):
    """The request is sound but over a limit that waiting will not lift: RESOURCE_EXHAUSTED."""


class DeadlinePassed(ServiceError):
    """The caller's time ran out: DEADLINE_EXCEEDED."""

    def __init__(self, message: str = "the deadline passed before the work was done") -> None:
        super().__init__(Reason.DEADLINE_PASSED, message)


class DeadlineTooShort(ServiceError):
    """The caller's time would not do even if nobody else were there: DEADLINE_EXCEEDED."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.DEADLINE_TOO_SHORT, message)


class Idle(ServiceError):
    """The caller of a stream sent nothing for too long: DEADLINE_EXCEEDED."""


class Cancelled(ServiceError):
    """The caller went away: CANCELLED."""

    def __init__(self, message: str = "the caller cancelled") -> None:
        super().__init__(Reason.CANCELLED, message)


class Unavailable(ServiceError):
    """A service behind the gateway is away or draining; the call may be sent again: UNAVAILABLE."""


class NotDeployed(ServiceError):
    """The call needs a part that this deployment does not run: FAILED_PRECONDITION."""


class Unknown(ServiceError):
    """A health check names what is not here: NOT_FOUND."""


class NoSuchMethod(ServiceError):
    """The server has no method of that name: UNIMPLEMENTED."""


class Internal(ServiceError):
    """A fault of ours. The caller learns the request id and nothing else: INTERNAL."""

    def __init__(self, message: str = "internal error") -> None:
        super().__init__(Reason.INTERNAL, message)


class CheckpointError(ValueError):
    """A model's files cannot be loaded, or what was loaded does not work.

    The message, one line, names the file, says what is wrong with it, what was expected, and where
    it can be known what to do.
    """
