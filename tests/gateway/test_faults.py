"""Bad requests are refused by name before any model is asked; peers' faults come through whole."""

import math
from collections.abc import Callable

import grpc
import pytest

from limelight.paths import FieldPath
from limelight.v1 import limelight_pb2, limelight_pb2_grpc, plan_pb2
from limelight.values import ConceptQuery, Plan
from services.errors import InvalidMedia, InvalidRequest, Overloaded, Reason, Unavailable
from tests.gateway.conftest import Ask
from tests.gateway.peers import Peers, detection
from tests.rpc.faults import Fault, fault_of

Stub = limelight_pb2_grpc.LimelightServiceStub
Task = limelight_pb2.SegmentTask


async def refused(stub: Stub, task: Task, **call: object) -> Fault:
    with pytest.raises(grpc.RpcError) as caught:
        await stub.Segment(limelight_pb2.SegmentRequest(task=task), **call)
    return fault_of(caught.value)


def box(task: Task, *sides: float) -> Task:
    exemplar = task.queries.include.add().exemplars.add()
    exemplar.box.x0, exemplar.box.y0, exemplar.box.x1, exemplar.box.y1 = sides
    return task


def negated(task: Task, *boxes: tuple[float, float, float, float]) -> Task:
    """The task with negative boxes in its first query."""
    query = task.queries.include[0] if task.queries.include else task.queries.include.add()
    for x0, y0, x1, y1 in boxes:
        query.exemplars.add(box={"x0": x0, "y0": y0, "x1": x1, "y1": y1}, negative=True)
    return task


