"""The chassis under a real Ray Serve: an unhealthy replica is replaced, logs name their request."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from limelight.internal.v1 import (
    replica_pb2,
    replica_pb2_grpc,
    segmenter_pb2,
    segmenter_pb2_grpc,
)
from services.codecs.images import encode
from tests.e2e.conftest import RayCluster
from tests.e2e.system import leave
from tests.rpc.faults import fault_of

pytestmark = pytest.mark.serve

APPLICATION = "failing"


@pytest.fixture
def failing(ray_cluster: RayCluster, tmp_path: Path) -> Iterator[str]:
    from ray import serve

    from tests.replica.failing import build

    serve.run(build(tmp_path / "marker"), name=APPLICATION, route_prefix="/failing")
    yield ray_cluster.grpc
    leave(APPLICATION)


def log_lines() -> Iterator[dict[str, object]]:
    """The JSON lines that Ray's workers of this session wrote to their standard error."""
    import ray

    folder = Path(ray._private.worker._global_node.get_logs_dir_path())
    for path in folder.glob("worker-*.err"):
        for line in path.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):  # the last may be half written
                yield json.loads(line)


async def test_a_replica_that_only_fails_is_replaced_and_its_logs_say_why(failing: str) -> None:
    last = f"bad-{uuid.uuid4()}"
    async with grpc.aio.insecure_channel(failing) as channel:
        stub = segmenter_pb2_grpc.SegmenterServiceStub(channel)

        async def segment(shade: int, request_id: str) -> segmenter_pb2.SegmentConceptsResponse:
            request = segmenter_pb2.SegmentConceptsRequest(score_threshold=0.5)
            request.image.content = encode(np.full((32, 32, 3), shade, np.uint8))
            request.queries.add(phrase="red")
            metadata = (
                ("application", APPLICATION),
                ("x-request-id", request_id),
                ("x-limelight-tenant", "acme"),
            )
            return await stub.SegmentConcepts(request, metadata=metadata, timeout=120)

        for number, request_id in enumerate(("bad-0", "bad-1", last)):
            with pytest.raises(grpc.RpcError) as caught:
                await segment(number, request_id)
            assert fault_of(caught.value).reason == "INTERNAL"

        # What a gateway asks whose calls wait: nobody says yes but a replica that works.
        replicas = replica_pb2_grpc.ReplicaServiceStub(channel)

        async def check() -> None:
            metadata = (("application", APPLICATION),)
            await replicas.Check(replica_pb2.CheckRequest(), metadata=metadata, timeout=120)

        with pytest.raises(grpc.RpcError) as caught:
            await check()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE

        async with asyncio.timeout(240):
            while True:
                try:
                    answer = await segment(200, "good")
                    await check()
                except grpc.RpcError:
                    await asyncio.sleep(0.2)
                else:
                    break
        assert (answer.width, answer.height) == (32, 32)

    def found() -> list[dict[str, object]]:
        return [line for line in log_lines() if line.get("request_id") == last]

    async with asyncio.timeout(120):
        while not any("traceback" in line for line in found()):  # noqa: ASYNC110  (a file)
            await asyncio.sleep(0.2)
    for line in found():
        assert line["tenant"] == "acme"
        assert line["replica"]
        assert (line["application"], line["deployment"]) == (APPLICATION, "Segmenter")
    (failed,) = [line for line in found() if line.get("code")]
    assert failed["code"] == "INTERNAL"
    assert failed["method"] == "/limelight.internal.v1.SegmenterService/SegmentConcepts"
    assert "broken on purpose" in str(failed["traceback"])
