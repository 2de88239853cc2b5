"""Tracking sessions: `limelight/internal/v1/tracker.proto`."""

from google.protobuf.message import DecodeError

from limelight.convert.answers import (
    model_from_proto,
    model_to_proto,
    timings_from_proto,
    timings_to_proto,
)
from limelight.convert.media import box_from_proto, box_to_proto, rle_from_proto, rle_to_proto
from limelight.convert.plans import queries_from_proto, query_to_proto
from limelight.convert.prompts import (
    change_from_proto,
    change_to_proto,
    object_from_proto,
    object_to_proto,
    range_from_proto,
    range_to_proto,
)
from limelight.internal.v1 import tracker_pb2
from limelight.paths import FieldPath
from services.domain import (
    EncodedFrame,
    FrameTracks,
    MediaEnd,
    ObjectTrack,
    PacketGroup,
    ResumePoint,
    SessionState,
    TrackEvent,
    TrackOpened,
    TrackOpening,
    TrackStep,
)
from services.errors import InvalidRequest, Reason

_CHANGE = FieldPath(("change",))
_OBJECTS = FieldPath(("opening", "objects"))
_STATE = FieldPath(("opening", "state"))


def opening_to_proto(opening: TrackOpening) -> tracker_pb2.TrackRequest:
    return tracker_pb2.TrackRequest(
        opening=tracker_pb2.TrackOpening(
            queries=map(query_to_proto, opening.queries),
            objects=map(object_to_proto, opening.objects),
            score_threshold=opening.score_threshold,
            max_objects=opening.max_objects,
            media_header=opening.media_header,
            stride=opening.stride,
            max_side=opening.max_side,
            range=None if opening.range is None else range_to_proto(opening.range),
            live=opening.live,
            state=opening.state,
            next_frame=opening.next_frame,
        )
    )


def opening_from_proto(request: tracker_pb2.TrackRequest) -> TrackOpening:
    """Raises `InvalidRequest` if the first message is not an opening."""
    if request.WhichOneof("step") != "opening":
        raise InvalidRequest(
            Reason.MESSAGE_INVALID, "the first message must open the session", field=FieldPath()
        )
    opening = request.opening
    return TrackOpening(
        queries=queries_from_proto(opening.queries),
        objects=tuple(
            object_from_proto(prompt, _OBJECTS / index)
            for index, prompt in enumerate(opening.objects)
        ),
        score_threshold=opening.score_threshold,
        max_objects=opening.max_objects,
        media_header=opening.media_header,
        stride=max(1, opening.stride),
        max_side=opening.max_side,
        range=range_from_proto(opening.range) if opening.HasField("range") else None,
        live=opening.live,
        state=opening.state,
        next_frame=opening.next_frame,
    )


def step_to_proto(step: TrackStep) -> tracker_pb2.TrackRequest:
    match step:
        case MediaEnd():
            return tracker_pb2.TrackRequest(media_end=True)
        case PacketGroup(content, index):
            group = tracker_pb2.PacketGroup(content=content, index=index)
            return tracker_pb2.TrackRequest(group=group)
        case EncodedFrame(content, index, timestamp_s):
            frame = tracker_pb2.EncodedFrame(index=index, timestamp_s=timestamp_s)
            frame.image.content = content
            return tracker_pb2.TrackRequest(frame=frame)
        case change:
            return tracker_pb2.TrackRequest(change=change_to_proto(change))


def step_from_proto(request: tracker_pb2.TrackRequest) -> TrackStep:
    """Raises `InvalidRequest` for a second opening, and as the change's conversion does."""
    match request.WhichOneof("step"):
        case "group":
            return PacketGroup(request.group.content, request.group.index)
        case "frame":
            frame = request.frame
            return EncodedFrame(frame.image.content, frame.index, frame.timestamp_s)
        case "change":
            return change_from_proto(request.change, _CHANGE)
        case "media_end":
            return MediaEnd()
    raise InvalidRequest(
        Reason.MESSAGE_INVALID, "the session is open already", field=FieldPath(("opening",))
    )


def event_to_proto(event: TrackEvent) -> tracker_pb2.TrackResponse:
    match event:
        case TrackOpened(model):
            opened = tracker_pb2.TrackOpened(model=model_to_proto(model))
            return tracker_pb2.TrackResponse(opened=opened)
        case SessionState(next_frame, group, content, changes):
            state = tracker_pb2.SessionState(
                next_frame=next_frame, group=group, content=content, changes=changes
            )
            return tracker_pb2.TrackResponse(state=state)
        case tracks:
            return tracker_pb2.TrackResponse(frame=_tracks_to_proto(tracks))


def event_from_proto(response: tracker_pb2.TrackResponse) -> TrackEvent | None:
    """None for a response that only gives credits back."""
    match response.WhichOneof("event"):
        case "opened":
            return TrackOpened(model_from_proto(response.opened.model))
        case "frame":
            return _tracks_from_proto(response.frame)
        case "state":
            state = response.state
            return SessionState(state.next_frame, state.group, state.content, state.changes)
    return None


def resume_point_to_bytes(point: ResumePoint) -> bytes:
    return tracker_pb2.TrackerState(
        session=point.session,
        waiting=map(change_to_proto, point.waiting),
        times=[
            tracker_pb2.FrameTime(index=index, timestamp_s=time_s)
            for index, time_s in point.times.items()
        ],
        changes=point.changes,
    ).SerializeToString()


def resume_point_from_bytes(content: bytes) -> ResumePoint:
    """Raises `InvalidRequest` for bytes that no tracker of this version wrote."""
    try:
        state = tracker_pb2.TrackerState.FromString(content)
    except DecodeError as error:
        raise InvalidRequest(
            Reason.MESSAGE_INVALID, "the state is not one of a tracker's", field=_STATE
        ) from error
    return ResumePoint(
        session=state.session,
        waiting=tuple(change_from_proto(change, _STATE) for change in state.waiting),
        times={time.index: time.timestamp_s for time in state.times},
        changes=state.changes,
    )


def _tracks_to_proto(tracks: FrameTracks) -> tracker_pb2.FrameTracks:
    return tracker_pb2.FrameTracks(
        index=tracks.index,
        timestamp_s=tracks.timestamp_s,
        width=tracks.width,
        height=tracks.height,
        objects=[
            tracker_pb2.ObjectTrack(
                object_id=item.object_id,
                query=item.query,
                score=item.score,
                presence=item.presence,
                box=box_to_proto(item.box),
                mask=rle_to_proto(item.mask),
                area=item.area,
            )
            for item in tracks.objects
        ],
        removed=tracks.removed,
        over_cap=tracks.over_cap,
        timings=timings_to_proto(tracks.timings_ms),
    )


def _tracks_from_proto(tracks: tracker_pb2.FrameTracks) -> FrameTracks:
    return FrameTracks(
        index=tracks.index,
        timestamp_s=tracks.timestamp_s,
        width=tracks.width,
        height=tracks.height,
        objects=tuple(
            ObjectTrack(
                object_id=item.object_id,
                query=item.query,
                score=item.score,
                presence=item.presence,
                box=box_from_proto(item.box),
                mask=rle_from_proto(item.mask),
                area=item.area,
            )
            for item in tracks.objects
        ),
        removed=tuple(tracks.removed),
        over_cap=tracks.over_cap,
        timings_ms=timings_from_proto(tracks.timings),
    )