BAD: dict[str, tuple[Callable[[Ask], Task], str, str]] = {
    "no image": (
        lambda ask: Task(image={"content": b""}, instruction="cat"),
        "IMAGE_MISSING",
        "task.image.content",
    ),
    "no task": (lambda ask: ask.task(), "TASK_MISSING", "task.want"),
    "blank instruction": (
        lambda ask: ask.task(" \t\n "),
        "INSTRUCTION_INVALID",
        "task.instruction",
    ),
    "empty instruction": (lambda ask: ask.task(""), "INSTRUCTION_INVALID", "task.instruction"),
    "huge instruction": (
        lambda ask: ask.task("dog " * 100_000),
        "INSTRUCTION_INVALID",
        "task.instruction",
    ),
    "control characters": (
        lambda ask: ask.task("a\x00b"),
        "INSTRUCTION_INVALID",
        "task.instruction",
    ),
    "escape characters": (
        lambda ask: ask.task("\x1b[31mred"),
        "INSTRUCTION_INVALID",
        "task.instruction",
    ),
    "no queries": (
        lambda ask: ask.task(queries=plan_pb2.ConceptQueries()),
        "TASK_MISSING",
        "task.queries.include",
    ),
    "exclude alone": (
        lambda ask: ask.task(queries={"exclude": [{"phrase": "cat"}]}),
        "TASK_MISSING",
        "task.queries.include",
    ),
    "too many queries": (
        lambda ask: ask.phrases(*[f"thing {i}" for i in range(33)]),
        "TOO_MANY_QUERIES",
        "task.queries",
    ),
    "empty query": (
        lambda ask: ask.phrases("cat", ""),
        "QUERY_INVALID",
        "task.queries.include[1]",
    ),
    "blank phrase": (
        lambda ask: ask.phrases("   "),
        "PHRASE_INVALID",
        "task.queries.include[0].phrase",
    ),
    "huge phrase": (
        lambda ask: ask.phrases("x" * 10_000),
        "PHRASE_INVALID",
        "task.queries.include[0].phrase",
    ),
    "phrase with a bell": (
        lambda ask: ask.phrases("cat\x07"),
        "PHRASE_INVALID",
        "task.queries.include[0].phrase",
    ),
    "bad phrase to exclude": (
        lambda ask: ask.task(queries={"include": [{"phrase": "cat"}], "exclude": [{}]}),
        "QUERY_INVALID",
        "task.queries.exclude[0]",
    ),
    "negative boxes alone": (
        lambda ask: negated(ask.task(), (0, 0, 9, 9), (20, 20, 40, 40)),
        "QUERY_INVALID",
        "task.queries.include[0].exemplars",
    ),
    "negative boxes alone to exclude": (
        lambda ask: ask.task(
            queries={
                "include": [{"phrase": "cat"}],
                "exclude": [{"exemplars": [{"box": {"x1": 9, "y1": 9}, "negative": True}]}],
            }
        ),
        "QUERY_INVALID",
        "task.queries.exclude[0].exemplars",
    ),
    "a box of both signs": (
        lambda ask: negated(box(ask.task(), 5, 5, 40, 40), (5, 5, 40, 40)),
        "QUERY_INVALID",
        "task.queries.include[0].exemplars[1].box",
    ),
    "nearly a box of both signs": (
        lambda ask: negated(box(ask.task(), 5, 5, 40, 40), (50, 50, 60, 60), (5.5, 5, 40, 40)),
        "QUERY_INVALID",
        "task.queries.include[0].exemplars[2].box",
    ),
    "box inside out": (
        lambda ask: box(ask.task(), 20, 0, 10, 10),
        "BOX_INVALID",
        "task.queries.include[0].exemplars[0].box",
    ),
    "box of nothing": (
        lambda ask: box(ask.task(), 5, 5, 5, 5),
        "BOX_INVALID",
        "task.queries.include[0].exemplars[0].box",
    ),
    "box of NaN": (
        lambda ask: box(ask.task(), math.nan, 0, 10, 10),
        "BOX_INVALID",
        "task.queries.include[0].exemplars[0].box",
    ),
    "box without end": (
        lambda ask: box(ask.task(), 0, 0, math.inf, 10),
        "BOX_INVALID",
        "task.queries.include[0].exemplars[0].box",
    ),
    "too many exemplars": (
        lambda ask: ask.task(
            queries={"include": [{"exemplars": [{"box": {"x1": 9, "y1": 9}}] * 17}]}
        ),
        "QUERY_INVALID",
        "task.queries.include[0].exemplars",
    ),
    "unknown order": (
        lambda ask: ask.task(queries={"include": [{"phrase": "cat"}], "select": {"by": 99}}),
        "OPTION_INVALID",
        "task.queries.select.by",
    ),
    "negative rank": (
        lambda ask: ask.task(
            queries={"include": [{"phrase": "cat"}], "select": {"by": 1, "rank": -1}}
        ),
        "OPTION_INVALID",
        "task.queries.select.rank",
    ),
    "threshold above one": (
        lambda ask: ask.phrases("cat", score_threshold=1.5),
        "OPTION_INVALID",
        "task.score_threshold",
    ),
    "threshold not a number": (
        lambda ask: ask.phrases("cat", score_threshold=math.nan),
        "OPTION_INVALID",
        "task.score_threshold",
    ),
    "too many instances": (
        lambda ask: ask.phrases("cat", max_instances=10_000),
        "OPTION_INVALID",
        "task.max_instances",
    ),
    "negative instances": (
        lambda ask: ask.phrases("cat", max_instances=-1),
        "OPTION_INVALID",
        "task.max_instances",
    ),
    "unknown mask format": (
        lambda ask: ask.phrases("cat", mask_format=77),
        "OPTION_INVALID",
        "task.mask_format",
    ),
    "unknown review mode": (
        lambda ask: ask.phrases("cat", review=77),
        "OPTION_INVALID",
        "task.review",
    ),
    "too many renders": (
        lambda ask: ask.phrases("cat", renders=[{"kind": 1}] * 5),
        "OPTION_INVALID",
        "task.renders",
    ),
    "no render kind": (
        lambda ask: ask.phrases("cat", renders=[{}]),
        "OPTION_INVALID",
        "task.renders[0].kind",
    ),
    "unknown render format": (
        lambda ask: ask.phrases("cat", renders=[{"kind": 1, "format": 9}]),
        "OPTION_INVALID",
        "task.renders[0].format",
    ),
    "cut-out as JPEG": (
        lambda ask: ask.phrases("cat", renders=[{"kind": 3, "format": 2}]),
        "OPTION_INVALID",
        "task.renders[0].format",
    ),
    "no color": (
        lambda ask: ask.phrases("cat", renders=[{"kind": 4, "background_color": "reddish"}]),
        "OPTION_INVALID",
        "task.renders[0].background_color",
    ),
    "background that is no image": (
        lambda ask: ask.phrases(
            "cat", renders=[{"kind": 4, "background_image": {"content": b"<html>"}}]
        ),
        "IMAGE_UNSUPPORTED",
        "task.renders[0].background_image.content",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_request_is_refused_by_name(
    stub: Stub, peers: Peers, ask: Ask, name: str
) -> None:
    make, reason, field = BAD[name]
    fault = await refused(stub, make(ask))
    assert (fault.code, fault.reason) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert fault.field == field
    assert fault.request_id
    assert peers.asked == []


async def test_a_peers_refusal_comes_back_under_the_callers_name(
    stub: Stub, peers: Peers, ask: Ask
) -> None:
    too_long = InvalidRequest(
        Reason.PHRASE_TOO_LONG, "too long", field=FieldPath.parse("queries[2].phrase")
    )
    peers.failures = {"segment": [too_long]}
    task = ask.phrases("a", "b")
    task.queries.exclude.add(phrase="c")
    fault = await refused(stub, task)
    assert fault.reason == "PHRASE_TOO_LONG"
    assert fault.field == "task.queries.exclude[0].phrase"


async def test_the_planners_words_are_not_the_callers_fault(
    stub: Stub, peers: Peers, ask: Ask
) -> None:
    peers.plan = Plan((ConceptQuery("word " * 40),))
    too_long = InvalidRequest(
        Reason.PHRASE_TOO_LONG, "too long", field=FieldPath.parse("queries[0].phrase")
    )
    peers.failures = {
        "plan": [Unavailable(Reason.DRAINING, "going")],  # and is asked again
        "segment": [too_long],
    }
    fault = await refused(stub, ask.task("a tale"))
    assert (fault.reason, fault.field) == ("INSTRUCTION_INVALID", "task.instruction")


async def test_a_peers_media_fault_comes_back_under_the_callers_name(
    stub: Stub, peers: Peers, ask: Ask
) -> None:
    cut_off = InvalidMedia(Reason.IMAGE_CORRUPT, "cut off", field=FieldPath.parse("image.content"))
    peers.failures = {"segment": [cut_off]}
    fault = await refused(stub, ask.phrases("cat"))
    assert (fault.reason, fault.field) == ("IMAGE_CORRUPT", "task.image.content")
    assert fault.code is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_overloaded_peer_sheds_with_its_own_retry_time(
    stub: Stub, peers: Peers, ask: Ask
) -> None:
    full = Overloaded(Reason.OVERLOADED, "full", retry_after_s=2.5)
    peers.failures = {"segment": [full]}
    fault = await refused(stub, ask.phrases("cat"))
    assert fault.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert fault.retry_after_s == 2.5
    assert peers.asked == ["segment"]


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED]
)
async def test_a_replica_that_dies_is_asked_again(
    stub: Stub, peers: Peers, ask: Ask, code: grpc.StatusCode
) -> None:
    peers.things = {"cat": [detection(0, 0, 9, 9)]}
    peers.failures = {"segment": [code, code]}
    response = await stub.Segment(limelight_pb2.SegmentRequest(task=ask.phrases("cat")))
    assert len(response.result.instances) == 1
    assert peers.asked == ["segment"] * 3


