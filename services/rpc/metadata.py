"""What travels beside every call: the request id, and the time that is left.

A deadline crosses processes as remaining milliseconds, because Ray Serve's context has no
`time_remaining` and two machines' clocks do not agree.
"""

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.deadline import Deadline

REQUEST_ID = "x-request-id"
TIMEOUT_MS = "x-limelight-timeout-ms"

_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

Pairs = tuple[tuple[str, str], ...]


def new_request_id() -> str:
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class CallContext:
    """Who asks, and until when. `request_id` is safe to log: 1-128 of `A-Z a-z 0-9 . _ : -`."""

    request_id: str = field(default_factory=new_request_id)
    deadline: Deadline = field(default_factory=Deadline)


def from_metadata(
    pairs: Iterable[tuple[str, str | bytes]] | None, time_remaining_s: float | None = None
) -> CallContext:
    """Read a call's metadata; an id that is not safe to log is replaced by a new one.

    `time_remaining_s` is what gRPC itself knows of the deadline, where it does; the nearer wins.
    """
    values = {key.lower(): value for key, value in (pairs or ()) if isinstance(value, str)}
    request_id = values.get(REQUEST_ID, "")
    if not _SAFE_ID.fullmatch(request_id):
        request_id = new_request_id()
    limits = [] if time_remaining_s is None else [time_remaining_s]
    raw = values.get(TIMEOUT_MS, "")
    if raw.isascii() and raw.isdigit():
        limits.append(int(raw) / 1000)
    return CallContext(request_id, Deadline.after(min(limits, default=None)))


def to_metadata(call: CallContext, extra: Pairs = ()) -> Pairs:
    """The pairs to send on, `extra` last."""
    pairs: Pairs = ((REQUEST_ID, call.request_id),)
    remaining = call.deadline.remaining_s()
    if remaining is not None:
        pairs += ((TIMEOUT_MS, str(int(remaining * 1000))),)
    return pairs + extra
