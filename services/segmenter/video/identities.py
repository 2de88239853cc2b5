"""Which object each detection is, by where objects are expected as well as by their masks.

`Sam3VideoModel` compares masks alone. Of two equal dogs that cross, both tracked masks may end on
the one in front, and the ids swap. Here each detection is one object's at most, and a frame is
decided as a whole: its pairs are those of the least total cost, in which a mask that lies elsewhere
costs and a place where an object was expected saves (`motion`). Where several pairs are likely,
what objects look like decides as well (`looks`). SAM 2's trackers gained by motion, too (Yang et
al., "SAMURAI", 2024; Jiang et al., "SAM2MOT", 2025).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from services.codecs.images import Rgb
from services.segmenter.video.engine import Logits, TrackingPolicy
from services.segmenter.video.looks import ObjectLook, difference, looked
from services.segmenter.video.matching import FrameDetections, Matches, TrackRecord, mask_iou
from services.segmenter.video.motion import (
    Extent,
    ObjectMotion,
    begun,
    extent_of,
    is_of_two,
    parted,
    placed,
    predicted,
    share_of_two,
    surprise,
    updated,
)

# What a tracked mask that has nothing of the detection costs, in nats, as surprise does.
_ELSEWHERE = 0.25
# A pair that costs as much is none: the detection is of something else.
_UNLIKELY = 20.0
# What a difference of 1 from an object's look costs, in nats; the difference above which none costs
# more; and what one counts as that cannot be told.
_LOOK, _MOST_LOOK, _UNKNOWN_LOOK = 40.0, 0.2, 0.08
# Frames after which an object that nothing showed is not looked for in others' detections.
_RECENT = 12
# A tracked mask of which another object's detection covers this share is that object's.
_GHOST = 0.5


def followed(
    at: int,
    records: Sequence[TrackRecord],
    detections: FrameDetections,
    masks: Logits,
    frame: Rgb,
    policy: TrackingPolicy,
) -> tuple[list[TrackRecord], Matches]:
    """The records, each with its motion after this frame, and what the detections show.

    Args:
        at: place of the frame.
        records: the tracked objects; prompted ones are no detection's business.
        detections: of the frame.
        masks: the objects' tracked masks, float32 (n, h, w), logits.
        frame: a `small_frame` of it.
        policy: the thresholds.
    """
    motions = [predicted(record.motion) if record.motion else None for record in records]
    looks = [record.look for record in records]
    concepts = np.array([record.concept for record in records], np.int64)
    solid, tracked = detections.masks > 0, masks > 0
    extents = [extent_of(mask) for mask in solid]
    overlap = mask_iou(solid, tracked)
    away = np.array([at - record.seen > policy.motion_frames for record in records], np.bool_)
    same = detections.concepts[:, None] == concepts[None]
    possible = same & (~away[None] | (overlap >= policy.detection_match_iou))
    cost = costs(motions, extents, possible, overlap)
    apart = differences(looks, motions, solid, extents, cost, frame)
    pairs = paired(cost + _LOOK * (np.minimum(apart, _MOST_LOOK) - _UNKNOWN_LOOK))
    matches = Matches(tracks_of={detection: [index] for index, detection in pairs.items()})
    for index, detection in pairs.items():
        if detections.scores[detection] >= policy.recondition_score:
            matches.confirming[index] = detection
        if overlap[detection, index] < policy.track_match_iou:
            matches.corrected[index] = detection
    shared = _shared(at, records, motions, pairs, extents)
    for index, detection in pairs.items():
        extent, motion = extents[detection], motions[index]
        if extent is None or index in shared:
            continue
        motions[index] = updated(motion, extent) if motion else begun(extent)
        looks[index] = looked(looks[index], frame, solid[detection], placed(motion, extent))
    for index, other in shared.items():
        detection = pairs[index]
        first, second, extent = motions[index], motions[other], extents[detection]
        assert first and second and extent  # noqa: PT018
        first, second = parted(first, second, extent)
        motions[index], motions[other] = first, second
        own = share_of_two(first, second, solid.shape[1:])
        matches.parts |= {index: own, other: ~own}
        matches.tracks_of[detection].append(other)
        matches.corrected |= {index: detection, other: detection}
    found = {*pairs, *shared.values()}
    shown = np.array(list(pairs.values()), np.int64)
    for index in np.flatnonzero(concepts >= 0).tolist():
        if index in found:
            continue
        if not tracked[index].any():
            matches.empty.append(index)
        elif _covered(tracked[index], solid[shown[same[shown, index]]]) >= _GHOST:
            matches.ghosts.append(index)
            matches.empty.append(index)
        else:
            matches.unmatched.append(index)
    # What lies on the mask of one that is elsewhere is not a part of it.
    whole = [index for index in found if index not in matches.corrected] + matches.unmatched
    # Where nothing is tracked yet, every detection is taken up, however sure.
    least = policy.new_object_score if (concepts >= 0).any() else 0.0
    for detection, score in enumerate(detections.scores):
        known = (overlap[detection] * same[detection])[whole] >= policy.detection_match_iou
        left = detection not in matches.tracks_of and extents[detection] is not None
        if left and not known.any() and score >= least:
            matches.new.append(detection)
    after = zip(records, motions, looks, strict=True)
    return [replace(r, motion=motion, look=look) for r, motion, look in after], matches


def first_seen(
    mask: NDArray[np.bool_], frame: Rgb | None
) -> tuple[ObjectMotion | None, ObjectLook | None]:
    """Motion and look of a new object by its mask, (h, w), in a `small_frame`; None of nothing."""
    extent = extent_of(mask)
    if frame is None or extent is None:
        return None, None
    return begun(extent), looked(None, frame, mask, placed(None, extent))


def costs(
    expected: Sequence[ObjectMotion | None],
    seen: Sequence[Extent | None],
    possible: NDArray[np.bool_],
    overlap: NDArray[np.float32],
) -> NDArray[np.float64]:
    """What each detection costs as each object, (n, d), in nats, by motion and by masks; at most
    `_UNLIKELY`.

    Args:
        expected: of each object, its motion predicted for this frame; None where it is unknown.
        seen: of each detection, its extent; None of an empty mask.
        possible: whether each detection may be of each object, (d, n).
        overlap: IoU of each detection's mask with each tracked one, (d, n).
    """
    cost = np.full((len(expected), len(seen)), _UNLIKELY)
    for detection, index in np.argwhere(possible):
        extent, motion = seen[detection], expected[index]
        if extent is not None:
            price = _ELSEWHERE * (1 - float(overlap[detection, index]))
            price += surprise(motion, extent) if motion is not None else 0.0
            cost[index, detection] = min(price, _UNLIKELY)
    return cost


def differences(
    looks: Sequence[ObjectLook | None],
    motions: Sequence[ObjectMotion | None],
    solid: NDArray[np.bool_],
    extents: Sequence[Extent | None],
    cost: NDArray[np.float64],
    frame: Rgb,
) -> NDArray[np.float64]:
    """How much each detection differs from each object's look, (n, d); `_UNKNOWN_LOOK` where that
    cannot be told, or decides nothing since no other pair contests it.
    """
    apart = np.full(cost.shape, _UNKNOWN_LOOK)
    likely = cost < _UNLIKELY
    contested = likely & ((likely.sum(0)[None] > 1) | (likely.sum(1)[:, None] > 1))
    for index, detection in np.argwhere(contested):
        look, motion, extent = looks[index], motions[index], extents[detection]
        if look is not None and extent is not None:
            found = difference(look, frame, solid[detection], placed(motion, extent))
            apart[index, detection] = _UNKNOWN_LOOK if found is None else found
    return apart


def paired(cost: NDArray[np.float64]) -> dict[int, int]:
    """The detection of each object that has one, by their indices in `cost`, (n, d)."""
    rows, columns = linear_sum_assignment(np.minimum(cost, _UNLIKELY))
    return {
        int(index): int(detection)
        for index, detection in zip(rows, columns, strict=True)
        if cost[index, detection] < _UNLIKELY
    }


def _shared(
    at: int,
    records: Sequence[TrackRecord],
    motions: Sequence[ObjectMotion | None],
    pairs: Mapping[int, int],
    extents: Sequence[Extent | None],
) -> dict[int, int]:
    """Of objects whose detection shows a second one as well, that one: the detector takes two that
    touch for one, and the one behind would be lost.
    """
    missed = [
        index
        for index, record in enumerate(records)
        if motions[index] and index not in pairs and at - record.seen <= _RECENT
    ]
    shared: dict[int, int] = {}
    for index, detection in pairs.items():
        motion, extent = motions[index], extents[detection]
        for other in missed:
            second = motions[other]
            if (
                motion
                and extent
                and second
                and records[other].concept == records[index].concept
                and other not in shared.values()
                and is_of_two(motion, second, extent)
            ):
                shared[index] = other
                break
    return shared


def _covered(mask: NDArray[np.bool_], others: NDArray[np.bool_]) -> float:
    """The largest share of a mask (h, w) that one of `others`, (n, h, w), covers."""
    shares = (mask & others).sum((1, 2)) / max(1, int(mask.sum()))
    return float(shares.max(initial=0.0))
