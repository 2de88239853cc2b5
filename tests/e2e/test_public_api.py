"""The whole system with engines that need no model: gateway, Ray Serve, planner, segmenter."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from limelight.v1 import limelight_pb2, limelight_pb2_grpc, plan_pb2
from services.codecs.images import encode
from services.gateway.app import Gateway, start
from tests.conftest import wait_until as until
from tests.e2e.conftest import RayCluster
from tests.e2e.system import Apps, deployed, gateway_settings, held_segmenter
from tests.gateway.conftest import Ask
from tests.gateway.test_faults import BAD
from tests.hostile import hostile_images
from tests.rpc.faults import fault_of
from tests.scraping import reading

pytestmark = pytest.mark.serve

Stub = limelight_pb2_grpc.LimelightServiceStub
RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)
# Long enough that calls share a batch.
STEP_MS = 300


@pytest.fixture(scope="module")
def apps(ray_cluster: RayCluster) -> Iterator[Apps]:
    step = {"fake_delay_s": STEP_MS / 1000, "max_batch_images": 1}
    with deployed(planner={"drain_s": 1}, segmenter=step) as running:
        yield running


@pytest.fixture
async def gateway(ray_cluster: RayCluster, apps: Apps) -> AsyncIterator[Gateway]:
    running = await start(gateway_settings(ray_cluster, apps))
    yield running
    await running.drain()


@pytest.fixture
def held(ray_cluster: RayCluster, apps: Apps, tmp_path: Path) -> Iterator[tuple[Apps, Path]]:
    """A segmenter of which no step ends while a file exists, and that file."""
    hold = tmp_path / "hold"
    with held_segmenter(hold) as segmenter:
        yield Apps(apps.planner, segmenter), hold


@pytest.fixture
async def stub(gateway: Gateway) -> AsyncIterator[Stub]:
    options = [("grpc.max_send_message_length", 64 * 2**20)]
    async with grpc.aio.insecure_channel(gateway.address, options=options) as channel:
        yield limelight_pb2_grpc.LimelightServiceStub(channel)


def picture(seed: int = 0) -> bytes:
    """A white picture with two red things and a blue one; no two seeds give the same bytes."""
    pixels = np.full((100, 150, 3), 255, np.uint8)
    pixels[10:30, 10:40] = RED
    pixels[60:90, 100:140] = RED
    pixels[50:70, 20:50] = BLUE
    pixels[-1, -1] = seed % 256
    pixels[-1, -2] = seed // 256
    return encode(pixels)


async def steps(cluster: RayCluster, apps: Apps) -> float:
    """How many batches the segmenter's model has run, once Ray has handed on all of them."""
    labels = {"application": apps.segmenter}
    last, since = -1.0, time.monotonic()
    while time.monotonic() - since < 3:
        now = reading(cluster.metrics, "ray_limelight_batch_size_count", labels)
        if now != last:
            last, since = now, time.monotonic()
        await asyncio.sleep(0.2)
    return last


async def test_a_sentence_becomes_masks(stub: Stub) -> None:
    task = limelight_pb2.SegmentTask(
        image={"content": picture()}, instruction="the leftmost red thing"
    )
    response = await stub.Segment(limelight_pb2.SegmentRequest(task=task), timeout=120)
    result = response.result
    assert result.plan.outcome == plan_pb2.PLAN_OUTCOME_OK
    (item,) = result.instances
    assert item.area == 600
    assert (item.box.x0, item.box.y0, item.box.x1, item.box.y1) == (10, 10, 40, 30)
    assert [model.engine for model in result.models] == ["fake", "fake"]


async def test_garbled_plans_are_retried_then_degraded_and_said_so(stub: Stub) -> None:
    for trigger, outcome in (
        ("garbled-once", plan_pb2.PLAN_OUTCOME_RETRIED),
        ("garbled-always", plan_pb2.PLAN_OUTCOME_DEGRADED),
    ):
        task = limelight_pb2.SegmentTask(
            image={"content": picture()}, instruction=f"the blue thing {trigger}"
        )
        response = await stub.Segment(limelight_pb2.SegmentRequest(task=task), timeout=120)
        assert response.result.plan.outcome == outcome
        assert len(response.result.instances) == 1


