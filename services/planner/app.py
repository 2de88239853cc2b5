"""The planner on Ray Serve: `MakePlan` and `ReviewCandidates` of `PlannerService`.

Flow: Serve's gRPC proxy -> `ingress` (metadata, errors) -> `services.planner.service`. This module
only translates and assembles. `serve run services.planner.app:build` starts it; arguments are the
fields of `PlannerSettings`, as are the variables `LIMELIGHT_PLANNER_*`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import serve

from limelight.internal.v1 import planner_pb2
from services.planner.settings import PlannerSettings
from services.replica.chassis import ModelReplica, application
from services.rpc.convert.planner import (
    candidate_from_proto,
    planned_to_proto,
    reviewed_to_proto,
)
from services.rpc.metadata import CallContext
from services.rpc.methods import rpcs
from services.rpc.serve import ingress

if TYPE_CHECKING:
    from services.planner.metrics import ServePlannerMetrics
    from services.planner.service import PlannerService

_RPCS = rpcs(planner_pb2, "PlannerService")


class PlannerReplica(ModelReplica["PlannerService"]):
    """One replica of the planner."""

    def open_service(
        self, settings: PlannerSettings
    ) -> "tuple[PlannerService, ServePlannerMetrics]":
        from services.planner.metrics import ServePlannerMetrics
        from services.planner.service import open_planner

        metrics = ServePlannerMetrics()
        return open_planner(settings, metrics), metrics

    @ingress(_RPCS["MakePlan"])
    async def MakePlan(  # noqa: N802
        self, request: planner_pb2.MakePlanRequest, call: CallContext
    ) -> planner_pb2.MakePlanResponse:
        planned = await self.service.plan(request.image.content, request.instruction, call.deadline)
        return planned_to_proto(planned)

    @ingress(_RPCS["ReviewCandidates"])
    async def ReviewCandidates(  # noqa: N802
        self, request: planner_pb2.ReviewCandidatesRequest, call: CallContext
    ) -> planner_pb2.ReviewCandidatesResponse:
        candidates = [candidate_from_proto(candidate) for candidate in request.candidates]
        reviewed = await self.service.review(
            request.image.content, request.instruction, candidates, call.deadline
        )
        return reviewed_to_proto(reviewed)


def build(args: Mapping[str, Any] | None = None) -> serve.Application:
    """The application, with `args` over the environment's settings, by their names.

    Raises:
        pydantic.ValidationError: a setting is unknown or out of its range.
    """
    return application(PlannerReplica, "Planner", PlannerSettings(**dict(args or {})))