async def test_a_peer_that_stays_away_is_unavailable_and_its_traceback_stays_hidden(
    stub: Stub, peers: Peers, ask: Ask
) -> None:
    peers.failures = {"segment": [grpc.StatusCode.INTERNAL] * 4}
    fault = await refused(stub, ask.phrases("cat"))
    assert (fault.code, fault.reason) == (grpc.StatusCode.UNAVAILABLE, "SEGMENTER_UNAVAILABLE")
    assert "secret" not in fault.message
    assert fault.retry_after_s is not None


async def test_the_request_id_is_the_callers_when_it_is_safe(stub: Stub, ask: Ask) -> None:
    fault = await refused(stub, ask.task(), metadata=(("x-request-id", "job-17"),))
    assert fault.request_id == "job-17"
    fault = await refused(stub, ask.task(), metadata=(("x-request-id", "bad id; rm -rf"),))
    assert fault.request_id != "bad id; rm -rf"


async def test_the_request_id_travels_to_the_peers(stub: Stub, peers: Peers, ask: Ask) -> None:
    request = limelight_pb2.SegmentRequest(task=ask.phrases("cat"))
    response = await stub.Segment(request, metadata=(("x-request-id", "job-18"),), timeout=9)
    assert response.result.request_id == "job-18"
    (metadata,) = peers.metadata
    assert metadata["x-request-id"] == "job-18"
    assert metadata["application"] == "segmenter"
    # grpc rounds the timeout it sends up, by a hundredth at most.
    assert 0 < int(metadata["x-limelight-timeout-ms"]) <= 9090
