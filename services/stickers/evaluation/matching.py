"""Which answered masks are which true ones: the ground under every figure.

Matching is one to one and optimal (Hungarian): as many pairs as possible whose IoU reaches the
threshold, and of those choices the one with the greatest sum of IoU. Scores play no part, so the
order of an answer cannot change a figure; only where scores themselves are judged does the best
score take the first pick (`ranked_hits`). A mask left over is excused, neither right nor wrong,
when at least half of its pixels lie on "don't care" stickers that it may show.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from services.codecs.masks import intersection_areas, rle_area
from services.domain import RLE

LOOSE, STRICT = 0.5, 0.75
_EXCUSED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Comparison:
    """One answer beside its truth.

    Attributes:
        wanted: instances that should be found.
        answered: masks that count: all but the excused.
        excused: masks on "don't care" stickers.
        hits, strict_hits: pairs at IoU 0.5 and at 0.75.
        iou_sum: over the pairs at 0.5.
    """

    wanted: int
    answered: int
    excused: int
    hits: int
    strict_hits: int
    iou_sum: float

    @property
    def exact(self) -> bool:
        """Whether all that is wanted was found, at IoU 0.5, and nothing else."""
        return self.hits == self.wanted == self.answered

    @property
    def f1(self) -> float:
        """F1 at IoU 0.5; 1 where nothing is wanted and nothing answered."""
        both = self.wanted + self.answered
        return 2 * self.hits / both if both else 1.0


def compare(answered: Sequence[RLE], wanted: Sequence[RLE], dont_care: Sequence[RLE]) -> Comparison:
    """Match the masks of an answer to those wanted.

    Args:
        answered: in any order, of the image's size like all others.
        wanted: the true instances.
        dont_care: true instances that are neither wanted nor counted against.

    Raises:
        ValueError: an answered mask is not of the truth's size.
    """
    ious = iou_matrix(answered, wanted)
    pairs = matched(ious, LOOSE)
    paired = {row for row, _ in pairs}
    excusable = _excusable(answered, dont_care)
    excused = sum(row not in paired and may for row, may in enumerate(excusable))
    return Comparison(
        wanted=len(wanted),
        answered=len(answered) - excused,
        excused=excused,
        hits=len(pairs),
        strict_hits=len(matched(ious, STRICT)),
        iou_sum=float(sum(ious[pair] for pair in pairs)),
    )


def ranked_hits(
    answered: Sequence[RLE], wanted: Sequence[RLE], dont_care: Sequence[RLE]
) -> list[bool | None]:
    """For each mask of an answer, best score first, whether it is right; None: excused.

    Each takes the wanted instance that it shows best (IoU 0.5 or more) of those not yet taken, as
    COCO's evaluation does: what is right above some score does not hang on what came below it.
    """
    ious = iou_matrix(answered, wanted)
    hits: list[bool | None] = []
    for row, may in enumerate(_excusable(answered, dont_care)):
        best = int(ious[row].argmax()) if wanted else None
        if best is not None and ious[row, best] >= LOOSE:
            ious[:, best] = 0.0
            hits.append(True)
        else:
            hits.append(None if may else False)
    return hits


def iou_matrix(a: Sequence[RLE], b: Sequence[RLE]) -> NDArray[np.float64]:
    """Intersection over union of each of `a` (rows) and each of `b`; 0 where both are empty."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    shared = intersection_areas(a, b)
    union = _areas(a)[:, None] + _areas(b)[None] - shared
    return np.asarray(shared / np.maximum(union, 1), np.float64)


def matched(ious: NDArray[np.float64], threshold: float) -> list[tuple[int, int]]:
    """One-to-one pairs (row, column) of IoU `threshold` or more: most pairs, then most IoU."""
    # One more pair outweighs whatever IoU the others could gain by going without it.
    gain = np.where(ious >= threshold, min(ious.shape) + ious, 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    return [
        (int(row), int(column))
        for row, column in zip(rows, columns, strict=True)
        if ious[row, column] >= threshold
    ]


def _excusable(answered: Sequence[RLE], dont_care: Sequence[RLE]) -> list[bool]:
    """Whether at least half of each mask's pixels lies on `dont_care`, which do not overlap."""
    if not answered or not dont_care:
        return [False] * len(answered)
    shared = intersection_areas(answered, dont_care).sum(axis=1)
    return [bool(share >= _EXCUSED_SHARE) for share in shared / np.maximum(_areas(answered), 1)]


def _areas(masks: Sequence[RLE]) -> NDArray[np.int64]:
    return np.array([rle_area(mask) for mask in masks], np.int64)
