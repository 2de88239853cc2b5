"""Marks added up: shares, and the detection figures, the same for every kind of question."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.stickers.evaluation.marking import PhraseMark
from services.stickers.evaluation.matching import Comparison


@dataclass(frozen=True)
class Detection:
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


def detected(comparisons: Iterable[Comparison]) -> Detection:
    """The figures of some answers together."""
    counted = list(comparisons)
    wanted = sum(c.wanted for c in counted)
    answered = sum(c.answered for c in counted)
    hits = sum(c.hits for c in counted)
    return Detection(
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


def presence_share(marks: Iterable[PhraseMark]) -> float:
    """The share of queries whose presence is right, of those that can be judged."""
    known = [mark.presence_right for mark in marks if mark.presence_right is not None]
    return share_of(sum(known), len(known))


def share_of(part: float, whole: float) -> float:
    """A share; of nothing it is 0."""
    return part / whole if whole else 0.0
