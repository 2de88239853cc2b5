"""Executing a plan: arithmetic on masks, never a model.

The order is fixed: the union of `include`, less what `exclude` covers, reviewed where asked, then
`select`. All of it works on run lengths; no mask is unpacked. Ties keep the better score, then the
lower id, so the same plan and masks give the same answer.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from limelight.masks import centroid, intersection_areas, rle_iou
from limelight.values import ConceptQuery, Plan, SelectBy, Selection
from services.domain import Provenance, SegmentedImage, SegmentedInstance
from services.selection import rank_key

# Two candidates of different queries with a greater IoU are the same thing ("animal" and "dog").
SAME_IOU = 0.7
# A candidate with a greater part of its pixels under an excluded one is excluded.
EXCLUDED_COVER = 0.5


def found(plan: Plan, image: SegmentedImage) -> list[SegmentedInstance]:
    """Every candidate of `include`, best score first, ids from 1; the same thing only once."""
    drafts = _instances(plan.include, image, first=0)
    kept: list[SegmentedInstance] = []
    for item in sorted(drafts, key=lambda item: -item.score):
        if not any(same_thing(item, better) for better in kept):
            kept.append(item)
    return [replace(item, id=number) for number, item in enumerate(kept, start=1)]


def excluded(
    plan: Plan, image: SegmentedImage, candidates: Sequence[SegmentedInstance]
) -> set[int]:
    """The ids of the candidates that `exclude` takes away."""
    return covered(candidates, _instances(plan.exclude, image, first=len(plan.include)))


def covered(
    candidates: Sequence[SegmentedInstance], against: Sequence[SegmentedInstance]
) -> set[int]:
    """The ids of the candidates of whose pixels more than `EXCLUDED_COVER` are one of `against`."""
    if not against or not candidates:
        return set()
    inter = intersection_areas([c.mask for c in candidates], [a.mask for a in against])
    cover = inter.max(axis=1) / np.array([max(c.area, 1) for c in candidates])
    return {c.id for c, part in zip(candidates, cover, strict=True) if part > EXCLUDED_COVER}


def selected(
    selection: Selection | None, candidates: Sequence[SegmentedInstance], width: int, height: int
) -> list[SegmentedInstance]:
    """The candidates `selection` keeps, in its order; all of them, in theirs, without one."""
    if selection is None:
        return list(candidates)

    def order(item: SegmentedInstance) -> tuple[float, float, int]:
        return (_rank(item, selection.by, width, height), -item.score, item.id)

    ranked = sorted(candidates, key=order)
    first = selection.rank - 1
    return ranked[first : first + selection.count]


def same_thing(a: SegmentedInstance, b: SegmentedInstance) -> bool:
    """Whether two queries found the same thing. Within one, the segmenter has seen to it."""
    if a.provenance.query == b.provenance.query:
        return False
    # No two masks share more than their boxes do: most pairs need no look at their run lengths.
    width = min(a.box.x1, b.box.x1) - max(a.box.x0, b.box.x0)
    height = min(a.box.y1, b.box.y1) - max(a.box.y0, b.box.y0)
    if width <= 0 or height <= 0 or width * height <= SAME_IOU * max(a.area, b.area):
        return False
    return rle_iou(a.mask, b.mask) > SAME_IOU


def _rank(item: SegmentedInstance, by: SelectBy, width: int, height: int) -> float:
    # An empty mask has no place: it comes last.
    position = centroid(item.mask)
    if position is None:
        return math.inf
    return rank_key(
        by, position=position, area=item.area, score=item.score, width=width, height=height
    )


def _instances(
    queries: Sequence[ConceptQuery], image: SegmentedImage, first: int
) -> list[SegmentedInstance]:
    """The detections of `queries`, whose results start at index `first`; ids are not given yet."""
    return [
        SegmentedInstance(
            id=0,
            label=query.phrase or "exemplar",
            phrase=query.phrase,
            score=detection.score,
            presence=image.results[index].presence,
            box=detection.box,
            mask=detection.mask,
            area=detection.area,
            provenance=Provenance(query=index),
        )
        for index, query in enumerate(queries, start=first)
        for detection in image.results[index].detections
    ]
