"""The planner on Ray Serve: `MakePlan` and `ReviewCandidates` of `PlannerService`.

Flow: Serve's gRPC proxy -> `ingress` (metadata, errors) -> `services.planner.service`. This module
only translates and assembles. `serve run services.planner.app:build` starts it; arguments are the
fields of `Settings`, as are the variables `LIMELIGHT_PLANNER_*`.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from ray import serve

from limelight.v1 import planner_pb2
from services.planner.settings import Settings
from services.rpc.convert import candidate_from_proto, planned_to_proto, reviewed_to_proto
from services.rpc.metadata import CallContext
from services.rpc.serve import ingress


class PlannerReplica:
    """One replica: the engine is loaded before Serve sends it a call."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        # Torch is imported where the model runs, not where the application is built.
        from services.planner.engines import create
        from services.planner.metrics import ServeMetrics
        from services.planner.service import PlannerService

        self._closing = AsyncExitStack()  # first: Serve calls `__del__` also when a load fails
        self._metrics = ServeMetrics()
        engine = create(settings, self._metrics)
        await asyncio.to_thread(engine.load)
        self._service = PlannerService(settings, engine, self._metrics)
        refreshing = asyncio.create_task(self._metrics.refresh())
        self._closing.callback(refreshing.cancel)
        self._closing.push_async_callback(self._service.close)

    @ingress(planner_pb2.MakePlanResponse)
    async def MakePlan(  # noqa: N802
        self, request: planner_pb2.MakePlanRequest, call: CallContext
    ) -> planner_pb2.MakePlanResponse:
        planned = await self._service.plan(
            request.image.content, request.instruction, call.deadline
        )
        return planned_to_proto(planned)

    @ingress(planner_pb2.ReviewCandidatesResponse)
    async def ReviewCandidates(  # noqa: N802
        self, request: planner_pb2.ReviewCandidatesRequest, call: CallContext
    ) -> planner_pb2.ReviewCandidatesResponse:
        candidates = [candidate_from_proto(candidate) for candidate in request.candidates]
        reviewed = await self._service.review(
            request.image.content, request.instruction, candidates, call.deadline
        )
        return reviewed_to_proto(reviewed)

    def observe_rpc(self, method: str, code: str) -> None:
        """Told by `ingress` how each call ended."""
        self._metrics.handled(method, code)

    async def check_health(self) -> None:
        """Called by Serve, which replaces the replica when this raises."""
        self._service.check()

    async def __del__(self) -> None:
        """Called by Serve once no request is under way."""
        await self._closing.aclose()


def build(args: Mapping[str, Any] | None = None) -> serve.Application:
    """The application, with `args` over the environment's settings, by their names.

    Raises:
        pydantic.ValidationError: a setting is unknown or out of its range.
    """
    settings = Settings(**dict(args or {}))
    deployment = serve.deployment(
        PlannerReplica,
        name="Planner",
        max_ongoing_requests=settings.max_ongoing_requests,
        graceful_shutdown_timeout_s=settings.drain_s,
        ray_actor_options={"num_cpus": settings.replica_cpus, "num_gpus": settings.replica_gpus},
    )
    return deployment.bind(settings)
