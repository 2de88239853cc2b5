"""The planner on a real Ray Serve, called over gRPC as the gateway calls it."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from limelight.convert.media import rle_to_proto
from limelight.internal.v1 import planner_pb2, planner_pb2_grpc
from limelight.masks import encode_rle
from limelight.v1 import media_pb2, plan_pb2, review_pb2
from services.codecs.images import encode
from services.deadline import Deadline
from services.planner.app import build
from services.rpc.metadata import CallContext, to_metadata
from tests.conftest import wait_until
from tests.e2e.system import leave
from tests.rpc.faults import fault_of
from tests.scraping import reading

pytestmark = pytest.mark.serve

Deploy = Callable[..., "Client"]


class Client:
    """Calls one application of the cluster."""

    def __init__(self, channel: grpc.aio.Channel, name: str) -> None:
        self._stub = planner_pb2_grpc.PlannerServiceStub(channel)
        self.name = name

    def plan(
        self, content: bytes, instruction: str, seconds: float | None = 120
    ) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        request = planner_pb2.MakePlanRequest(
            image=media_pb2.Image(content=content), instruction=instruction
        )
        return self._stub.MakePlan(request, metadata=self._metadata(seconds))

    def review(
        self, content: bytes, instruction: str, candidates: list[planner_pb2.Candidate]
    ) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        request = planner_pb2.ReviewCandidatesRequest(
            image=media_pb2.Image(content=content), instruction=instruction, candidates=candidates
        )
        return self._stub.ReviewCandidates(request, metadata=self._metadata(120))

    def _metadata(self, seconds: float | None) -> Any:
        call = CallContext("test-request", Deadline.after(seconds))
        return to_metadata(call, (("application", self.name),))


@pytest.fixture
async def channel(ray_cluster: Any) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(ray_cluster.grpc) as channel:
        yield channel


@pytest.fixture
def deploy(ray_cluster: Any, channel: grpc.aio.Channel) -> Iterator[Deploy]:
    """Deploys a planner of given settings under its own name, and deletes it after the test."""
    from ray import serve

    names: list[str] = []

    def start(**settings: object) -> Client:
        # Metrics of an application that was deleted stay on the page for a while.
        name = f"planner-{uuid.uuid4().hex[:8]}"
        application = build({"replica_cpus": 0.1, "drain_s": 1} | settings)
        serve.run(application, name=name, route_prefix=f"/{name}")
        names.append(name)
        return Client(channel, name)

    yield start
    for name in names:
        leave(name)


@pytest.fixture
def picture() -> bytes:
    rng = np.random.default_rng(3)
    return encode(rng.integers(0, 255, (64, 96, 3), dtype=np.uint8), "jpeg")


def _candidate(number: int, phrase: str, height: int = 64) -> planner_pb2.Candidate:
    mask = np.zeros((height, 96), np.bool_)
    mask[5:40, 20:60] = True
    return planner_pb2.Candidate(id=number, phrase=phrase, mask=rle_to_proto(encode_rle(mask)))


async def _until_metric(
    address: str, wanted: float, name: str, application: str, **labels: str
) -> None:
    named = {**labels, "application": application}
    await wait_until(lambda: reading(address, f"ray_{name}", named) == wanted, every_s=0.1)


async def test_the_fake_planner_answers_over_grpc(
    ray_cluster: Any, deploy: Deploy, picture: bytes
) -> None:
    client = deploy(engine="fake")

    planned = await client.plan(picture, "the second penguin from the left")
    assert [query.phrase for query in planned.plan.include] == ["penguin"]
    assert planned.plan.select.by == plan_pb2.SELECT_BY_LEFTMOST
    assert planned.plan.select.rank == 2
    assert planned.plan.outcome == plan_pb2.PLAN_OUTCOME_OK
    assert (planned.model.role, planned.model.engine) == ("planner", "fake")
    assert (planned.attempts, planned.cached) == (1, False)
    assert {timing.stage for timing in planned.timings} == {"decode", "plan"}

    again = await client.plan(picture, "the second penguin from the left")
    assert (again.attempts, again.cached) == (0, True)
    assert again.plan == planned.plan

    retried = await client.plan(picture, "garbled-once dog")
    assert retried.plan.outcome == plan_pb2.PLAN_OUTCOME_RETRIED
    degraded = await client.plan(picture, "garbled-always dog")
    assert degraded.plan.outcome == plan_pb2.PLAN_OUTCOME_DEGRADED

    reviewed = await client.review(picture, "the dog", [_candidate(4, "dog"), _candidate(2, "cat")])
    assert [(verdict.id, verdict.verdict) for verdict in reviewed.verdicts] == [
        (4, review_pb2.VERDICT_ACCEPTED),
        (2, review_pb2.VERDICT_REJECTED),
    ]

    metrics = ray_cluster.metrics
    app = client.name
    for outcome in ("ok", "retried", "degraded"):
        await _until_metric(metrics, 1, "limelight_plans_total", app, outcome=outcome)
    await _until_metric(metrics, 1, "limelight_cache_hits_total", app, cache="plan")


async def test_errors_carry_their_details(deploy: Deploy, picture: bytes) -> None:
    client = deploy(engine="fake")
    for call, code, reason, field in [
        (client.plan(picture, "  "), "INVALID_ARGUMENT", "INSTRUCTION_INVALID", "instruction"),
        (client.plan(b"", "the dog"), "INVALID_ARGUMENT", "IMAGE_MISSING", "image.content"),
        (
            client.plan(picture[:300], "the dog"),
            "INVALID_ARGUMENT",
            "IMAGE_CORRUPT",
            "image.content",
        ),
        (
            client.review(picture, "the dog", [_candidate(1, "dog"), _candidate(2, "dog", 65)]),
            "INVALID_ARGUMENT",
            "CANDIDATE_INVALID",
            "candidates[1].mask",
        ),
    ]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        fault = fault_of(caught.value)
        assert (fault.code.name, fault.reason, fault.field) == (code, reason, field)
        assert fault.request_id == "test-request"
        assert "Traceback" not in caught.value.details()


async def test_who_cancels_or_is_late_frees_the_place(
    ray_cluster: Any, deploy: Deploy, picture: bytes
) -> None:
    client = deploy(engine="fake", fake_delay_s=60, max_batch_prompts=1)
    app = client.name
    calls = [client.plan(picture, f"dog number {number}") for number in range(4)]
    await _until_metric(ray_cluster.metrics, 3, "limelight_queue_depth", app)
    for call in calls:
        call.cancel()
    await _until_metric(ray_cluster.metrics, 0, "limelight_queue_depth", app)
    await _until_metric(
        ray_cluster.metrics, 4, "limelight_cancelled_total", app, stage="plan", why="cancelled"
    )

    # Who leaves last may have begun meanwhile: wait until whatever began has ended.
    def count(name: str) -> float:
        return reading(ray_cluster.metrics, f"ray_limelight_{name}_count", {"application": app})

    await wait_until(lambda: count("batch_size") == count("queue_seconds") >= 1, every_s=0.1)
    begun = count("queue_seconds")

    late = client.plan(picture, "the dog", seconds=10)
    # It waits no longer: the engine would still be at the first batch had it not been stopped.
    await _until_metric(ray_cluster.metrics, begun + 1, "limelight_queue_seconds_count", app)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await late
    fault = fault_of(caught.value)
    assert (fault.code.name, fault.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_PASSED")
    await _until_metric(ray_cluster.metrics, begun + 1, "limelight_batch_size_count", app)


async def test_a_replica_that_is_stopped_answers_what_it_has_begun(
    ray_cluster: Any, deploy: Deploy, picture: bytes
) -> None:
    from ray import serve

    client = deploy(engine="fake", fake_delay_s=5, drain_s=60)
    call = client.plan(picture, "the dog")
    app = client.name
    # The miss is counted before the engine is asked.
    await _until_metric(ray_cluster.metrics, 1, "limelight_cache_misses_total", app)
    await asyncio.to_thread(serve.delete, client.name)
    planned = await call
    assert planned.plan.include[0].phrase == "dog"


async def test_the_shipped_checkpoint_answers(deploy: Deploy, picture: bytes) -> None:
    client = deploy(threads=1)
    planned = await client.plan(picture, "all the dogs")
    assert planned.model.engine == "transformers"
    assert planned.model.revision
    assert planned.attempts in (1, 2)
    assert planned.plan.outcome != plan_pb2.PLAN_OUTCOME_UNSPECIFIED
    reviewed = await client.review(picture, "the dog", [_candidate(4, "dog")])
    assert [verdict.id for verdict in reviewed.verdicts] == [4]
