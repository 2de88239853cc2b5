"""What is repeated: the table of `docs/retries.md`, the contract and the client agree."""

import re
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from limelight import LimelightError, RetryPolicy
from limelight.channels import RetryBudget
from limelight.faults import Reason
from tests.contract.test_error_examples import examples

_TABLE = Path(__file__).parents[2] / "docs" / "retries.md"
_ROW = re.compile(r"^\| (?P<reason>[A-Z_]+) \| (?P<code>[A-Z_]+) \| (?P<repeat>yes|no) \|", re.M)


@dataclass(frozen=True)
class Row:
    code: grpc.StatusCode
    repeated: bool


def rows() -> dict[str, Row]:
    text = _TABLE.read_text(encoding="utf-8")
    table = text.partition("<!-- retries:")[2].partition("<!-- end of retries -->")[0]
    found = list(_ROW.finditer(table))
    assert len({row["reason"] for row in found}) == len(found)
    return {
        row["reason"]: Row(grpc.StatusCode[row["code"]], row["repeat"] == "yes") for row in found
    }


def test_every_reason_has_a_row_with_its_status() -> None:
    assert set(rows()) == set(Reason.__members__)
    assert {reason: row.code.name for reason, row in rows().items()} == {
        reason: example.code for reason, example in examples().items()
    }


def test_retries_by_status_alone_repeat_nothing_that_never_passes() -> None:
    """As the document advises, and the example's service config for Node does."""
    hopeless = {row.code for row in rows().values() if not row.repeated}
    assert grpc.StatusCode.UNAVAILABLE not in hopeless
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in hopeless
    example = (_TABLE.parents[1] / "examples" / "node" / "limelight.js").read_text("utf-8")
    assert re.findall(r"retryableStatusCodes: \[(.*?)\]", example) == ['"UNAVAILABLE"']


@pytest.mark.parametrize("reason", Reason)
def test_the_client_repeats_what_the_table_says(reason: Reason) -> None:
    row, example = rows()[reason.value], examples()[reason.value]
    assert example.retry == row.repeated, (
        "RetryInfo goes with what may be repeated, and with it only"
    )
    error = LimelightError(
        row.code, "no", reason=reason.value, retry_after=2.0 if example.retry else None
    )
    delay = RetryPolicy().delay(error, 1, float("inf"))
    assert (delay is not None) == row.repeated
    assert delay is None or 2.0 <= delay <= 2.4


@pytest.mark.parametrize(
    ("code", "message", "repeated"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", True),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", True),
        (grpc.StatusCode.CANCELLED, "CANCELLED", True),
        (grpc.StatusCode.CANCELLED, "Channel closed!", False),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", False),
        (grpc.StatusCode.INTERNAL, "Error parsing 'grpc-timeout' metadata", False),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", False),
        (grpc.StatusCode.UNKNOWN, "", False),
    ],
)
def test_failures_without_a_reason(code: grpc.StatusCode, message: str, repeated: bool) -> None:
    error = LimelightError(code, message)
    delay = RetryPolicy().delay(error, 1, float("inf"))
    assert (delay is not None) == repeated
    assert delay is None or 0.16 <= delay <= 0.24


FULL = LimelightError(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "full", reason="OVERLOADED", retry_after=0.1
)


def test_a_budget_ends_and_answers_pay_for_more() -> None:
    budget = RetryBudget(10)
    assert [budget.allows(FULL) for _ in range(30)] == [True] * 10 + [False] * 20
    for _ in range(109):
        budget.answered()
    assert not budget.allows(FULL)
    for _ in range(12):
        budget.answered()
    assert budget.allows(FULL)
    assert not budget.allows(FULL)


def test_what_never_reached_the_service_costs_nothing() -> None:
    budget = RetryBudget(1)
    away = LimelightError(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
    assert all(budget.allows(away) for _ in range(100))
    assert budget.allows(FULL)
    assert not budget.allows(FULL)


def test_no_budget_is_no_bound() -> None:
    budget = RetryBudget(0)
    assert all(budget.allows(FULL) for _ in range(100))
