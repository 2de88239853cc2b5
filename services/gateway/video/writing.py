"""From a stream's frames and events to public responses: protobuf begins again here."""

from collections.abc import Collection, Sequence

from limelight.convert.answers import model_to_proto, timings_to_proto
from limelight.convert.enums import PLAN_CAUSE, VERDICT
from limelight.convert.media import box_to_proto, mask_to_proto
from limelight.convert.plans import plan_to_proto
from limelight.v1 import video_pb2
from limelight.values import ModelInfo, Plan, PlanCause, VerdictKind
from services.domain import FrameTracks
from services.gateway.answers import WrittenMask
from services.gateway.video.choice import ToldObject
from services.gateway.video.tally import MaskletTally


def plan_to_response(
    plan: Plan, frame_index: int, cause: PlanCause
) -> video_pb2.TrackVideoResponse:
    response = video_pb2.TrackVideoResponse()
    response.plan.plan.CopyFrom(plan_to_proto(plan))
    response.plan.frame_index = frame_index
    response.plan.cause = PLAN_CAUSE.to_proto(cause)
    return response


def frame_to_response(
    frame: FrameTracks,
    told: Sequence[ToldObject],
    masks: Sequence[WrittenMask | None],
    gone: Collection[int],
    over_cap: int,
) -> video_pb2.TrackVideoResponse:
    return video_pb2.TrackVideoResponse(
        frame=video_pb2.TrackedFrame(
            frame_index=frame.index,
            timestamp_s=frame.timestamp_s,
            width=frame.width,
            height=frame.height,
            instances=[
                video_pb2.TrackedInstance(
                    object_id=item.number,
                    label=item.label,
                    phrase=item.phrase,
                    score=item.track.score,
                    box=box_to_proto(item.track.box),
                    mask=None if mask is None else mask_to_proto(mask),
                    area=item.track.area,
                )
                for item, mask in zip(told, masks, strict=True)
            ],
            gone=gone,
            over_cap=over_cap,
        )
    )


def masklet_to_proto(masklet: MaskletTally, verdict: VerdictKind) -> video_pb2.MaskletSummary:
    return video_pb2.MaskletSummary(
        object_id=masklet.number,
        label=masklet.label,
        first_frame=masklet.first_frame,
        last_frame=masklet.last_frame,
        frames=masklet.frames,
        pixels=masklet.pixels,
        verdict=VERDICT.to_proto(verdict),
    )


def summary_to_response(
    *,
    frames: int,
    masklets: Sequence[video_pb2.MaskletSummary],
    summary: str,
    dropped: int,
    resumed: int,
    warning: str,
    timings_ms: dict[str, float],
    models: Sequence[ModelInfo],
) -> video_pb2.TrackVideoResponse:
    return video_pb2.TrackVideoResponse(
        summary=video_pb2.TrackSummary(
            frames=frames,
            objects=masklets,
            summary=summary,
            dropped=dropped,
            resumed=resumed,
            warning=warning,
            timings=timings_to_proto(timings_ms),
            models=map(model_to_proto, models),
        )
    )
