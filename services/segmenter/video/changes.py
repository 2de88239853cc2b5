"""Changes of what a session tracks, as they wait for its next frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from limelight.masks import decode_rle
from limelight.paths import FieldPath
from limelight.validation import check_box
from limelight.values import RLE, Box, ConceptQuery
from services.errors import InvalidRequest, Reason
from services.segmenter.video.engine import Clicks, Logits

# x, y in pixels, and whether the point is on the object.
Click = tuple[float, float, bool]
# What shows an object: its box, points on it and beside it, or its mask.
Shape = Box | Sequence[Click] | RLE

SHAPE = FieldPath(("shape",))
OBJECT_ID = FieldPath(("object_id",))


@dataclass(frozen=True, slots=True)
class PhraseAdded:
    """A concept more; `key` counts all that the session was given."""

    key: int
    query: ConceptQuery


@dataclass(frozen=True, slots=True)
class PhraseRemoved:
    """A concept less; its objects go with it."""

    phrase: str


@dataclass(frozen=True, slots=True)
class ObjectShown:
    """An object of the next frame: one that is corrected, or with `object_id` 0 a new one of the
    concept `key`.
    """

    object_id: int
    key: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class ObjectRemoved:
    """An object less."""

    object_id: int


SessionChange = PhraseAdded | PhraseRemoved | ObjectShown | ObjectRemoved


def check_shape(shape: Shape, max_clicks: int) -> None:
    """Everything that can be said of it without the frame.

    Raises:
        InvalidRequest: BOX_INVALID, CANDIDATE_INVALID for a mask, OPTION_INVALID for points.
    """
    if isinstance(shape, Box):
        check_box(shape, SHAPE)
    elif isinstance(shape, RLE):
        if not decode_rle(shape, field=SHAPE).any():
            raise InvalidRequest(Reason.CANDIDATE_INVALID, "the mask is empty", field=SHAPE)
    elif not any(positive for _, _, positive in shape):
        raise InvalidRequest(Reason.OPTION_INVALID, "no point is on the object", field=SHAPE)
    elif len(shape) > max_clicks:
        raise InvalidRequest(
            Reason.OPTION_INVALID,
            f"{len(shape)} points; at most {max_clicks} per object",
            field=SHAPE,
        )


def shown_by(shape: Shape, height: int, width: int) -> tuple[Logits | None, Clicks | None]:
    """`shape` in a frame of `height` x `width` pixels as the mask or clicks of `ObjectStart`.

    Raises:
        InvalidRequest: the mask has another size, or box or points lie outside the frame.
    """
    if isinstance(shape, RLE):
        if shape.size != (height, width):
            raise InvalidRequest(
                Reason.CANDIDATE_INVALID,
                f"a mask of {shape.size[1]} x {shape.size[0]} pixels in a frame of "
                f"{width} x {height}",
                field=SHAPE,
            )
        return decode_rle(shape, field=SHAPE).astype(np.float32), None
    if isinstance(shape, Box):
        corners = np.array([[shape.x0, shape.y0], [shape.x1, shape.y1]], np.float32)
        if shape.x0 >= width or shape.y0 >= height or shape.x1 <= 0 or shape.y1 <= 0:
            raise InvalidRequest(
                Reason.BOX_INVALID,
                f"the box lies outside the frame of {width} x {height} pixels",
                field=SHAPE,
            )
        points, labels = corners, np.array([2, 3], np.int64)
    else:
        points = np.array([(x, y) for x, y, _ in shape], np.float32)
        labels = np.array([positive for _, _, positive in shape], np.int64)
        inside = (points >= 0) & (points <= np.array([width, height]))
        if not inside.all():
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"a point lies outside the frame of {width} x {height} pixels",
                field=SHAPE,
            )
    shares = np.clip(points / np.array([width, height], np.float32), 0, 1).astype(np.float32)
    return None, Clicks(shares, labels)
