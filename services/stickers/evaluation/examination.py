"""Asks the questions of many scenes through the public API, a few at a time, and marks the answers.

Each worker draws one scene, asks all about it, one call after the other, and takes the next: the
number of workers is the number of calls under way and of scenes in memory.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from limelight import AsyncClient, LimelightError, ModelInfo, Segmentation
from limelight.client import SegmentOptions
from services.codecs.masks import validate_rle
from services.domain import Plan, PlanOutcome
from services.errors import ServiceError
from services.stickers.evaluation.calibration import LOW_THRESHOLD, ScoredAnswer, judge
from services.stickers.evaluation.marking import (
    Answer,
    ExemplarMark,
    InstructionMark,
    PhraseMark,
    mark_exemplar,
    mark_instruction,
    mark_phrase,
)
from services.stickers.evaluation.questions import Paper, Setter
from services.stickers.planner.oracle import Oracle

T = TypeVar("T")


@dataclass(frozen=True)
class SceneMarks:
    """One scene's marks, and the models that answered."""

    seed: int
    phrases: tuple[PhraseMark, ...]
    exemplars: tuple[ExemplarMark, ...]
    instructions: tuple[InstructionMark, ...]
    models: frozenset[ModelInfo]


class Examiner:
    """Examines the service behind `client`.

    Args:
        client: to the gateway.
        setter: sets the questions.
        concurrency: calls under way at once.
        perfect_plans: send each instruction's canonical plan as explicit queries instead of its
            words: what the service would answer with a planner that never errs.
        timeout_s: for one call.
    """

    def __init__(
        self,
        client: AsyncClient,
        setter: Setter,
        *,
        concurrency: int = 4,
        perfect_plans: bool = False,
        timeout_s: float = 120.0,
    ) -> None:
        self._client = client
        self._setter = setter
        self._concurrency = concurrency
        self._perfect_plans = perfect_plans
        self._timeout_s = timeout_s
        self._oracle = Oracle(setter.writer.phrases)

    async def examine(
        self, seeds: Sequence[int], on_scene: Callable[[], None] = lambda: None
    ) -> list[SceneMarks]:
        """The marks of each seed's scene, in the order of the seeds.

        Raises:
            LimelightError: nothing answers at the address. Every other failed call is marked.
        """
        return await self._papers(self._setter, self._scene, seeds, on_scene)

    async def scores(
        self, seeds: Sequence[int], on_scene: Callable[[], None] = lambda: None
    ) -> list[ScoredAnswer]:
        """The phrases of each seed's scene again, asked with a low threshold, for calibration.

        Raises:
            LimelightError: nothing answers at the address. Other failed calls answered nothing.
        """
        phrases_alone = replace(self._setter, per_scene=0)
        scenes = await self._papers(phrases_alone, self._scored, seeds, on_scene)
        return [answer for scene in scenes for answer in scene]

    async def _papers(
        self,
        setter: Setter,
        ask: Callable[[Paper], Awaitable[T]],
        seeds: Sequence[int],
        on_scene: Callable[[], None],
    ) -> list[T]:
        """What `ask` makes of each seed's paper, in the order of the seeds."""
        answers: dict[int, T] = {}
        waiting = iter(seeds)

        async def work(seeds: Iterator[int]) -> None:
            for seed in seeds:
                paper = await asyncio.to_thread(setter.paper, seed)
                answers[seed] = await ask(paper)
                on_scene()

        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(work(waiting))
        return [answers[seed] for seed in seeds]

    async def _scored(self, paper: Paper) -> list[ScoredAnswer]:
        answers = []
        for question in paper.phrases:
            options: SegmentOptions = {
                "phrases": [question.phrase],
                "score_threshold": LOW_THRESHOLD,
            }
            answers.append(judge(paper, question, await self._ask(paper, set(), None, options)))
        return answers

    async def _scene(self, paper: Paper) -> SceneMarks:
        models: set[ModelInfo] = set()
        phrases = []
        for phrase in paper.phrases:
            answer = await self._ask(paper, models, None, {"phrases": [phrase.phrase]})
            phrases.append(mark_phrase(paper, phrase, answer))
        exemplars = []
        if paper.exemplar is not None:
            answer = await self._ask(paper, models, None, {"queries": [paper.exemplar.query]})
            exemplars.append(mark_exemplar(paper, paper.exemplar, answer))
        instructions = []
        for question in paper.instructions:
            if self._perfect_plans:
                answer = await self._execute(paper, models, question.instruction.plan)
            else:
                answer = await self._ask(paper, models, question.instruction.text, {})
            instructions.append(mark_instruction(paper, question, answer, self._oracle))
        return SceneMarks(
            paper.seed, tuple(phrases), tuple(exemplars), tuple(instructions), frozenset(models)
        )

    async def _execute(self, paper: Paper, models: set[ModelInfo], plan: Plan) -> Answer:
        if plan.outcome is PlanOutcome.REFUSED:
            return Answer(plan=plan)  # there is nothing to ask for
        options: SegmentOptions = {
            "queries": plan.include,
            "exclude": plan.exclude,
            "select": plan.select,
        }
        return await self._ask(paper, models, None, options)

    async def _ask(
        self,
        paper: Paper,
        models: set[ModelInfo],
        instruction: str | None,
        options: SegmentOptions,
    ) -> Answer:
        options["timeout"] = self._timeout_s
        try:
            answer = await self._client.segment(paper.content, instruction, **options)
            return _checked(answer, paper, models)
        except LimelightError as error:
            if error.unreachable:
                raise
            return Answer(error=error.reason or error.code.name)
        except ServiceError as error:
            return Answer(error=f"malformed mask: {error.reason}")


def _checked(answer: Segmentation, paper: Paper, models: set[ModelInfo]) -> Answer:
    """What is marked of an answer; a mask of another size than the image's is an error.

    Raises `ServiceError` for a mask that is none.
    """
    models.update(model for model in answer.models if model.revision)
    masks = tuple(instance.rle for instance in answer.instances)
    for mask in masks:
        validate_rle(mask)
    if any((mask.size[1], mask.size[0]) != paper.scene.size for mask in masks):
        return Answer(error="mask of another size")
    presence = answer.queries[0].presence if answer.queries else None
    scores = tuple(instance.score for instance in answer.instances)
    return Answer(masks, scores, presence, answer.plan)
