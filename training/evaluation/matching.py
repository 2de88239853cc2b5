"""Which answered masks are which true ones, and how well instances were found.

Matching is one to one and optimal (Hungarian): as many pairs as possible whose IoU reaches the
threshold, and of those choices the one with the greatest sum of IoU. Scores play no part, so the
order of an answer cannot change a figure; only where scores themselves are judged does the best
score take the first pick (`ranked_hits`). A mask left over is excused, neither right nor wrong,
when at least half of its pixels lie on "don't care" stickers that it may show.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

from limelight.values import RLE

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
    """Match the masks of an answer, in any order, to the true instances that are wanted.

    Args:
        answered: of the image's size like all others.
        wanted: the true instances.
        dont_care: true instances that are neither wanted nor counted against.

    Raises:
        ValueError: an answered mask is not of the truth's size.
    """
    ious = iou_matrix(answered, wanted)
    pairs = matched(ious, LOOSE)
    excusable = _excusable(answered, dont_care)
    excusable[[row for row, _ in pairs]] = False
    excused = int(excusable.sum())
    return Comparison(
        wanted=len(wanted),
        answered=len(answered) - excused,
        excused=excused,
        hits=len(pairs),
        strict_hits=len(matched(ious, STRICT)),
        iou_sum=float(sum(ious[pair] for pair in pairs)),
    )


@dataclass(frozen=True)
class DetectionFigures:
    """How well instances were found, over all answers together (not a mean of the answers').

    Attributes:
        queries: answers counted.
        wanted, answered, excused: instances wanted, answered, and answered but "don't care".
        f1, f1_strict: of instances, at IoU 0.5 and 0.75.
        precision, recall: at IoU 0.5.
        mean_iou: of the matches at 0.5.
    """

    queries: int
    wanted: int
    answered: int
    excused: int
    f1: float
    f1_strict: float
    precision: float
    recall: float
    mean_iou: float


def detected(comparisons: Iterable[Comparison]) -> DetectionFigures:
    """The figures of some answers together."""
    counted = list(comparisons)
    wanted = sum(c.wanted for c in counted)
    answered = sum(c.answered for c in counted)
    hits = sum(c.hits for c in counted)
    return DetectionFigures(
        queries=len(counted),
        wanted=wanted,
        answered=answered,
        excused=sum(c.excused for c in counted),
        f1=share_of(2 * hits, wanted + answered),
        f1_strict=share_of(2 * sum(c.strict_hits for c in counted), wanted + answered),
        precision=share_of(hits, answered),
        recall=share_of(hits, wanted),
        mean_iou=share_of(sum(c.iou_sum for c in counted), hits),
    )


def share_of(part: float, whole: float) -> float:
    """A share; of nothing it is 0."""
    return part / whole if whole else 0.0


def ranked_hits(
    answered: Sequence[RLE], wanted: Sequence[RLE], dont_care: Sequence[RLE]
) -> list[bool | None]:
    """For each mask of an answer, best score first, whether it is right; None: excused.

    Each takes the wanted instance that it shows best (IoU 0.5 or more) of those not yet taken, as
    COCO's evaluation does: what is right above some score does not depend on what is below it.
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
    """Intersection over union of each of `a` (rows) and each of `b`, ``[len(a), len(b)]``."""
    return _overlaps(a, b, share_of_a=False)


def matched(ious: NDArray[np.float64], threshold: float) -> list[tuple[int, int]]:
    """One-to-one pairs (row, column) of IoU `threshold` or more: most pairs, then most IoU."""
    # One more pair outweighs whatever IoU the others could gain by going without it.
    gain = np.where(ious >= threshold, min(ious.shape) + ious, 0.0)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [pair for pair in pairs if ious[pair] >= threshold]


def _excusable(answered: Sequence[RLE], dont_care: Sequence[RLE]) -> NDArray[np.bool_]:
    """Whether at least half of each mask's pixels lies on `dont_care`, which do not overlap."""
    shares = _overlaps(answered, dont_care, share_of_a=True).sum(axis=1)
    return np.asarray(shares >= _EXCUSED_SHARE - 1e-9)


def _overlaps(a: Sequence[RLE], b: Sequence[RLE], *, share_of_a: bool) -> NDArray[np.float64]:
    """Intersections over unions, or over the areas of `a`, as COCO does for crowds."""
    if len({mask.size for mask in (*a, *b)}) > 1:
        raise ValueError("the masks are not all of one size")
    if not a or not b:
        return np.zeros((len(a), len(b)))
    encoded = [[{"size": list(m.size), "counts": m.counts} for m in masks] for masks in (a, b)]
    return np.asarray(coco_mask.iou(*encoded, [int(share_of_a)] * len(b)), np.float64)
