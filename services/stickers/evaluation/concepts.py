"""Phrase figures by concept: which of the 48 a model knows less well than the rest.

Only phrases that mean one concept alone count: "apple" says nothing of the red one by itself. The
queries of a concept that is absent are among them, so what is found in its stead lowers its F1.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.stickers.evaluation.detections import detected, presence_share
from services.stickers.evaluation.marking import PhraseMark


@dataclass(frozen=True)
class ConceptFigures:
    """The phrase queries of one concept.

    Attributes:
        concept: its name.
        queries: queries asked, those of scenes without it included.
        wanted, answered: instances.
        f1, f1_strict: of instances, at IoU 0.5 and 0.75; 0 where nothing is wanted.
        mean_iou: of the matches at 0.5.
        presence: share of queries whose presence is right.
    """

    concept: str
    queries: int
    wanted: int
    answered: int
    f1: float
    f1_strict: float
    mean_iou: float
    presence: float


def by_concept(marks: Iterable[PhraseMark]) -> tuple[ConceptFigures, ...]:
    """The figures of each concept that was asked for, in the vocabulary's order."""
    groups: dict[int, list[PhraseMark]] = defaultdict(list)
    for mark in marks:
        if len(mark.question.meant) == 1:
            groups[mark.question.concept.index].append(mark)
    return tuple(_figures(groups[index]) for index in sorted(groups))


def _figures(marks: Sequence[PhraseMark]) -> ConceptFigures:
    found = detected(mark.comparison for mark in marks)
    return ConceptFigures(
        concept=marks[0].question.concept.name,
        queries=found.queries,
        wanted=found.wanted,
        answered=found.answered,
        f1=found.f1,
        f1_strict=found.f1_strict,
        mean_iou=found.mean_iou,
        presence=presence_share(marks),
    )
