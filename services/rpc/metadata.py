"""What travels beside every call: request id, time that is left, who asks, and the trace.

A deadline crosses processes as remaining milliseconds, because Ray Serve's context has no
`time_remaining` and two machines' clocks do not agree.
"""

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from limelight.paths import FieldPath
from services.caller import ANONYMOUS, Caller, Priority
from services.deadline import Deadline
from services.errors import InvalidRequest, Reason

REQUEST_ID = "x-request-id"
TIMEOUT_MS = "x-limelight-timeout-ms"
PRIORITY = "x-limelight-priority"
MAX_ANSWER_BYTES = "x-limelight-max-answer-bytes"
TENANT = "x-limelight-tenant"
KEY_ID = "x-limelight-key-id"
SCOPES = "x-limelight-scopes"
TRACEPARENT = "traceparent"

_SAFE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
# A century has 13 digits of milliseconds.
_MILLISECONDS = re.compile(r"[0-9]{1,13}")
# A terabyte has 13 digits of bytes.
_BYTES = re.compile(r"[1-9][0-9]{0,12}")
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}
_METADATA = FieldPath(("metadata",))

Pairs = tuple[tuple[str, str], ...]
RawPairs = Iterable[tuple[str, str | bytes]]


def new_request_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who asks, and until when. `request_id` is safe to log: 1-128 of `A-Z a-z 0-9 . _ : -`.

    `traceparent` is W3C's, of the span that the call belongs to; empty without one.
    `max_answer_bytes` is the largest message that the caller takes, where it says so: gRPC does not
    tell a server, and most clients take 4 MiB unless they are set up otherwise.
    """

    request_id: str = field(default_factory=new_request_id)
    deadline: Deadline = field(default_factory=Deadline)
    caller: Caller = ANONYMOUS
    traceparent: str = ""
    priority: Priority = Priority.INTERACTIVE
    max_answer_bytes: int | None = None

    def message_bytes(self, most: int) -> int:
        """The largest message to answer with, where the server sends `most` bytes."""
        return most if self.max_answer_bytes is None else min(most, self.max_answer_bytes)


def from_metadata(
    pairs: RawPairs | None, time_remaining_s: float | None = None, *, trusted: bool
) -> CallContext:
    """Read a call's metadata; an id that is not safe to log is replaced by a new one.

    Args:
        pairs: the call's metadata.
        time_remaining_s: what gRPC itself knows of the deadline, where it does; the nearer wins.
        trusted: whether the sender is the gateway, whose word on the caller counts. At the public
            door anyone could claim to be anyone, and the caller is `ANONYMOUS` until authenticated.

    Raises:
        InvalidRequest: METADATA_INVALID, at the public door, for what we read and cannot be.
    """
    values = _texts(pairs)
    limits = [] if time_remaining_s is None else [time_remaining_s]
    raw = values.get(TIMEOUT_MS, "")
    named = values.get(PRIORITY, "")
    largest = values.get(MAX_ANSWER_BYTES, "")
    if not trusted:
        _check(values, raw, named, largest)
    if _MILLISECONDS.fullmatch(raw):
        limits.append(int(raw) / 1000)
    return CallContext(
        request_id=request_id_of(pairs),
        deadline=Deadline.after(min(limits, default=None)),
        caller=_caller(values) if trusted else ANONYMOUS,
        traceparent=_safe(values.get(TRACEPARENT, "")),
        priority=_PRIORITIES.get(named, Priority.INTERACTIVE),
        max_answer_bytes=int(largest) if largest and not trusted else None,
    )


def request_id_of(pairs: RawPairs | None) -> str:
    """The id that a call came with, or a new one where it has none that is safe to log."""
    return _safe(_texts(pairs).get(REQUEST_ID, "")) or new_request_id()


def to_metadata(call: CallContext, extra: Pairs = ()) -> Pairs:
    """The pairs to send on to a service behind the gateway, `extra` last."""
    caller = call.caller
    pairs: Pairs = ((REQUEST_ID, call.request_id), (TENANT, caller.tenant))
    if caller.key_id:
        pairs += ((KEY_ID, caller.key_id),)
    if caller.scopes:
        pairs += ((SCOPES, " ".join(sorted(caller.scopes))),)
    if call.priority is not Priority.INTERACTIVE:
        pairs += ((PRIORITY, call.priority.name.lower()),)
    remaining = call.deadline.remaining_s()
    if remaining is not None:
        pairs += ((TIMEOUT_MS, str(int(remaining * 1000))),)
    if call.traceparent:
        pairs += ((TRACEPARENT, call.traceparent),)
    return pairs + extra


def _texts(pairs: RawPairs | None) -> dict[str, str]:
    return {key.lower(): value for key, value in (pairs or ()) if isinstance(value, str)}


def _check(values: dict[str, str], timeout_ms: str, priority: str, largest: str) -> None:
    for key in (REQUEST_ID, TRACEPARENT, TIMEOUT_MS, PRIORITY, MAX_ANSWER_BYTES):
        if not values.get(key, "").isascii():
            raise _invalid(key, "must be ASCII")
    if timeout_ms and not _MILLISECONDS.fullmatch(timeout_ms):
        raise _invalid(TIMEOUT_MS, "must be milliseconds, 1 to 13 digits")
    if priority and priority not in _PRIORITIES:
        raise _invalid(PRIORITY, f"must be one of {', '.join(_PRIORITIES)}")
    if largest and not _BYTES.fullmatch(largest):
        raise _invalid(MAX_ANSWER_BYTES, "must be bytes, from 1 and with at most 13 digits")


def _invalid(key: str, fault: str) -> InvalidRequest:
    return InvalidRequest(Reason.METADATA_INVALID, f"{key} {fault}", field=_METADATA / key)


def _caller(values: dict[str, str]) -> Caller:
    return Caller(
        tenant=_safe(values.get(TENANT, "")) or ANONYMOUS.tenant,
        key_id=_safe(values.get(KEY_ID, "")),
        scopes=frozenset(filter(_safe, values.get(SCOPES, "").split())),
    )


def _safe(value: str) -> str:
    return value if _SAFE.fullmatch(value) else ""
