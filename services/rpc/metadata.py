"""What travels beside every call: request id, time that is left, who asks, and the trace.

A deadline crosses processes as remaining milliseconds, because Ray Serve's context has no
`time_remaining` and two machines' clocks do not agree.
"""

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.caller import ANONYMOUS, Caller
from services.deadline import Deadline

REQUEST_ID = "x-request-id"
TIMEOUT_MS = "x-limelight-timeout-ms"
TENANT = "x-limelight-tenant"
KEY_ID = "x-limelight-key-id"
SCOPES = "x-limelight-scopes"
TRACEPARENT = "traceparent"

_SAFE = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Pairs = tuple[tuple[str, str], ...]
RawPairs = Iterable[tuple[str, str | bytes]]


def new_request_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who asks, and until when. `request_id` is safe to log: 1-128 of `A-Z a-z 0-9 . _ : -`.

    `traceparent` is W3C's, of the span that the call belongs to; empty without one.
    """

    request_id: str = field(default_factory=new_request_id)
    deadline: Deadline = field(default_factory=Deadline)
    caller: Caller = ANONYMOUS
    traceparent: str = ""


def from_metadata(
    pairs: RawPairs | None, time_remaining_s: float | None = None, *, trusted: bool
) -> CallContext:
    """Read a call's metadata; an id that is not safe to log is replaced by a new one.

    Args:
        pairs: the call's metadata.
        time_remaining_s: what gRPC itself knows of the deadline, where it does; the nearer wins.
        trusted: whether the sender is the gateway, whose word on the caller counts. At the public
            door anyone could claim to be anyone, and the caller is `ANONYMOUS` until authenticated.
    """
    values = {key.lower(): value for key, value in (pairs or ()) if isinstance(value, str)}
    request_id = values.get(REQUEST_ID, "")
    if not _SAFE.fullmatch(request_id):
        request_id = new_request_id()
    limits = [] if time_remaining_s is None else [time_remaining_s]
    raw = values.get(TIMEOUT_MS, "")
    if raw.isascii() and raw.isdigit():
        limits.append(int(raw) / 1000)
    caller = _caller(values) if trusted else ANONYMOUS
    deadline = Deadline.after(min(limits, default=None))
    return CallContext(request_id, deadline, caller, _safe(values.get(TRACEPARENT, "")))


def to_metadata(call: CallContext, extra: Pairs = ()) -> Pairs:
    """The pairs to send on to a service behind the gateway, `extra` last."""
    caller = call.caller
    pairs: Pairs = ((REQUEST_ID, call.request_id), (TENANT, caller.tenant))
    if caller.key_id:
        pairs += ((KEY_ID, caller.key_id),)
    if caller.scopes:
        pairs += ((SCOPES, " ".join(sorted(caller.scopes))),)
    remaining = call.deadline.remaining_s()
    if remaining is not None:
        pairs += ((TIMEOUT_MS, str(int(remaining * 1000))),)
    if call.traceparent:
        pairs += ((TRACEPARENT, call.traceparent),)
    return pairs + extra


def _caller(values: dict[str, str]) -> Caller:
    return Caller(
        tenant=_safe(values.get(TENANT, "")) or ANONYMOUS.tenant,
        key_id=_safe(values.get(KEY_ID, "")),
        scopes=frozenset(filter(_safe, values.get(SCOPES, "").split())),
    )


def _safe(value: str) -> str:
    return value if _SAFE.fullmatch(value) else ""
