"""Asks the questions of many scenes through the public API, a few at a time, and scores answers.

Each worker draws one scene, asks all about it, one call after the other, and takes the next: the
number of workers is the number of calls under way and of scenes in memory.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from limelight import AsyncClient, LimelightError, ModelInfo, Segmentation
from limelight.client import SegmentOptions
from limelight.masks import validate_rle
from limelight.values import Plan, PlanOutcome
from services.errors import ServiceError
from training.evaluation.calibration import LOW_THRESHOLD, RankedAnswer, rank
from training.evaluation.questions import QuestionBuilder, QuestionSet
from training.evaluation.scoring import (
    ExemplarScore,
    InstructionScore,
    NegativeScore,
    PhraseScore,
    ServiceAnswer,
    score_exemplar,
    score_instruction,
    score_negative,
    score_phrase,
)

T = TypeVar("T")
OnScene = Callable[[], None]


@dataclass(frozen=True)
class SceneScores:
    """One scene's scores, and the models that answered."""

    seed: int
    phrases: tuple[PhraseScore, ...]
    exemplars: tuple[ExemplarScore, ...]
    negatives: tuple[NegativeScore, ...]
    instructions: tuple[InstructionScore, ...]
    models: frozenset[ModelInfo]


@dataclass(frozen=True)
class ServiceEvaluator:
    """Evaluates the service behind a client.

    Attributes:
        client: to the gateway.
        builder: of the questions.
        concurrency: calls under way at once.
        perfect_plans: send each instruction's canonical plan as explicit queries instead of its
            words: what the service would answer with a planner that never errs.
        timeout_s: for one call.
    """

    client: AsyncClient
    builder: QuestionBuilder
    concurrency: int = 4
    perfect_plans: bool = False
    timeout_s: float = 120.0

    async def evaluate(
        self, seeds: Sequence[int], on_scene: OnScene = lambda: None
    ) -> list[SceneScores]:
        """The scores of each seed's scene, in the order of the seeds.

        Raises:
            LimelightError: nothing answers at the address. Every other failed call is scored.
        """
        return await self._each(self.builder, self._scene, seeds, on_scene)

    async def ranked(
        self, seeds: Sequence[int], on_scene: OnScene = lambda: None
    ) -> list[RankedAnswer]:
        """The phrases of each seed's scene again, asked with a low threshold, for calibration.

        Raises:
            LimelightError: nothing answers at the address. Other failed calls answered nothing.
        """
        phrases_alone = replace(self.builder, per_scene=0)
        scenes = await self._each(phrases_alone, self._ranked, seeds, on_scene)
        return [answer for scene in scenes for answer in scene]

    async def _each(
        self,
        builder: QuestionBuilder,
        ask: Callable[[QuestionSet], Awaitable[T]],
        seeds: Sequence[int],
        on_scene: OnScene,
    ) -> list[T]:
        """What `ask` makes of each seed's questions, in the order of the seeds."""
        answers: dict[int, T] = {}
        waiting = iter(seeds)

        async def work() -> None:
            for seed in waiting:
                answers[seed] = await ask(await asyncio.to_thread(builder.questions, seed))
                on_scene()

        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(work())
        return [answers[seed] for seed in seeds]

    async def _ranked(self, asked: QuestionSet) -> list[RankedAnswer]:
        answers = []
        for question in asked.phrases:
            options: SegmentOptions = {
                "phrases": [question.phrase],
                "score_threshold": LOW_THRESHOLD,
            }
            answers.append(rank(asked, question, await self._ask(asked, set(), None, options)))
        return answers

    async def _scene(self, asked: QuestionSet) -> SceneScores:
        models: set[ModelInfo] = set()
        phrases, exemplars, negatives, instructions = [], [], [], []
        without = ServiceAnswer()
        for phrase in asked.phrases:
            answer = await self._ask(asked, models, None, {"phrases": [phrase.phrase]})
            phrases.append(score_phrase(asked, phrase, answer))
            if asked.negative is not None and asked.negative.phrase is phrase:
                without = answer
        if asked.exemplar is not None:
            answer = await self._ask(asked, models, None, {"queries": [asked.exemplar.query]})
            exemplars.append(score_exemplar(asked, asked.exemplar, answer))
        if asked.negative is not None:
            answer = await self._ask(asked, models, None, {"queries": [asked.negative.query]})
            negatives.append(score_negative(asked, asked.negative, without, answer))
        for question in asked.instructions:
            if self.perfect_plans:
                answer = await self._execute(asked, models, question.instruction.plan)
            else:
                answer = await self._ask(asked, models, question.instruction.text, {})
            book = self.builder.writer.phrases
            instructions.append(score_instruction(asked, question, answer, book))
        return SceneScores(
            asked.seed,
            tuple(phrases),
            tuple(exemplars),
            tuple(negatives),
            tuple(instructions),
            frozenset(models),
        )

    async def _execute(
        self, asked: QuestionSet, models: set[ModelInfo], plan: Plan
    ) -> ServiceAnswer:
        if plan.outcome is PlanOutcome.REFUSED:
            return ServiceAnswer(plan=plan)  # there is nothing to ask for
        options: SegmentOptions = {
            "queries": plan.include,
            "exclude": plan.exclude,
            "select": plan.select,
        }
        return await self._ask(asked, models, None, options)

    async def _ask(
        self,
        asked: QuestionSet,
        models: set[ModelInfo],
        instruction: str | None,
        options: SegmentOptions,
    ) -> ServiceAnswer:
        options["timeout"] = self.timeout_s
        try:
            answer = await self.client.segment(asked.content, instruction, **options)
            return _checked(answer, asked, models)
        except LimelightError as error:
            if error.unreachable:
                raise
            return ServiceAnswer(error=error.reason or error.code.name)
        except ServiceError as error:
            return ServiceAnswer(error=f"malformed mask: {error.reason}")


def _checked(answer: Segmentation, asked: QuestionSet, models: set[ModelInfo]) -> ServiceAnswer:
    """What is scored of an answer; a mask of another size than the image's is an error.

    Raises `ServiceError` for a malformed mask.
    """
    models.update(model for model in answer.models if model.revision)
    masks = tuple(instance.rle for instance in answer.instances)
    for mask in masks:
        validate_rle(mask)
    if any((mask.size[1], mask.size[0]) != asked.scene.size for mask in masks):
        return ServiceAnswer(error="mask of another size")
    presence = answer.queries[0].presence if answer.queries else None
    scores = tuple(instance.score for instance in answer.instances)
    return ServiceAnswer(masks, scores, presence, answer.plan)
