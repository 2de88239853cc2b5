"""The figures of tracking: answers to one clip -> `score` -> `figures` over many.

Takes the frames that `pairing.py` compared. HOTA, IDF1 and identity switches are counted in
`association.py`; mean IoU, recovery after re-entry and presence a frame here.

Presence a frame is cgF1 of the SA-Co benchmark (Carion et al., "SAM 3: Segment Anything with
Concepts", 2025) with every frame in the place of an image: the F1 of instances over all frames with
something wanted (IoU 0.50, 0.55, ..., 0.95, averaged; false answers count in frames where something
is wanted and something answered), times the Matthews correlation of "anything wanted" and "anything
answered". Frames that show nothing but "don't care" objects are left out of the correlation. It is
0 where all frames are alike, so a set for it needs clips, or phrases, with frames without a target.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from training.evaluation.association import (
    ClearMatches,
    HotaCounts,
    IdentityCounts,
    clear,
    hota,
    identities,
)
from training.evaluation.matching import share_of
from training.evaluation.pairing import PairedFrame

# Frames that an object must be unseen for its return to count as a re-entry.
UNSEEN_FRAMES = 3

_THRESHOLDS = 0.5 + 0.05 * np.arange(10)


def _zeros() -> NDArray[np.int64]:
    return np.zeros(len(_THRESHOLDS), np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class PresenceCounts:
    """What cgF1 is counted from.

    Attributes:
        hits, missed, extra: instances, by the ten thresholds, ``[10]``.
        right, empty, false, lost: frames with something wanted and answered, neither, only
            answered, only wanted.
    """

    hits: NDArray[np.int64] = field(default_factory=_zeros)
    missed: NDArray[np.int64] = field(default_factory=_zeros)
    extra: NDArray[np.int64] = field(default_factory=_zeros)
    right: int = 0
    empty: int = 0
    false: int = 0
    lost: int = 0

    def __add__(self, other: "PresenceCounts") -> "PresenceCounts":
        return PresenceCounts(
            self.hits + other.hits,
            self.missed + other.missed,
            self.extra + other.extra,
            self.right + other.right,
            self.empty + other.empty,
            self.false + other.false,
            self.lost + other.lost,
        )

    @property
    def positive_f1(self) -> float:
        """The micro F1 of the instances of positive frames, averaged over the thresholds."""
        both = 2 * self.hits + self.missed + self.extra
        return float((2 * self.hits / np.maximum(1, both)).mean())

    @property
    def correlation(self) -> float:
        """Matthews correlation of presence, -1 to 1; 0 where a side is always the same."""
        product = float(self.right + self.false) * (self.right + self.lost)
        product *= float(self.empty + self.false) * (self.empty + self.lost)
        agreement = self.right * self.empty - self.false * self.lost
        return share_of(agreement, product**0.5)

    @property
    def cgf1(self) -> float:
        """Classification-gated F1, -1 to 1."""
        return self.positive_f1 * self.correlation


@dataclass(frozen=True, slots=True, eq=False)
class TrackingScore:
    """One clip and one question about it.

    Attributes:
        hota, identities, presence: counts, see there.
        switches: identity switches.
        iou_sum: over the wanted masks, IoU with the answer that a one-to-one assignment gives
            them; 0 where there is none.
        wanted: masks that should be found, over all frames.
        answered: masks that count.
        excused: answers on "don't care" objects.
        reentries, recovered: see `reentries`.
    """

    hota: HotaCounts
    identities: IdentityCounts
    presence: PresenceCounts
    switches: int
    iou_sum: float
    wanted: int
    answered: int
    excused: int
    reentries: int
    recovered: int


@dataclass(frozen=True, slots=True)
class TrackingFigures:
    """How well some clips were tracked, over all masks together as TrackEval combines sequences.

    Attributes:
        clips: that were scored.
        hota, det_a, ass_a: means over the 19 thresholds.
        idf1: at IoU 0.5.
        switches: identity switches a clip.
        mean_iou: over the wanted masks; one that was missed counts 0.
        recovery: share of the re-entries after which the id is the one before; 0 of none.
        reentries: how many there were.
        positive_f1, correlation, cgf1: presence a frame, see `PresenceCounts`.
        wanted, answered, excused: masks.
    """

    clips: int
    hota: float
    det_a: float
    ass_a: float
    idf1: float
    switches: float
    mean_iou: float
    recovery: float
    reentries: int
    positive_f1: float
    correlation: float
    cgf1: float
    wanted: int
    answered: int
    excused: int


def score(frames: Sequence[PairedFrame], unseen: int = UNSEEN_FRAMES) -> TrackingScore:
    """Count what one clip adds to the figures.

    Args:
        frames: all frames of the clip in order, also those without a mask.
        unseen: frames for which an object must be unseen for its return to be a re-entry.
    """
    matches = clear(frames)
    returns, recovered = reentries(frames, matches, unseen)
    return TrackingScore(
        hota=hota(frames),
        identities=identities(frames),
        presence=sum(map(_presence, frames), PresenceCounts()),
        switches=matches.switches,
        iou_sum=sum(float(f.ious[linear_sum_assignment(f.ious, True)].sum()) for f in frames),
        wanted=sum(len(frame.truth) for frame in frames),
        answered=sum(len(frame.answers) for frame in frames),
        excused=sum(frame.excused for frame in frames),
        reentries=returns,
        recovered=recovered,
    )


def figures(scores: Iterable[TrackingScore], clips: int | None = None) -> TrackingFigures:
    """The figures of some clips together.

    Args:
        scores: of every clip, or of every question about every clip.
        clips: how many clips those are of; by default as many.

    Raises:
        ValueError: there is no clip.
    """
    counted = list(scores)
    if not counted:
        raise ValueError("no clip was scored")
    tracks, presence, ids = counted[0].hota, counted[0].presence, counted[0].identities
    for one in counted[1:]:
        tracks, presence, ids = tracks + one.hota, presence + one.presence, ids + one.identities
    returns = sum(one.reentries for one in counted)
    wanted = sum(one.wanted for one in counted)
    return TrackingFigures(
        clips=clips or len(counted),
        hota=float(tracks.hota.mean()),
        det_a=float(tracks.det_a.mean()),
        ass_a=float(tracks.ass_a.mean()),
        idf1=ids.idf1,
        switches=sum(one.switches for one in counted) / (clips or len(counted)),
        mean_iou=share_of(sum(one.iou_sum for one in counted), wanted),
        recovery=share_of(sum(one.recovered for one in counted), returns),
        reentries=returns,
        positive_f1=presence.positive_f1,
        correlation=presence.correlation,
        cgf1=presence.cgf1,
        wanted=wanted,
        answered=sum(one.answered for one in counted),
        excused=sum(one.excused for one in counted),
    )


def reentries(
    frames: Sequence[PairedFrame], matches: ClearMatches, unseen: int = UNSEEN_FRAMES
) -> tuple[int, int]:
    """How often an object came back after it was out of sight, and how often with its id.

    A return counts where the object had no visible pixel for `unseen` frames or more and was
    wanted in some frame before and in some frame of the stay that begins then. It is recovered
    where the first match of that stay has the id of the last match before it; one that was never
    matched on either side is not.
    """
    returns = recovered = 0
    for number in {int(id) for frame in frames for id in frame.truth}:
        wanted = np.array([number in frame.truth for frame in frames])
        stays = _stays(np.array([number in frame.seen for frame in frames]), unseen)
        ids = [frame.get(number) for frame in matches.frames]
        for first, end in stays[1:]:
            if not wanted[:first].any() or not wanted[first:end].any():
                continue
            returns += 1
            before = next((id for id in reversed(ids[:first]) if id is not None), None)
            after = next((id for id in ids[first:end] if id is not None), None)
            recovered += after is not None and after == before
    return returns, recovered


def answered_right(frames: Sequence[PairedFrame]) -> bool:
    """Whether a clip's answer shows what was asked for and nothing else, whatever the ids.

    Every object is shown (IoU 0.5 or more) in at least half of the frames in which it is wanted,
    and at least three quarters of the answered masks show one; where nothing is ever wanted,
    nothing is answered.
    """
    shown = clear(frames).frames
    wanted = Counter(int(id) for frame in frames for id in frame.truth)
    found = Counter(id for frame in shown for id in frame)
    answered = sum(len(frame.answers) for frame in frames)
    if not wanted:
        return answered == 0
    return 4 * found.total() >= 3 * answered and all(
        2 * found[id] >= times for id, times in wanted.items()
    )


def _stays(seen: NDArray[np.bool_], unseen: int) -> list[tuple[int, int]]:
    """First frame and end of each stretch that no gap of `unseen` frames interrupts."""
    there = np.flatnonzero(seen)
    parts = np.split(there, np.flatnonzero(np.diff(there) > unseen) + 1)
    return [(int(part[0]), int(part[-1]) + 1) for part in parts if len(part)]


def _presence(frame: PairedFrame) -> PresenceCounts:
    wanted, answered = len(frame.truth), len(frame.answers)
    ious = frame.ious[linear_sum_assignment(frame.ious, maximize=True)]
    hits = (ious[None, :] >= _THRESHOLDS[:, None]).sum(1)
    unsure = not wanted and bool(frame.seen)
    return PresenceCounts(
        hits=hits,
        missed=wanted - hits,
        extra=answered - hits if wanted else _zeros(),
        right=int(bool(wanted and answered)),
        empty=int(not wanted and not answered and not unsure),
        false=int(not wanted and bool(answered) and not unsure),
        lost=int(bool(wanted) and not answered),
    )
