"""One request is one trace, across the gateway, the planner and the segmenter on Ray Serve."""

from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from services.codecs.images import encode
from services.gateway.app import start
from services.rpc.tracing import TRACING
from tests.conftest import wait_until as until
from tests.e2e.conftest import RayCluster
from tests.e2e.system import Apps, deployed, gateway_settings
from tests.rpc.otlp import Receiver, receiving

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module")
def traced(ray_cluster: RayCluster) -> Iterator[tuple[Apps, Receiver]]:
    """Applications, and the receiver that they send their spans to."""
    with receiving() as receiver:
        settings = {"otlp_endpoint": receiver.address}
        with deployed(planner=settings, segmenter=settings) as apps:
            yield apps, receiver


async def test_three_services_make_one_trace(
    ray_cluster: RayCluster, traced: tuple[Apps, Receiver]
) -> None:
    apps, receiver = traced
    TRACING.configure(receiver.address, "limelight-gateway", 1.0)
    gateway = await start(gateway_settings(ray_cluster, apps))
    request = limelight_pb2.SegmentRequest()
    request.task.image.content = encode(np.full((32, 32, 3), (255, 0, 0), np.uint8))
    request.task.instruction = "the red thing"
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        answer = await stub.Segment(request, timeout=120)
    await gateway.drain()
    TRACING.close()

    replicas = {f"limelight-{apps.planner}", f"limelight-{apps.segmenter}"}

    def complete() -> bool:
        """All have told of their work; replicas send every five seconds what has ended."""
        known = {span.span for span in receiver.spans}
        working = {span.service for span in receiver.spans if span.name == "decode"}
        return replicas <= working and all(span.parent in known | {""} for span in receiver.spans)

    await until(complete)
    assert {span.service for span in receiver.spans} == {"limelight-gateway", *replicas}
    assert len({span.trace for span in receiver.spans}) == 1
    by_id = {span.span: span for span in receiver.spans}
    (root,) = [span for span in receiver.spans if span.parent == ""]
    assert root.name == "limelight.v1.LimelightService/Segment"
    assert root.attributes["limelight.request_id"] == answer.result.request_id
    (segmented,) = [
        span
        for span in receiver.spans
        if span.name.endswith("SegmentConcepts") and span.service.endswith(apps.segmenter)
    ]
    assert by_id[segmented.parent].service == "limelight-gateway"
    stages = {span.name for span in receiver.spans if span.parent == segmented.span}
    assert {"decode", "encode", "detect"} <= stages
