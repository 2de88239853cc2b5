"""Assembles the segmenter and puts it behind Ray Serve's gRPC proxy.

`build` is the import path for `serve.run` and for a Serve config file
(`import_path: services.segmenter.app:build`, settings as `args`).
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from ray import serve
from ray.serve import Application

from limelight.v1 import segmenter_pb2
from services.rpc import convert
from services.rpc.metadata import CallContext
from services.rpc.serve import ingress
from services.segmenter.settings import Settings

# Longer than any sound request: Serve lets those under way finish before it ends a replica.
_GRACE_S = 60.0


class SegmenterReplica:
    """One replica: a loaded model, its batchers and caches, and the RPC that uses them."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        # Torch is imported where the model runs, not where the application is built.
        from services.replica.metrics import ServeMetrics
        from services.segmenter.engines import create
        from services.segmenter.segmenting import Segmenter

        self._closing = AsyncExitStack()  # first: Serve calls `__del__` also when a load fails
        engine = create(settings)
        await asyncio.to_thread(engine.load)
        self._metrics = ServeMetrics("limelight.v1.SegmenterService")
        self._segmenter = Segmenter(settings, engine, self._metrics)
        refreshing = asyncio.create_task(self._metrics.refresh())
        self._closing.callback(refreshing.cancel)
        self._closing.push_async_callback(self._segmenter.close)

    @ingress(segmenter_pb2.SegmentConceptsResponse)
    async def SegmentConcepts(  # noqa: N802
        self, request: segmenter_pb2.SegmentConceptsRequest, call: CallContext
    ) -> segmenter_pb2.SegmentConceptsResponse:
        """See `limelight/v1/segmenter.proto`."""
        segmented = await self._segmenter.segment(
            request.image.content,
            convert.queries_from_proto(request.queries, "queries"),
            request.score_threshold,
            request.max_instances,
            call.deadline,
        )
        return convert.segmented_to_proto(segmented)

    def observe_rpc(self, method: str, code: str) -> None:
        """Told by `ingress` of every outcome."""
        self._metrics.handled(method, code)

    async def check_health(self) -> None:
        """Called by Serve, which replaces the replica when this raises."""
        self._segmenter.check()

    async def __del__(self) -> None:
        """Called by Serve once no request is under way."""
        await self._closing.aclose()


def build(args: Mapping[str, Any] | None = None) -> Application:
    """The application, with `args` over the environment's settings, by their names.

    Raises:
        pydantic.ValidationError: a setting is unknown or out of its range.
    """
    settings = Settings(**dict(args or {}))
    deployment = serve.deployment(
        SegmenterReplica,
        name="Segmenter",
        max_ongoing_requests=settings.max_ongoing_requests,
        max_queued_requests=settings.max_queued_requests,
        graceful_shutdown_timeout_s=_GRACE_S,
        ray_actor_options={
            "num_cpus": settings.replica_cpus,
            "num_gpus": settings.replica_gpus,
        },
    )
    return deployment.bind(settings)
