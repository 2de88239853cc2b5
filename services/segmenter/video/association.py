"""Which detection is which object: the policy of SAM 3 video, on numpy arrays.

One frame, top to bottom, is `associate`: detections are matched with the tracked masks, new objects
are taken up, duplicates and unmatched ones go, masks that overlap give way. What it computes is
what `Sam3VideoModel` does with the same `TrackingPolicy`, including what that class skips in
streaming mode (removal in the hot start, where `removal` is asked for) or without its kernels.
It changes nothing: the result says what is to be done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from services.codecs.images import Rgb
from services.segmenter.video.components import fill_and_clean
from services.segmenter.video.engine import Logits, TrackingPolicy
from services.segmenter.video.identities import first_seen, followed
from services.segmenter.video.looks import ObjectLook
from services.segmenter.video.matching import (
    NEVER,
    FrameDetections,
    Matches,
    TrackRecord,
    mask_iou,
    matched_by_masks,
)
from services.segmenter.video.motion import ObjectMotion

# The logit of every pixel of a mask that gives way.
_SUPPRESSED = np.float32(-10.0)
# The share of its area that a mask must keep where others of its concept claim its pixels.
_LEAST_SHARE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class FrameTracking:
    """The tracked masks of one frame, in the order of the session's records.

    `masks` float32 (n, h, w), logits as the model gave them; `scores` float32 (n,), logits.
    """

    masks: Logits
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class NewObject:
    """A detection that becomes an object: its index, and the mask it is shown with."""

    detection: int
    concept: int
    score: float
    mask: Logits
    motion: ObjectMotion | None
    look: ObjectLook | None


@dataclass(frozen=True, slots=True, eq=False)
class Association:
    """What is to be done with one frame.

    Attributes:
        records: the tracked objects' counts after this frame, removed ones included.
        masks: float32 (n, h, w), what each tracked object is shown with.
        memory_masks: float32 (n, h, w), what it is remembered with.
        confirmed: bool (n,), whether this is a conditioning frame for it.
        shared: bool (n,), whether its detection shows another object as well.
        hidden: bool (n,), not to be shown in this frame though tracked.
        removed: ids to forget.
        recalled: of these, duplicates and unmatched ones: frames held back must not show them.
        keep_alive_initial: the count that new objects begin with.
        new: what to take up.
        over_cap: detections that would have been, were there room.
    """

    records: tuple[TrackRecord, ...]
    masks: Logits
    memory_masks: Logits
    confirmed: NDArray[np.bool_]
    shared: NDArray[np.bool_]
    hidden: NDArray[np.bool_]
    removed: frozenset[int]
    recalled: frozenset[int]
    keep_alive_initial: int
    new: tuple[NewObject, ...]
    over_cap: int


def associate(
    at: int,
    records: Sequence[TrackRecord],
    detections: FrameDetections,
    tracking: FrameTracking,
    policy: TrackingPolicy,
    *,
    frame: Rgb | None = None,
    max_objects: int,
    patience: int,
    removal: bool,
) -> Association:
    """What frame `at`, counted from 0 in its session, does to the objects of `records`.

    Args:
        at: place of the frame.
        records: the tracked objects.
        detections: after `detections_of`.
        tracking: the tracked masks.
        policy: the model's thresholds.
        frame: a `small_frame` of it, where ids go by motion and looks too; None: by masks alone.
        max_objects: objects at most; of new ones beyond the best are kept.
        patience: at that limit, an object that nothing matched for more frames makes room.
        removal: whether duplicates and unmatched objects go while young.
    """
    masks = fill_and_clean(tracking.masks, policy.fill_area).copy()
    if frame is not None:
        records, matches = followed(at, records, detections, masks, frame, policy)
    else:
        matches = matched_by_masks(records, detections, masks, policy)
    masks[matches.ghosts] = _SUPPRESSED
    updated, recalled = _counted(at, records, detections, matches, policy, removal)
    wanted = len(records) - len(recalled) + len(matches.new) - max_objects
    removed = recalled | _lost(at, updated, recalled, patience, wanted)
    removed |= _worst(updated, removed, max_objects)
    room = max(0, max_objects - len(records) + len(removed))
    kept, over_cap = _best(matches.new, detections.scores, room)
    confirming = _confirming(at, matches, tracking, policy) | matches.corrected
    concepts = np.array([record.concept for record in records], np.int64)
    if policy.occlusion_iou > 0 and len(records):
        occluded = np.array([record.occluded for record in updated], np.int64)
        yielding = _yielding(masks > 0, occluded, concepts, policy.occlusion_iou)
        gone = yielding | ~(masks > 0).any((1, 2))
        masks[yielding] = _SUPPRESSED
        updated = [
            replace(record, occluded=at) if gone[index] else record
            for index, record in enumerate(updated)
        ]
    memory = masks.copy()
    shown = masks
    for index, detection in confirming.items():
        # The detection shows, also where the object is confirmed with its own mask.
        mask = detections.masks[detection]
        if index in matches.parts:
            mask = np.where(matches.parts[index], mask, np.minimum(mask, _SUPPRESSED))
        if not policy.recondition_from_track:
            memory[index] = (mask >= 0.5).astype(np.float32)
        shown[index] = mask
    drawn = fill_and_clean(detections.masks[kept], policy.fill_area)
    hidden = [
        removal and policy.suppress_unmatched_always and r.unmatched > 0 and r.keep_alive <= 0
        for r in updated
    ]
    return Association(
        records=tuple(updated),
        masks=shown,
        memory_masks=_without_shrunk(memory, concepts),
        confirmed=np.isin(np.arange(len(records)), list(confirming)),
        shared=np.isin(np.arange(len(records)), list(matches.parts)),
        hidden=np.array(hidden, np.bool_),
        removed=frozenset(removed),
        recalled=frozenset(recalled),
        keep_alive_initial=policy.keep_alive_initial,
        new=tuple(
            NewObject(
                index,
                int(detections.concepts[index]),
                float(detections.scores[index]),
                mask,
                *first_seen(detections.masks[index] > 0, frame),
            )
            for index, mask in zip(kept, drawn, strict=True)
        ),
        over_cap=over_cap,
    )


def suppress_duplicates(
    scores: NDArray[np.float32], masks: Logits, threshold: float
) -> NDArray[np.bool_]:
    """Which of one concept's detections stay: greedy by score, a mask goes where its IoU with a
    better one that stays is above `threshold`.
    """
    keep = np.ones(len(scores), np.bool_)
    if threshold <= 0 or len(scores) < 2:
        return keep
    overlap = mask_iou(masks > 0, masks > 0)
    for index in np.argsort(-scores, kind="stable"):
        if keep[index]:
            worse = (overlap[index] > threshold) & keep
            worse[index] = False
            keep &= ~(worse & (scores <= scores[index]))
    return keep


def _best(new: list[int], scores: NDArray[np.float32], room: int) -> tuple[list[int], int]:
    """The `room` best of the detections `new`, and how many are left out."""
    if len(new) <= room:
        return new, 0
    order = np.argsort(-scores[new], kind="stable")[:room]
    return [new[i] for i in order], len(new) - room


def _confirming(
    at: int, matches: Matches, tracking: FrameTracking, policy: TrackingPolicy
) -> dict[int, int]:
    """The objects that a detection confirms in frame `at`, and the detection."""
    if policy.recondition_every <= 0 or at % policy.recondition_every:
        return {}
    return {
        index: detection
        for index, detection in matches.confirming.items()
        if tracking.scores[index] > policy.recondition_score
    }


def _counted(
    at: int,
    records: Sequence[TrackRecord],
    detections: FrameDetections,
    matches: Matches,
    policy: TrackingPolicy,
    removal: bool,
) -> tuple[list[TrackRecord], set[int]]:
    """The records after frame `at`, and the ids that its counts remove."""
    updated = list(records)
    for detection, tracks in matches.tracks_of.items():
        for index in tracks:
            record = updated[index]
            updated[index] = replace(record, score=float(detections.scores[detection]), seen=at)
    for index in {index for tracks in matches.tracks_of.values() for index in tracks}:
        alive = min(policy.keep_alive_max, updated[index].keep_alive + 1)
        updated[index] = replace(updated[index], keep_alive=alive)
    for index in matches.unmatched:
        record = updated[index]
        alive = max(policy.keep_alive_min, record.keep_alive - 1)
        updated[index] = replace(record, keep_alive=alive, unmatched=record.unmatched + 1)
    if policy.keep_alive_counts_empty:
        for index in matches.empty:
            alive = max(policy.keep_alive_min, updated[index].keep_alive - 1)
            updated[index] = replace(updated[index], keep_alive=alive)
    for tracks in matches.tracks_of.values():
        if not matches.parts.keys() & tracks:
            _count_duplicates(tracks, updated)
    young = at - policy.hotstart_delay
    removed: set[int] = set()
    for index, record in enumerate(updated):
        if record.first <= young:
            # What is counted against young objects is of no use any more, and would grow.
            updated[index] = replace(record, duplicates=())
        elif removal and record.concept >= 0:
            most = max((count for _, count in record.duplicates), default=0)
            if record.unmatched >= policy.hotstart_unmatched or most >= policy.hotstart_duplicate:
                removed.add(record.object_id)
    return updated, removed


def _count_duplicates(tracks: Sequence[int], records: list[TrackRecord]) -> None:
    """Count, for each of `tracks` on one detection but the oldest, that it is on it with that."""
    if len(tracks) < 2:
        return
    oldest = min(tracks, key=lambda index: records[index].first)
    for index in tracks:
        if index != oldest:
            counts = dict(records[index].duplicates)
            older = records[oldest].object_id
            counts[older] = counts.get(older, 0) + 1
            records[index] = replace(records[index], duplicates=tuple(counts.items()))


def _lost(
    at: int, records: Sequence[TrackRecord], removed: set[int], patience: int, wanted: int
) -> set[int]:
    """At most `wanted` ids of objects that nothing matched for more than `patience` frames."""
    lost = sorted(
        (record.seen, record.score, record.object_id)
        for record in records
        if record.concept >= 0 and at - record.seen > patience and record.object_id not in removed
    )
    return {object_id for _, _, object_id in lost[: max(0, wanted)]}


def _worst(records: Sequence[TrackRecord], removed: set[int], max_objects: int) -> set[int]:
    """The ids of the least sure objects beyond `max_objects`, prompted ones left out."""
    left = [record for record in records if record.object_id not in removed]
    found = sorted((r.score, -r.object_id) for r in left if r.concept >= 0)
    return {-negative for _, negative in found[: max(0, len(left) - max_objects)]}


def _yielding(
    masks: NDArray[np.bool_], occluded: NDArray[np.int64], concepts: NDArray[np.int64], iou: float
) -> NDArray[np.bool_]:
    """Which of `masks` give way to one of their concept that they cover, having been occluded
    later; objects never occluded neither give way nor make way.
    """
    overlap = (mask_iou(masks, masks) >= iou) & (concepts[:, None] == concepts[None])
    later = (occluded[:, None] > occluded[None]) & (occluded[None] > NEVER)
    gives: NDArray[np.bool_] = (overlap & later).any(1)
    return gives


def _without_shrunk(masks: Logits, concepts: NDArray[np.int64]) -> Logits:
    """`masks` as they are remembered: one that would lose most of its pixels, were each pixel given
    to the surest object of its concept, is emptied.
    """
    kept = masks.copy()
    for concept in np.unique(concepts):
        group = np.flatnonzero(concepts == concept)
        if len(group) < 2:
            continue
        logits = masks[group]
        solid = logits > 0
        owner = logits.argmax(0)
        own = solid & (owner[None] == np.arange(len(group))[:, None, None])
        shares = own.sum((1, 2)) / np.maximum(solid.sum((1, 2)), 1)
        shrunk = group[shares < _LEAST_SHARE]
        kept[shrunk] = np.minimum(masks[shrunk], _SUPPRESSED)
    return kept
