"""Answers against the truth: one frozen mark a question, which the figures are counted from.

A call that failed is a wrong answer: all that was wanted is missing, nothing was answered, and a
phrase's presence is wrong. The error stays in the mark, so that the report can name it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.domain import RLE, Plan
from services.stickers.evaluation.matching import LOOSE, Comparison, compare, iou_matrix
from services.stickers.evaluation.questions import (
    ExemplarQuestion,
    InstructionQuestion,
    Paper,
    PhraseQuestion,
)
from services.stickers.planner.oracle import Oracle

PRESENT = 0.5


@dataclass(frozen=True)
class Answer:
    """What came back of one call: masks and their scores, its first query's presence, its plan."""

    masks: tuple[RLE, ...] = ()
    scores: tuple[float, ...] = ()
    presence: float | None = None
    plan: Plan | None = None
    error: str | None = None


@dataclass(frozen=True)
class PhraseMark:
    """One phrase query.

    Attributes:
        seed: of its scene.
        question: what was asked.
        comparison: the masks beside the truth.
        presence_right: None where only "don't care" instances match: nobody can say.
        beside: concept indices of the scene's instances that the phrase does not mean.
        confused: the same of those that were answered nevertheless.
        error: of the call, None where it was answered.
    """

    seed: int
    question: PhraseQuestion
    comparison: Comparison
    presence_right: bool | None
    beside: tuple[int, ...]
    confused: tuple[int, ...]
    error: str | None


@dataclass(frozen=True)
class ExemplarMark:
    """One exemplar query; attributes as `PhraseMark`."""

    seed: int
    question: ExemplarQuestion
    comparison: Comparison
    error: str | None


@dataclass(frozen=True)
class InstructionMark:
    """One instruction.

    Attributes:
        seed, question, comparison, error: as of `PhraseMark`.
        exact: the answer is exactly the true set of instances.
        plan: the plan that came back.
        plan_right: that plan, executed on the true masks, gives exactly the truth.
        masks: what was answered, for the sheet.
    """

    seed: int
    question: InstructionQuestion
    comparison: Comparison
    exact: bool
    plan: Plan | None
    plan_right: bool
    masks: tuple[RLE, ...]
    error: str | None


def mark_phrase(paper: Paper, question: PhraseQuestion, answer: Answer) -> PhraseMark:
    """Raises `ValueError` where a mask is not of the image's size."""
    comparison = _compare(paper, answer, question.wanted, question.dont_care)
    right: bool | None = None
    if question.wanted or not question.dont_care:
        said = None if answer.presence is None else answer.presence >= PRESENT
        right = said == bool(question.wanted)
    there = [instance.concept.index for instance in paper.scene.instances]
    # True instances do not overlap, so a mask is mostly one of them or none.
    ious = iou_matrix(answer.masks, paper.masks)
    shown = [there[column] for _, column in np.argwhere(ious >= LOOSE).tolist()]
    return PhraseMark(
        seed=paper.seed,
        question=question,
        comparison=comparison,
        presence_right=right,
        beside=tuple(concept for concept in there if concept not in question.meant),
        confused=tuple(concept for concept in shown if concept not in question.meant),
        error=answer.error,
    )


def mark_exemplar(paper: Paper, question: ExemplarQuestion, answer: Answer) -> ExemplarMark:
    """Raises `ValueError` where a mask is not of the image's size."""
    comparison = _compare(paper, answer, question.wanted, question.dont_care)
    return ExemplarMark(paper.seed, question, comparison, answer.error)


def mark_instruction(
    paper: Paper, question: InstructionQuestion, answer: Answer, oracle: Oracle
) -> InstructionMark:
    """Raises `ValueError` where a mask is not of the image's size."""
    truth = question.instruction.truth
    comparison = _compare(paper, answer, sorted(truth), question.dont_care)
    return InstructionMark(
        seed=paper.seed,
        question=question,
        comparison=comparison,
        exact=answer.error is None and comparison.exact,
        plan=answer.plan,
        plan_right=answer.plan is not None and oracle.execute(answer.plan, paper.scene) == truth,
        masks=answer.masks,
        error=answer.error,
    )


def _compare(
    paper: Paper, answer: Answer, wanted: Sequence[int], dont_care: Sequence[int]
) -> Comparison:
    return compare(answer.masks, paper.truth(wanted), paper.truth(dont_care))
