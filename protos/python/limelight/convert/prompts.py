"""Prompts of a video and their changes: `limelight/v1/video.proto`."""

from limelight.convert.media import box_from_proto, box_to_proto, rle_from_proto, rle_to_proto
from limelight.convert.plans import queries_from_proto, query_to_proto
from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from limelight.v1 import video_pb2
from limelight.values import (
    AddQuery,
    Box,
    DropPhrase,
    ObjectPrompt,
    Point,
    PromptChange,
    RemoveObject,
    SetObject,
    TimeRange,
)


def object_to_proto(prompt: ObjectPrompt) -> video_pb2.ObjectPrompt:
    message = video_pb2.ObjectPrompt(object_id=prompt.object_id, label=prompt.label)
    match prompt.shape:
        case Box():
            message.box.CopyFrom(box_to_proto(prompt.shape))
        case tuple():
            message.points.SetInParent()
            for point in prompt.shape:
                message.points.points.add(x=point.x, y=point.y, negative=not point.positive)
        case _:
            message.mask.CopyFrom(rle_to_proto(prompt.shape))
    return message


def object_from_proto(message: video_pb2.ObjectPrompt, path: FieldPath) -> ObjectPrompt:
    """An unset label is "object". Raises `InvalidRequest` for one that is shown by nothing."""
    shape: Box | tuple[Point, ...] | None = None
    match message.WhichOneof("shape"):
        case "box":
            shape = box_from_proto(message.box)
        case "points":
            shape = tuple(Point(p.x, p.y, not p.negative) for p in message.points.points)
        case "mask":
            return ObjectPrompt(
                rle_from_proto(message.mask), message.label or "object", message.object_id
            )
    if shape is None:
        raise InvalidRequest(
            Reason.OBJECT_INVALID, "an object needs a box, points or a mask", field=path
        )
    return ObjectPrompt(shape, message.label or "object", message.object_id)


def change_to_proto(change: PromptChange) -> video_pb2.PromptChange:
    message = video_pb2.PromptChange(at_frame=change.at_frame)
    match change.change:
        case AddQuery(query):
            message.add_query.CopyFrom(query_to_proto(query))
        case DropPhrase(phrase):
            message.drop_phrase = phrase
        case SetObject(prompt):
            message.set_object.CopyFrom(object_to_proto(prompt))
        case RemoveObject(number):
            message.remove_object = number
    return message


def change_from_proto(message: video_pb2.PromptChange, path: FieldPath) -> PromptChange:
    """Raises `InvalidRequest` for a change of nothing."""
    at_frame = message.at_frame if message.HasField("at_frame") else None
    match message.WhichOneof("change"):
        case "add_query":
            (query,) = queries_from_proto([message.add_query])
            return PromptChange(AddQuery(query), at_frame)
        case "drop_phrase":
            return PromptChange(DropPhrase(message.drop_phrase), at_frame)
        case "set_object":
            prompt = object_from_proto(message.set_object, path / "set_object")
            return PromptChange(SetObject(prompt), at_frame)
        case "remove_object":
            return PromptChange(RemoveObject(message.remove_object), at_frame)
    raise InvalidRequest(Reason.MESSAGE_INVALID, "a change must say what changes", field=path)


def range_to_proto(part: TimeRange) -> video_pb2.TimeRange:
    return video_pb2.TimeRange(start_s=part.start_s, end_s=part.end_s or 0.0)


def range_from_proto(part: video_pb2.TimeRange) -> TimeRange:
    return TimeRange(part.start_s, part.end_s or None)
