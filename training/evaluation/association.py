"""How well detections and identities of one clip agree with the truth: HOTA, IDF1, switches.

By the definitions of the papers, and with TrackEval's results:

- HOTA, DetA, AssA: Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object
  Tracking", IJCV 2021; averaged over the thresholds 0.05, 0.10, ..., 0.95.
- IDF1: Ristani et al., "Performance Measures and a Data Set for Multi-Target, Multi-Camera
  Tracking", 2016; at IoU 0.5.
- Identity switches: as Bernardin and Stiefelhagen's CLEAR metrics have them (EURASIP Journal on
  Image and Video Processing, 2008); at IoU 0.5.

Counts of several clips add up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from training.evaluation.pairing import THRESHOLD, PairedFrame

ALPHAS: NDArray[np.float64] = np.arange(1, 20, dtype=np.float64) * np.float64(0.05)

_EPSILON = float(np.finfo(float).eps)

# Continuing a track outweighs any gain in IoU.
_CONTINUED = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class HotaCounts:
    """Attributes, each ``[19]``, by threshold:

    hits, missed, extra: pairs, wanted masks without one, answers without one.
    association: the sum over the pairs of how well their two tracks agree; AssA times `hits`.
    """

    hits: NDArray[np.float64]
    missed: NDArray[np.float64]
    extra: NDArray[np.float64]
    association: NDArray[np.float64]

    def __add__(self, other: "HotaCounts") -> "HotaCounts":
        return HotaCounts(
            self.hits + other.hits,
            self.missed + other.missed,
            self.extra + other.extra,
            self.association + other.association,
        )

    @property
    def det_a(self) -> NDArray[np.float64]:
        """DetA by threshold."""
        quotient: NDArray[np.float64] = self.hits / np.maximum(
            1, self.hits + self.missed + self.extra
        )
        return quotient

    @property
    def ass_a(self) -> NDArray[np.float64]:
        """AssA by threshold."""
        quotient: NDArray[np.float64] = self.association / np.maximum(1, self.hits)
        return quotient

    @property
    def hota(self) -> NDArray[np.float64]:
        """HOTA by threshold."""
        product: NDArray[np.float64] = np.sqrt(self.det_a * self.ass_a)
        return product


@dataclass(frozen=True, slots=True)
class IdentityCounts:
    """Masks by the best one-to-one assignment of whole tracks.

    Attributes:
        hits: masks that their object's track shows.
        missed, extra: wanted masks and answers that are not among them.
    """

    hits: int
    missed: int
    extra: int

    def __add__(self, other: "IdentityCounts") -> "IdentityCounts":
        return IdentityCounts(
            self.hits + other.hits, self.missed + other.missed, self.extra + other.extra
        )

    @property
    def idf1(self) -> float:
        """IDF1; 1 where nothing is wanted and nothing answered."""
        both = 2 * self.hits + self.missed + self.extra
        return 2 * self.hits / both if both else 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ClearMatches:
    """The matches of CLEAR: a track is continued where that is possible, then most IoU.

    Attributes:
        frames: for each frame the answer's id by object id, of the matches alone.
        switches: how often an object is matched to another id than at the last time.
    """

    frames: tuple[Mapping[int, int], ...]
    switches: int


def hota(frames: Sequence[PairedFrame]) -> HotaCounts:
    """HOTA's counts of one clip."""
    truth, answers = _ranks([f.truth for f in frames]), _ranks([f.answers for f in frames])
    shape = _count(truth), _count(answers)
    overlap = np.zeros(shape)
    lengths = np.zeros(shape[0]), np.zeros(shape[1])
    for frame, rows, columns in zip(frames, truth, answers, strict=True):
        rest = frame.ious.sum(0)[None, :] + frame.ious.sum(1)[:, None] - frame.ious
        share = np.divide(frame.ious, rest, out=np.zeros_like(rest), where=rest > _EPSILON)
        overlap[rows[:, None], columns[None, :]] += share
        lengths[0][rows] += 1
        lengths[1][columns] += 1
    both = lengths[0][:, None] + lengths[1][None, :]
    alignment = overlap / np.maximum(both - overlap, _EPSILON)
    pairs = np.zeros((len(ALPHAS), *shape))
    for frame, rows, columns in zip(frames, truth, answers, strict=True):
        gain = alignment[rows[:, None], columns[None, :]] * frame.ious
        row, column = linear_sum_assignment(gain, maximize=True)
        close = frame.ious[row, column][None, :] >= ALPHAS[:, None] - _EPSILON
        pairs[:, rows[row], columns[column]] += close
    hits = pairs.sum((1, 2))
    agreement = pairs / np.maximum(1, both[None] - pairs)
    return HotaCounts(
        hits=hits,
        missed=lengths[0].sum() - hits,
        extra=lengths[1].sum() - hits,
        association=(pairs * agreement).sum((1, 2)),
    )


def identities(frames: Sequence[PairedFrame]) -> IdentityCounts:
    """IDF1's counts of one clip."""
    truth, answers = _ranks([f.truth for f in frames]), _ranks([f.answers for f in frames])
    wanted, given = sum(map(len, truth)), sum(map(len, answers))
    if not wanted or not given:
        return IdentityCounts(0, wanted, given)
    together = np.zeros((_count(truth), _count(answers)))
    for frame, rows, columns in zip(frames, truth, answers, strict=True):
        together[rows[:, None], columns[None, :]] += frame.ious >= THRESHOLD
    # Least misses and extras together is most hits: both sums are fixed.
    hits = int(together[linear_sum_assignment(together, maximize=True)].sum())
    return IdentityCounts(hits, wanted - hits, given - hits)


def clear(frames: Sequence[PairedFrame]) -> ClearMatches:
    """The matches of one clip, frame by frame, and its identity switches."""
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    matches: list[Mapping[int, int]] = []
    switches = 0
    for frame in frames:
        if not len(frame.truth) or not len(frame.answers):
            # As TrackEval has it, an empty frame does not end what the next one continues.
            matches.append({})
            continue
        held = np.array([before.get(int(id), np.nan) for id in frame.truth])
        gain = _CONTINUED * (frame.answers[None, :] == held[:, None]) + frame.ious
        gain[frame.ious < THRESHOLD - _EPSILON] = 0.0
        rows, columns = linear_sum_assignment(gain, maximize=True)
        sure = gain[rows, columns] > _EPSILON
        before = dict(
            zip(
                frame.truth[rows[sure]].tolist(), frame.answers[columns[sure]].tolist(), strict=True
            )
        )
        switches += sum(last.get(id, answer) != answer for id, answer in before.items())
        last |= before
        matches.append(before)
    return ClearMatches(tuple(matches), switches)


def _ranks(ids: Sequence[NDArray[np.int64]]) -> list[NDArray[np.intp]]:
    """The same ids numbered from 0 without gaps, frame by frame."""
    known = np.unique(np.concatenate([*ids, np.zeros(0, np.int64)]))
    return [np.searchsorted(known, frame) for frame in ids]


def _count(ranks: Sequence[NDArray[np.intp]]) -> int:
    """How many tracks there are."""
    return 1 + max((int(frame.max()) for frame in ranks if len(frame)), default=-1)
