"""The tracker on Ray Serve: `Track` of `TrackerService`.

Flow: Serve's gRPC proxy -> `ingress` (metadata, errors, credits) -> `services.tracker.serving`.
This module only translates and assembles. `serve run services.tracker.app:build` starts it;
arguments are the fields of `TrackerSettings`, as are the variables `LIMELIGHT_TRACKER_*`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from ray import serve
from ray.serve.config import AutoscalingPolicy

from limelight.internal.v1 import tracker_pb2
from services.domain import TrackStep
from services.replica.chassis import ModelReplica, application
from services.rpc.convert.tracker import event_to_proto, opening_from_proto, step_from_proto
from services.rpc.metadata import CallContext
from services.rpc.serve import ingress
from services.rpc.tracking import TRACK, TRACK_FLOW
from services.tracker.scaling import SessionPolicy
from services.tracker.settings import TrackerSettings

if TYPE_CHECKING:
    from services.tracker.metrics import ServeTrackerMetrics
    from services.tracker.serving import Tracker


class TrackerReplica(ModelReplica["Tracker"]):
    """One replica of the tracker."""

    def open_service(self, settings: TrackerSettings) -> "tuple[Tracker, ServeTrackerMetrics]":
        from services.tracker.metrics import ServeTrackerMetrics
        from services.tracker.serving import open_tracker

        metrics = ServeTrackerMetrics()
        return open_tracker(settings, metrics), metrics

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve every few seconds, for the scaling policy."""
        return self.service.load.figures()

    @ingress(TRACK, TRACK_FLOW)
    async def Track(  # noqa: N802
        self, requests: AsyncIterator[tracker_pb2.TrackRequest], call: CallContext
    ) -> AsyncIterator[tracker_pb2.TrackResponse]:
        opening = opening_from_proto(await anext(requests, tracker_pb2.TrackRequest()))
        async with aclosing(self.service.track(opening, _steps(requests))) as events:
            async for event in events:
                if event is None:  # its credits are written by `ingress`
                    yield tracker_pb2.TrackResponse()
                else:
                    yield event_to_proto(event)


async def _steps(requests: AsyncIterator[tracker_pb2.TrackRequest]) -> AsyncIterator[TrackStep]:
    async for request in requests:
        yield step_from_proto(request)


def build(args: Mapping[str, Any] | None = None) -> serve.Application:
    """The application, with `args` over the environment's settings, by their names.

    Raises:
        pydantic.ValidationError: a setting is unknown or out of its range.
    """
    settings = TrackerSettings(**dict(args or {}))
    policy = AutoscalingPolicy(
        policy_function=SessionPolicy,
        policy_kwargs={
            "sessions": settings.max_sessions,
            "utilization": settings.target_utilization,
            "keep_s": settings.keep_replicas_s,
        },
    )
    return application(TrackerReplica, "Tracker", settings, policy)
