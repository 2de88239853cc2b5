"""Errors that cross a process: what a pool's worker raises is what its parent catches."""

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor

import grpc
import pytest

from limelight import LimelightError
from limelight.faults import InvalidRequest, Reason, ServiceError
from limelight.paths import FieldPath
from services.errors import DeadlinePassed, Internal, InvalidMedia


def failed() -> LimelightError:
    return LimelightError(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "no room",
        reason="OVERLOADED",
        field="task.queries",
        retry_after=1.5,
        request_id="r-1",
        proxy="http://proxy:8080",
    )


def fail() -> None:
    raise failed()


def test_an_error_comes_whole_out_of_a_process_pool() -> None:
    with ProcessPoolExecutor(1) as pool, pytest.raises(LimelightError) as caught:
        pool.submit(fail).result()
    assert vars(caught.value) == vars(failed())
    assert str(caught.value) == str(failed())


@pytest.mark.parametrize(
    "error",
    [
        failed(),
        ServiceError(Reason.OVERLOADED, "no room", retry_after_s=2.0),
        InvalidRequest(Reason.BOX_INVALID, "empty", field=FieldPath(("task", "queries", 2))),
        InvalidMedia(Reason.IMAGE_CORRUPT, "cut off"),
        DeadlinePassed(),
        Internal(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_pickled_and_copied(error: Exception) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert (again.args, vars(again)) == (error.args, vars(error))
