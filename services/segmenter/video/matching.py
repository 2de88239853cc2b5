"""What is counted of a tracked object, and which detections show it: by masks alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.segmenter.video.engine import Logits, TrackingPolicy
from services.segmenter.video.looks import ObjectLook
from services.segmenter.video.motion import ObjectMotion

NEVER = -1


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """What is counted of one object.

    Attributes:
        object_id: its id.
        concept: what it is an instance of; see `TrackingSession`. Negative: a prompted object,
            which is matched with no detection and never removed for want of one.
        score: of the detection that was matched with it last.
        first: place of the frame it was found in.
        seen: place of the last frame in which a detection matched it, or it was prompted.
        keep_alive: goes up with each match, down without.
        unmatched: frames in which it was visible and matched nothing.
        occluded: place of the last frame in which it was not visible; -1: none.
        duplicates: (id of an older object, frames on the same detection as that).
        motion: how it moves, where that is followed; None where it is not, or not known.
        look: what it looks like, likewise.
    """

    object_id: int
    concept: int
    score: float
    first: int
    seen: int
    keep_alive: int
    unmatched: int = 0
    occluded: int = NEVER
    duplicates: tuple[tuple[int, int], ...] = ()
    motion: ObjectMotion | None = None
    look: ObjectLook | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FrameDetections:
    """The detections of all concepts in one frame.

    `masks` float32 (d, h, w), logits; `scores` float32 (d,), presence counted in; `concepts` int64
    (d,).
    """

    masks: Logits
    scores: NDArray[np.float32]
    concepts: NDArray[np.int64]


@dataclass(slots=True)
class Matches:
    """How the detections and the tracked objects of a frame belong together; indices into both.

    Attributes:
        new: detections that become objects.
        unmatched: objects that are visible, and that no detection shows.
        empty: objects that are not visible.
        tracks_of: of each detection, the objects it shows.
        confirming: of objects, the detection that may confirm them, if it is time to;
        corrected: that must, since their own mask lies elsewhere.
        ghosts: objects whose mask lies on another's detection, and is not theirs.
        parts: of objects that share a detection, the pixels that are theirs, bool (h, w).
    """

    new: list[int] = field(default_factory=list)
    unmatched: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    tracks_of: dict[int, list[int]] = field(default_factory=dict)
    confirming: dict[int, int] = field(default_factory=dict)
    corrected: dict[int, int] = field(default_factory=dict)
    ghosts: list[int] = field(default_factory=list)
    parts: dict[int, NDArray[np.bool_]] = field(default_factory=dict)


def matched_by_masks(
    records: Sequence[TrackRecord],
    detections: FrameDetections,
    masks: Logits,
    policy: TrackingPolicy,
) -> Matches:
    """Match by masks alone, as `Sam3VideoModel` does: each detection with all that it overlaps.

    Args:
        records: the tracked objects.
        detections: of the frame.
        masks: the objects' tracked masks, float32 (n, h, w), logits.
        policy: the thresholds.
    """
    matches = Matches()
    # A prompted object is no detection's business.
    found = [i for i, record in enumerate(records) if record.concept >= 0]
    visible: NDArray[np.bool_] = np.any(masks > 0, axis=(1, 2))
    matches.empty = [i for i in found if not visible[i]]
    if not found:
        # Where nothing is tracked yet, every detection is taken up, however sure.
        matches.new = list(range(len(detections.scores)))
        return matches
    if not len(detections.scores):
        matches.unmatched = [i for i in found if visible[i]]
        return matches
    overlap = mask_iou(detections.masks > 0, masks[found] > 0)
    concepts = np.array([records[i].concept for i in found])
    overlap[detections.concepts[:, None] != concepts[None]] = 0
    matched: NDArray[np.bool_] = np.any(overlap >= policy.track_match_iou, axis=0)
    matches.unmatched = [
        i for i, match in zip(found, matched, strict=True) if visible[i] and not match
    ]
    known = (overlap >= policy.detection_match_iou).any(1)
    is_new = (detections.scores >= policy.new_object_score) & ~known
    matches.new = np.flatnonzero(is_new).tolist()
    best = overlap.argmax(1)
    sure = (detections.scores >= policy.recondition_score) & ~is_new
    sure &= overlap.max(1) >= policy.recondition_iou
    for detection in range(len(detections.scores)):
        on = np.flatnonzero(overlap[detection] >= policy.detection_match_iou)
        matches.tracks_of[detection] = [found[i] for i in on]
        if sure[detection]:
            matches.confirming[found[int(best[detection])]] = detection
    return matches


def mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Intersection over union of each pair of (n, h, w) and (m, h, w): (n, m); 0 for two empty."""
    if not len(first) or not len(second):
        # Of none, the size may not be known.
        return np.zeros((len(first), len(second)), np.float32)
    a = first.reshape(len(first), -1).astype(np.float32)
    b = second.reshape(len(second), -1).astype(np.float32)
    shared = a @ b.T
    union = a.sum(1)[:, None] + b.sum(1)[None] - shared
    iou: NDArray[np.float32] = shared / np.maximum(union, 1)
    return iou
