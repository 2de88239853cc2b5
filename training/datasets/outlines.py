"""An annotation's outline, as COCO has it: polygons or run lengths, judged and made one mask.

pycocotools draws polygons by walking every pixel of their edges, however long, so that they are
judged before it sees them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pycocotools import mask as coco_mask

from limelight.masks import from_counts, rle_area, validate_rle
from limelight.values import RLE
from services.errors import ServiceError

# Of a picture's sides, how far an outline may reach beyond it: tools let people drag a corner out,
# and what lies outside is cut off.
_BEYOND = 1.0
_LEAST_CORNERS = 3


@dataclass(frozen=True, slots=True)
class MaskFault:
    """Why an outline cannot be used: the part of the segmentation, what is wrong, in few words."""

    part: str
    message: str
    kind: str


def read_mask(segmentation: object, size: tuple[int, int]) -> RLE | MaskFault:
    """The mask of an annotation's ``segmentation``, with at least one pixel, or what is wrong.

    Args:
        segmentation: as in JSON.
        size: width and height of its image in pixels.
    """
    if isinstance(segmentation, list):
        mask = _from_polygons(segmentation, size)
    elif isinstance(segmentation, dict):
        mask = _from_runs(segmentation, size)
    else:
        return MaskFault("", "neither polygons nor run lengths", "outline of another form")
    if isinstance(mask, RLE) and not rle_area(mask):
        return MaskFault("", "it has not one pixel of the picture", "outline without a pixel")
    return mask


def _from_polygons(polygons: list[Any], size: tuple[int, int]) -> RLE | MaskFault:
    width, height = size
    kind = "outline of another form"
    if not polygons:
        return MaskFault("", "no polygon: a box alone is not an outline", kind)
    for index, polygon in enumerate(polygons):
        part = f"[{index}]"
        if not isinstance(polygon, list) or not set(map(type, polygon)) <= {int, float}:
            return MaskFault(part, "not a list of numbers", kind)
        if len(polygon) % 2 or len(polygon) < 2 * _LEAST_CORNERS:
            message = f"{len(polygon)} numbers, not x and y in turn of at least 3 corners"
            return MaskFault(part, message, kind)
        for at, value in enumerate(polygon):
            side = (width, height)[at % 2]
            # Too large a whole number for a float is not below any of them either.
            if not -_BEYOND * side <= value <= (1 + _BEYOND) * side:
                what = "not a finite number"
                if isinstance(value, int) or math.isfinite(value):
                    what = f"far beyond the picture of {width} x {height} pixels"
                message = f"{str(value)[:20]} is {what}"
                return MaskFault(f"{part}[{at}]", message, "outline out of bounds")
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return RLE((height, width), merged["counts"])


def _from_runs(runs: Mapping[str, Any], size: tuple[int, int]) -> RLE | MaskFault:
    width, height = size
    kind = "run lengths of another form"
    found, counts = runs.get("size"), runs.get("counts")
    if not isinstance(found, list) or not all(type(side) is int for side in found):
        return MaskFault(".size", f"{found!r} is not [height, width]", kind)
    if found != [height, width]:
        swapped = ": it is [width, height]" if found == [width, height] else ""
        message = f"{found} is not its image's [{height}, {width}]{swapped}"
        return MaskFault(".size", message, "run lengths of another size")
    try:
        if isinstance(counts, list):
            if not set(map(type, counts)) <= {int}:
                return MaskFault(".counts", "not a list of whole numbers", kind)
            if any(not 0 <= count <= width * height for count in counts):
                return MaskFault(".counts", "a run that is negative or beyond its size", kind)
            return from_counts((height, width), counts)
        if not isinstance(counts, str) or not counts.isascii():
            return MaskFault(".counts", "neither a list nor a string of run lengths", kind)
        mask = RLE((height, width), counts.encode())
        validate_rle(mask)
    except ServiceError as error:
        return MaskFault(".counts", error.message, kind)
    return mask
