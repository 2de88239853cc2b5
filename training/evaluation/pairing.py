"""One frame of a clip: the answered masks beside the true ones, "don't care" taken out.

First step of the tracking figures; `association.py` and `tracking.py` count from here.

"Don't care" follows the ignore regions of TrackEval's MOTS benchmarks, on both sides: true masks
that show too little are not wanted; an answer that no wanted mask takes (one-to-one, IoU 0.5 or
more) and more than half of whose pixels lie on "don't care" masks is not counted at all.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from limelight.masks import Mask
from training.world.clips import AnyClip

THRESHOLD = 0.5  # IoU from which on an answer shows an object

_EXCUSED_SHARE = 0.5
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class PairedFrame:
    """What counts of one frame.

    Attributes:
        truth: ids of the wanted objects, int64 ``[n]``, each once.
        answers: ids of the answered masks that count, int64 ``[m]``, each once.
        ious: of each wanted object (row) and each answer, float64 ``[n, m]``.
        seen: ids of the objects with a visible pixel, "don't care" ones among them.
        excused: how many answers are not counted.
    """

    truth: NDArray[np.int64]
    answers: NDArray[np.int64]
    ious: NDArray[np.float64]
    seen: frozenset[int]
    excused: int = 0


def pair(
    truth: Mapping[int, Mask], answered: Mapping[int, Mask], dont_care: Collection[int] = ()
) -> PairedFrame:
    """Compare the answered masks of a frame to the true ones.

    Args:
        truth: visible masks by object id, of what was asked for; bool ``[h, w]``.
        answered: masks by the tracker's ids, of the same size; empty ones are not answers.
        dont_care: ids of `truth` that are neither wanted nor counted against.

    Raises:
        ValueError: masks differ in size.
    """
    seen = [id for id, mask in truth.items() if mask.any()]
    wanted = [id for id in seen if id not in dont_care]
    little = [id for id in seen if id in dont_care]
    given = [id for id, mask in answered.items() if mask.any()]
    shown = [answered[id] for id in given]
    ious = mask_ious([truth[id] for id in wanted], shown)
    kept = np.ones(len(given), bool)
    if little and given:
        region = np.logical_or.reduce([truth[id] for id in little])
        _check_sizes([region, *shown])
        shares = np.array([(mask & region).sum() / mask.sum() for mask in shown])
        kept = shares <= _EXCUSED_SHARE + _ROUNDING
        kept[_matched(ious)] = True
    return PairedFrame(
        truth=np.array(wanted, np.int64),
        answers=np.array(given, np.int64)[kept],
        ious=ious[:, kept],
        seen=frozenset(seen),
        excused=int((~kept).sum()),
    )


def pair_clip(
    clip: AnyClip, targets: Collection[int], answers: Iterable[Mapping[int, Mask]]
) -> list[PairedFrame]:
    """Compare the answers to one question about a clip, frame by frame.

    Args:
        clip: drawn anew.
        targets: ids of the objects asked for; other objects are not part of the truth.
        answers: for each frame of the clip, masks by the tracker's ids.

    Raises:
        ValueError: there are not as many answers as frames, or masks differ in size.
    """
    return [
        pair(
            {id: mask for id, mask in frame.masks.items() if id in targets},
            answered,
            frame.dont_care,
        )
        for frame, answered in zip(clip.frames(), answers, strict=True)
    ]


def mask_ious(a: Sequence[Mask], b: Sequence[Mask]) -> NDArray[np.float64]:
    """Intersection over union of each of `a` (rows) and each of `b`, ``[len(a), len(b)]``.

    Raises:
        ValueError: masks differ in size.
    """
    _check_sizes([*a, *b])
    if not a or not b:
        return np.zeros((len(a), len(b)))
    # Sums of up to 2**24 ones are exact in float32, and matrix products of floats are fast.
    dtype = np.dtype(np.float32 if a[0].size < 2**24 else np.float64)
    rows: NDArray[np.floating] = np.stack([mask.ravel() for mask in a]).astype(dtype)
    columns: NDArray[np.floating] = np.stack([mask.ravel() for mask in b]).astype(dtype)
    shared = (rows @ columns.T).astype(np.float64)
    union = rows.sum(1)[:, None] + columns.sum(1)[None, :] - shared
    ious: NDArray[np.float64] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ious


def _check_sizes(masks: Sequence[Mask]) -> None:
    if len({mask.shape for mask in masks}) > 1:
        raise ValueError("the masks are not all of one size")


def _matched(ious: NDArray[np.float64]) -> NDArray[np.intp]:
    """Columns of the answers that one-to-one pairs of IoU 0.5 or more take, most IoU in all."""
    gain = np.where(ious >= THRESHOLD - _ROUNDING, ious, 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return np.asarray(columns[gain[rows, columns] > 0], np.intp)
