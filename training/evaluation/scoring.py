"""Answers against the truth: one frozen score a question, which the figures are counted from.

A call that failed is a wrong answer: all that was wanted is missing, nothing was answered, and a
phrase's presence is wrong. The error stays in the score, so that the report can name it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from limelight.values import RLE, Plan
from training.evaluation.matching import LOOSE, Comparison, compare, iou_matrix
from training.evaluation.questions import (
    ExemplarQuestion,
    InstructionQuestion,
    NegativeQuestion,
    PhraseQuestion,
    QuestionSet,
)
from training.world.execution import execute
from training.world.phrases import PhraseBook

PRESENT = 0.5


@dataclass(frozen=True)
class ServiceAnswer:
    """What came back of one call: masks and their scores, its first query's presence, its plan."""

    masks: tuple[RLE, ...] = ()
    scores: tuple[float, ...] = ()
    presence: float | None = None
    plan: Plan | None = None
    error: str | None = None


@dataclass(frozen=True)
class PhraseScore:
    """One phrase query.

    Attributes:
        seed: of its scene.
        question: what was asked.
        comparison: the masks beside the truth.
        presence_right: None where only "don't care" instances match.
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
class ExemplarScore:
    """One exemplar query; attributes as of `PhraseScore`."""

    seed: int
    question: ExemplarQuestion
    comparison: Comparison
    error: str | None


@dataclass(frozen=True)
class NegativeScore:
    """One phrase with a negative box, beside the answer to the phrase without it.

    Attributes:
        seed, question, error: as of `PhraseScore`.
        found: the instance in the box is in the answer without it.
        gone: it is not in the answer with it.
        others: how many of the phrase's other instances are in the answer without it.
        stayed: how many of those are in the answer with it.
    """

    seed: int
    question: NegativeQuestion
    found: bool
    gone: bool
    others: int
    stayed: int
    error: str | None


@dataclass(frozen=True)
class InstructionScore:
    """One instruction.

    Attributes:
        seed, question, comparison, error: as of `PhraseScore`.
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


def score_phrase(
    asked: QuestionSet, question: PhraseQuestion, answer: ServiceAnswer
) -> PhraseScore:
    """Raises `ValueError` where a mask is not of the image's size."""
    right: bool | None = None
    if question.wanted or not question.dont_care:
        said = None if answer.presence is None else answer.presence >= PRESENT
        right = said == bool(question.wanted)
    there = [instance.concept.index for instance in asked.scene.instances]
    # True instances do not overlap, so a mask is mostly one of them or none.
    ious = iou_matrix(answer.masks, asked.masks)
    shown = [there[column] for _, column in np.argwhere(ious >= LOOSE).tolist()]
    return PhraseScore(
        seed=asked.seed,
        question=question,
        comparison=_compare(asked, answer, question.wanted, question.dont_care),
        presence_right=right,
        beside=tuple(concept for concept in there if concept not in question.meant),
        confused=tuple(concept for concept in shown if concept not in question.meant),
        error=answer.error,
    )


def score_exemplar(
    asked: QuestionSet, question: ExemplarQuestion, answer: ServiceAnswer
) -> ExemplarScore:
    """Raises `ValueError` where a mask is not of the image's size."""
    comparison = _compare(asked, answer, question.wanted, question.dont_care)
    return ExemplarScore(asked.seed, question, comparison, answer.error)


def score_negative(
    asked: QuestionSet, question: NegativeQuestion, without: ServiceAnswer, answer: ServiceAnswer
) -> NegativeScore:
    """Raises `ValueError` where a mask is not of the image's size."""

    def shown(answer: ServiceAnswer) -> set[int]:
        pairs = np.argwhere(iou_matrix(answer.masks, asked.masks) >= LOOSE)
        return {column for _, column in pairs.tolist()}

    before, after = shown(without), shown(answer)
    others = before & set(question.others)
    return NegativeScore(
        seed=asked.seed,
        question=question,
        found=question.negated in before,
        gone=answer.error is None and question.negated not in after,
        others=len(others),
        stayed=len(others & after),
        error=answer.error,
    )


def score_instruction(
    asked: QuestionSet, question: InstructionQuestion, answer: ServiceAnswer, phrases: PhraseBook
) -> InstructionScore:
    """Raises `ValueError` where a mask is not of the image's size."""
    truth, plan = question.instruction.truth, answer.plan
    comparison = _compare(asked, answer, sorted(truth), question.dont_care)
    return InstructionScore(
        seed=asked.seed,
        question=question,
        comparison=comparison,
        exact=answer.error is None and comparison.exact,
        plan=plan,
        plan_right=plan is not None and execute(plan, asked.scene, phrases) == truth,
        masks=answer.masks,
        error=answer.error,
    )


def _compare(
    asked: QuestionSet, answer: ServiceAnswer, wanted: Sequence[int], dont_care: Sequence[int]
) -> Comparison:
    return compare(answer.masks, asked.truth(wanted), asked.truth(dont_care))
