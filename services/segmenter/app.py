"""The segmenter on Ray Serve: `SegmentConcepts` of `SegmenterService`.

Flow: Serve's gRPC proxy -> `ingress` (metadata, errors) -> `services.segmenter.segmenting`. This
module only translates and assembles. `serve run services.segmenter.app:build` starts it; arguments
are the fields of `SegmenterSettings`, as are the variables `LIMELIGHT_SEGMENTER_*`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ray import serve

from limelight.convert.plans import queries_from_proto
from limelight.internal.v1 import segmenter_pb2
from services.replica.chassis import ModelReplica, application
from services.rpc.convert.segmenter import segmented_to_proto
from services.rpc.metadata import CallContext
from services.rpc.methods import rpcs
from services.rpc.serve import ingress
from services.segmenter.settings import SegmenterSettings

if TYPE_CHECKING:
    from services.replica.metrics import ServeMetrics
    from services.segmenter.segmenting import Segmenter

_RPCS = rpcs(segmenter_pb2, "SegmenterService")


class SegmenterReplica(ModelReplica["Segmenter"]):
    """One replica of the segmenter."""

    def open_service(self, settings: SegmenterSettings) -> "tuple[Segmenter, ServeMetrics]":
        from services.replica.metrics import ServeMetrics
        from services.segmenter.segmenting import open_segmenter

        metrics = ServeMetrics()
        return open_segmenter(settings, metrics), metrics

    @ingress(_RPCS["SegmentConcepts"])
    async def SegmentConcepts(  # noqa: N802
        self, request: segmenter_pb2.SegmentConceptsRequest, call: CallContext
    ) -> segmenter_pb2.SegmentConceptsResponse:
        segmented = await self.service.segment(
            request.image.content,
            queries_from_proto(request.queries),
            request.score_threshold,
            request.max_instances,
            call.deadline,
        )
        return segmented_to_proto(segmented)


def build(args: Mapping[str, Any] | None = None) -> serve.Application:
    """The application, with `args` over the environment's settings, by their names.

    Raises:
        pydantic.ValidationError: a setting is unknown or out of its range.
    """
    return application(SegmenterReplica, "Segmenter", SegmenterSettings(**dict(args or {})))
