"""Ids are safe to log, and deadlines only ever get nearer."""

import pytest

from services.caller import ANONYMOUS, Caller, Priority
from services.deadline import Deadline
from services.errors import InvalidRequest, Reason
from services.rpc.metadata import (
    MAX_ANSWER_BYTES,
    PRIORITY,
    REQUEST_ID,
    TENANT,
    TIMEOUT_MS,
    TRACEPARENT,
    CallContext,
    from_metadata,
    to_metadata,
)


def test_round_trip() -> None:
    call = CallContext("job-1", Deadline.after(5))
    back = from_metadata(to_metadata(call, (("application", "planner"),)), trusted=True)
    assert back.request_id == "job-1"
    remaining = back.deadline.remaining_s()
    assert remaining is not None
    assert 4 < remaining <= 5


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "id\n", "ünï", "a;b"])
def test_an_unsafe_id_is_replaced(bad: str) -> None:
    assert from_metadata(((REQUEST_ID, bad),), trusted=True).request_id not in ("", bad)


@pytest.mark.parametrize("bad", ["", "-5", "1e3", "soon", "٣", "9" * 400])
def test_a_timeout_that_is_no_number_is_none(bad: str) -> None:
    assert from_metadata(((TIMEOUT_MS, bad),), trusted=True).deadline.remaining_s() is None


@pytest.mark.parametrize(
    ("key", "bad"),
    [
        *((TIMEOUT_MS, bad) for bad in ("-5", "1e3", "soon", "٣", "9" * 400)),
        *((PRIORITY, bad) for bad in ("urgent", "Batch", "1")),
        *((MAX_ANSWER_BYTES, bad) for bad in ("0", "-1", "4 MiB", "1e6", "٣", "9" * 400)),
        *((key, "\xff\xfe") for key in (REQUEST_ID, TRACEPARENT, TIMEOUT_MS, PRIORITY)),
    ],
)
def test_what_cannot_be_read_at_the_public_door_is_refused_by_name(key: str, bad: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        from_metadata(((key, bad),), trusted=False)
    assert refused.value.reason is Reason.METADATA_INVALID
    assert str(refused.value.field) == f"metadata.{key}"


def test_the_priority_travels_and_is_interactive_unless_said() -> None:
    assert from_metadata((), trusted=False).priority is Priority.INTERACTIVE
    call = from_metadata(((PRIORITY, "batch"),), trusted=False)
    assert call.priority is Priority.BATCH
    assert from_metadata(to_metadata(call), trusted=True).priority is Priority.BATCH


def test_a_caller_says_how_large_an_answer_may_be_and_the_smaller_wins() -> None:
    call = from_metadata(((MAX_ANSWER_BYTES, "4194304"),), trusted=False)
    assert call.message_bytes(64 << 20) == 4 << 20
    assert call.message_bytes(1 << 20) == 1 << 20
    assert from_metadata((), trusted=False).message_bytes(64 << 20) == 64 << 20
    # What goes on between the services is not for the caller to bound.
    assert MAX_ANSWER_BYTES not in dict(to_metadata(call))


def test_the_nearer_deadline_wins() -> None:
    near = from_metadata(
        ((TIMEOUT_MS, "60000"),), time_remaining_s=2, trusted=True
    ).deadline.remaining_s()
    assert near is not None
    assert near <= 2


def test_no_metadata_at_all() -> None:
    assert from_metadata(None, trusted=True).deadline.remaining_s() is None


CALLER = Caller("acme", "key-7", frozenset({"segment", "batch"}))


def test_who_asks_travels_to_the_services_behind_the_gateway() -> None:
    pairs = to_metadata(CallContext("job-1", Deadline(), CALLER))
    assert from_metadata(pairs, trusted=True).caller == CALLER


def test_nobody_says_at_the_public_door_who_they_are() -> None:
    pairs = to_metadata(CallContext("job-1", Deadline(), CALLER))
    assert from_metadata(pairs, trusted=False).caller == ANONYMOUS


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "ten\nant"])
def test_a_tenant_that_is_not_safe_to_log_is_anonymous(bad: str) -> None:
    assert from_metadata(((TENANT, bad),), trusted=True).caller == ANONYMOUS
