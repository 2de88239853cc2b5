"""Replicas come with the work and go without it, under a real Ray Serve and our policy."""

import asyncio
import itertools

import grpc
import numpy as np
import pytest

from limelight.internal.v1 import segmenter_pb2, segmenter_pb2_grpc
from services.codecs.images import encode
from services.segmenter.app import build
from tests.e2e.conftest import RayCluster
from tests.e2e.system import leave

pytestmark = pytest.mark.serve

APPLICATION = "scaled"


def replicas() -> int:
    """Replicas that answer."""
    from ray import serve

    (deployment,) = serve.status().applications[APPLICATION].deployments.values()
    return deployment.replica_states.get("RUNNING", 0)


async def reached(count: int) -> None:
    async with asyncio.timeout(120):
        while replicas() != count:  # noqa: ASYNC110  (Serve's controller is another process)
            await asyncio.sleep(0.2)


async def test_a_replica_comes_for_the_work_and_goes_with_it(ray_cluster: RayCluster) -> None:
    from ray import serve

    arguments = {
        "engine": "fake",
        "fake_delay_s": 0.1,
        "min_replicas": 1,
        "max_replicas": 2,
        "cold_start_s": 5,
        "keep_replicas_s": 5,
        "replica_cpus": 0.5,
        "max_batch_images": 1,
        "image_cache_bytes": 0,
    }
    serve.run(build(arguments), name=APPLICATION, route_prefix="/scaled")
    numbers = itertools.count()
    loading = True

    async with grpc.aio.insecure_channel(ray_cluster.grpc) as channel:
        stub = segmenter_pb2_grpc.SegmenterServiceStub(channel)

        async def call_on() -> None:
            while loading:
                request = segmenter_pb2.SegmentConceptsRequest(score_threshold=0.5)
                shade = np.full((16, 16, 3), next(numbers) % 256, np.uint8)
                request.image.content = encode(shade)
                request.queries.add(phrase="red")
                await stub.SegmentConcepts(
                    request, metadata=(("application", APPLICATION),), timeout=120
                )

        callers = [asyncio.create_task(call_on()) for _ in range(8)]
        await reached(2)
        loading = False
        await asyncio.gather(*callers)  # none of them failed
        await reached(1)
    leave(APPLICATION)
