"""Ids are safe to log, and deadlines only ever get nearer."""

import pytest

from services.deadline import Deadline
from services.rpc.metadata import REQUEST_ID, TIMEOUT_MS, CallContext, from_metadata, to_metadata


def test_round_trip() -> None:
    call = CallContext("job-1", Deadline.after(5))
    back = from_metadata(to_metadata(call, (("application", "planner"),)))
    assert back.request_id == "job-1"
    remaining = back.deadline.remaining_s()
    assert remaining is not None
    assert 4 < remaining <= 5


@pytest.mark.parametrize("bad", ["", "a b", "x" * 129, "id\n", "ünï", "a;b"])
def test_an_unsafe_id_is_replaced(bad: str) -> None:
    assert from_metadata(((REQUEST_ID, bad),)).request_id not in ("", bad)


@pytest.mark.parametrize("bad", ["", "-5", "1e3", "soon", "٣"])
def test_a_timeout_that_is_no_number_is_none(bad: str) -> None:
    assert from_metadata(((TIMEOUT_MS, bad),)).deadline.remaining_s() is None


def test_the_nearer_deadline_wins() -> None:
    near = from_metadata(((TIMEOUT_MS, "60000"),), time_remaining_s=2).deadline.remaining_s()
    assert near is not None
    assert near <= 2


def test_no_metadata_at_all() -> None:
    assert from_metadata(None).deadline.remaining_s() is None
