"""Ray Serve's ingress: every outcome keeps its code, its details and its id."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from limelight.v1 import segmenter_pb2
from services.errors import InvalidRequest, Reason
from services.rpc.metadata import CallContext
from services.rpc.serve import ingress


class Context:
    """What the ingress uses of Serve's `RayServegRPCContext`."""

    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: list[tuple[str, Any]] = []

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return [("x-request-id", "job-9"), ("x-limelight-timeout-ms", "5000")]

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details

    def set_trailing_metadata(self, trailing: list[tuple[str, Any]]) -> None:
        self.trailing = trailing


class Deployment:
    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.call: CallContext | None = None
        self.observed: list[tuple[str, str]] = []

    def observe_rpc(self, method: str, code: str) -> None:
        self.observed.append((method, code))

    @ingress(segmenter_pb2.SegmentConceptsResponse)
    async def SegmentConcepts(  # noqa: N802
        self, request: segmenter_pb2.SegmentConceptsRequest, call: CallContext
    ) -> segmenter_pb2.SegmentConceptsResponse:
        self.call = call
        if self.failure is not None:
            raise self.failure
        return segmenter_pb2.SegmentConceptsResponse(width=7)


async def answer(deployment: Deployment) -> tuple[segmenter_pb2.SegmentConceptsResponse, Context]:
    context = Context()
    request = segmenter_pb2.SegmentConceptsRequest()
    return await deployment.SegmentConcepts(request, context), context


async def test_an_answer() -> None:
    deployment = Deployment()
    response, context = await answer(deployment)
    assert response.width == 7
    assert context.code is None
    assert deployment.call is not None
    assert deployment.call.request_id == "job-9"
    remaining = deployment.call.deadline.remaining_s()
    assert remaining is not None
    assert 4 < remaining <= 5
    assert deployment.observed == [("SegmentConcepts", "OK")]


async def test_a_refusal_keeps_its_details() -> None:
    deployment = Deployment(InvalidRequest(Reason.BOX_INVALID, "inside out", field="queries[0]"))
    response, context = await answer(deployment)
    assert response == segmenter_pb2.SegmentConceptsResponse()
    assert (context.code, context.details) == (grpc.StatusCode.INVALID_ARGUMENT, "inside out")
    ((key, value),) = context.trailing
    assert key == "grpc-status-details-bin"
    status = status_pb2.Status.FromString(value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.metadata["request_id"]) == ("BOX_INVALID", "job-9")
    assert deployment.observed == [("SegmentConcepts", "INVALID_ARGUMENT")]


async def test_a_fault_of_ours_tells_the_caller_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    deployment = Deployment(ZeroDivisionError("secret"))
    _, context = await answer(deployment)
    assert (context.code, context.details) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "ZeroDivisionError: secret" in caplog.text
    assert "job-9" in caplog.text


async def test_cancellation_passes_through() -> None:
    with pytest.raises(asyncio.CancelledError):
        await answer(Deployment(asyncio.CancelledError()))