async def test_no_malformed_or_hostile_input_reaches_a_model(
    stub: Stub, ray_cluster: RayCluster, apps: Apps, gateway: Gateway
) -> None:
    """Every one is refused with a reason and a field, whatever it was sent to."""
    ask = Ask(picture(seed=500))
    good = limelight_pb2.SegmentRequest(task=ask.phrases("blue"))
    await stub.Segment(good, timeout=120)
    before = await steps(ray_cluster, apps)
    assert before >= 2
    tried = 0

    async def refuse(task: limelight_pb2.SegmentTask, reason: str, field: str) -> None:
        nonlocal tried
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Segment(limelight_pb2.SegmentRequest(task=task), timeout=120)
        fault = fault_of(caught.value)
        assert fault.code in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        )
        assert fault.reason == reason
        if fault.code is grpc.StatusCode.INVALID_ARGUMENT:
            assert fault.field == field
        tried += 1

    planned = {"instruction": "the red thing"}
    explicit = {"queries": {"include": [{"phrase": "red"}]}}
    for hostile in hostile_images():
        for want in (planned, explicit):
            task = limelight_pb2.SegmentTask(image={"content": hostile.data}, **want)
            await refuse(task, hostile.reason.value, "task.image.content")
    for make, reason, field in BAD.values():
        await refuse(make(ask), reason, field)
    long = ask.phrases("one two three four five six seven eight " * 5)
    await refuse(long, "PHRASE_TOO_LONG", "task.queries.include[0].phrase")
    far = {"x0": 900, "x1": 950, "y1": 9}
    outside = ask.task(queries={"include": [{"exemplars": [{"box": far}]}]})
    await refuse(outside, "BOX_INVALID", "task.queries.include[0].exemplars[0].box")
    assert tried >= 60 * 2

    assert await steps(ray_cluster, apps) == before
    response = await stub.Segment(good, timeout=120)  # all of it is still up
    assert len(response.result.instances) == 1


async def test_those_who_leave_free_their_places_in_every_queue(
    ray_cluster: RayCluster, held: tuple[Apps, Path]
) -> None:
    """One call is being worked on; the others wait, then cancel or run out of time."""
    apps, hold = held
    gateway = await start(gateway_settings(ray_cluster, apps))
    labels = {"application": apps.segmenter, "stage": "encode"}

    def metric(name: str, **more: str) -> float:
        return reading(ray_cluster.metrics, f"ray_limelight_{name}", {**labels, **more})

    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)

        def call(seed: int, timeout: float = 120) -> grpc.aio.UnaryUnaryCall:
            task = limelight_pb2.SegmentTask(image={"content": picture(seed)})
            task.queries.include.add(phrase="red")
            return stub.Segment(limelight_pb2.SegmentRequest(task=task), timeout=timeout)

        hold.touch()
        first = call(1)
        await until(lambda: metric("queue_seconds_count") == 1)
        leaving = [call(seed) for seed in range(2, 8)]
        await until(lambda: metric("queue_depth") == 6)
        late = [call(seed, timeout=1) for seed in range(8, 10)]
        for item in leaving:
            item.cancel()
        for item in late:
            with pytest.raises(grpc.RpcError):
                await item
        # A late call may end before the segmenter has taken it in.
        await until(lambda: metric("cancelled_total", why="cancelled") >= 6)
        await until(lambda: metric("queue_depth") == 0)
        hold.unlink()
        assert len((await first).result.instances) == 2
        await until(lambda: reading(gateway.metrics_address, "limelight_in_flight") == 0)
        # There is room, and nobody is ahead: none of those who left was encoded.
        assert len((await call(99)).result.instances) == 2
        await until(lambda: metric("batch_items_total") == 2)
    await gateway.drain()
