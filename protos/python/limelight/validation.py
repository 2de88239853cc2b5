"""The rules for values that callers send, whatever message brought them.

Converters only convert; whoever accepts a request calls these. Each raises `InvalidRequest` at the
path of the value at fault.
"""

import math
from collections.abc import Sequence

from limelight.faults import InvalidRequest, Reason
from limelight.masks import rle_area, validate_rle
from limelight.paths import FieldPath
from limelight.text import text_fault
from limelight.values import Box, ConceptQuery, Exemplar, ObjectPrompt, Point, Selection

# Boxes with a greater IoU than this show the same thing, whoever drew them.
SAME_BOX_IOU = 0.9


def check_box(box: Box, path: FieldPath) -> None:
    """The four sides are finite and enclose an area: BOX_INVALID otherwise."""
    sides = box.x0, box.y0, box.x1, box.y1
    if not all(math.isfinite(side) for side in sides):
        raise InvalidRequest(Reason.BOX_INVALID, "a side is not a finite number", field=path)
    if box.x1 <= box.x0 or box.y1 <= box.y0:
        written = ",".join(f"{side:.9g}" for side in sides)
        raise InvalidRequest(
            Reason.BOX_INVALID,
            f"the box must have x1 > x0 and y1 > y0, not {written}",
            field=path,
        )


def check_query(
    query: ConceptQuery, path: FieldPath, *, max_exemplars: int, max_phrase_chars: int
) -> None:
    """A phrase, exemplars or both: QUERY_INVALID, PHRASE_INVALID or BOX_INVALID otherwise.

    Without a phrase, one exemplar at least is positive; no box is both.
    """
    if not query.phrase and not query.exemplars:
        raise InvalidRequest(
            Reason.QUERY_INVALID, "a query needs a phrase or a positive exemplar", field=path
        )
    if query.phrase:
        fault = text_fault(query.phrase, max_phrase_chars)
        if fault is not None:
            raise InvalidRequest(
                Reason.PHRASE_INVALID, f"the phrase {fault}", field=path / "phrase"
            )
    if len(query.exemplars) > max_exemplars:
        raise InvalidRequest(
            Reason.QUERY_INVALID,
            f"{len(query.exemplars)} exemplars; at most {max_exemplars} per query",
            field=path / "exemplars",
        )
    for index, exemplar in enumerate(query.exemplars):
        check_box(exemplar.box, path / "exemplars" / index / "box")
    if not query.phrase and not any(exemplar.positive for exemplar in query.exemplars):
        raise InvalidRequest(
            Reason.QUERY_INVALID,
            "negative exemplars alone ask for nothing; they go with a phrase or a positive one",
            field=path / "exemplars",
        )
    check_signs(query.exemplars, path)


def check_signs(exemplars: Sequence[Exemplar], path: FieldPath) -> None:
    """No box is positive and negative at once: QUERY_INVALID at the negative one otherwise."""
    for index, negative in enumerate(exemplars):
        if negative.positive:
            continue
        for other, positive in enumerate(exemplars):
            if positive.positive and negative.box.iou(positive.box) > SAME_BOX_IOU:
                raise InvalidRequest(
                    Reason.QUERY_INVALID,
                    f"the box is negative, and exemplar {other} is the same box and positive",
                    field=path / "exemplars" / index / "box",
                )


def check_selection(selection: Selection, path: FieldPath) -> None:
    """Rank and count are at least 1: OPTION_INVALID otherwise."""
    for name, value in (("rank", selection.rank), ("count", selection.count)):
        if value < 1:
            raise InvalidRequest(
                Reason.OPTION_INVALID, f"{name} must be 1 or more, not {value}", field=path / name
            )


def check_share(value: float, name: str, path: FieldPath) -> None:
    """A number from 0 to 1: OPTION_INVALID otherwise."""
    if not 0 <= value <= 1:  # also false for NaN
        raise InvalidRequest(
            Reason.OPTION_INVALID, f"{name} must be from 0 to 1, not {value:.9g}", field=path
        )


def check_object(
    prompt: ObjectPrompt, path: FieldPath, *, max_points: int, max_label_chars: int
) -> None:
    """A box, points of which one is positive, or a sound mask with pixels; a printable label.

    OBJECT_INVALID, BOX_INVALID or CANDIDATE_INVALID (a malformed mask) otherwise.
    """
    fault = text_fault(prompt.label, max_label_chars)
    if fault is not None:
        raise InvalidRequest(Reason.OBJECT_INVALID, f"the label {fault}", field=path / "label")
    if prompt.object_id < 0:
        raise InvalidRequest(
            Reason.OBJECT_INVALID,
            f"an object's id is 1 or more, not {prompt.object_id}",
            field=path / "object_id",
        )
    match prompt.shape:
        case Box():
            check_box(prompt.shape, path / "box")
        case tuple():
            _check_points(prompt.shape, path / "points", max_points)
        case _:
            validate_rle(prompt.shape, field=path / "mask")
            if not rle_area(prompt.shape):
                raise InvalidRequest(
                    Reason.OBJECT_INVALID, "the mask is empty", field=path / "mask"
                )


def _check_points(points: tuple[Point, ...], path: FieldPath, max_points: int) -> None:
    if not any(point.positive for point in points):
        raise InvalidRequest(
            Reason.OBJECT_INVALID, "at least one point must be positive", field=path
        )
    if len(points) > max_points:
        raise InvalidRequest(
            Reason.OBJECT_INVALID,
            f"{len(points)} points; at most {max_points} per object",
            field=path,
        )
    for index, point in enumerate(points):
        if not (math.isfinite(point.x) and math.isfinite(point.y)):
            raise InvalidRequest(
                Reason.OBJECT_INVALID,
                "a coordinate is not a finite number",
                field=path / "points" / index,
            )
