"""Asks the questions of many clips through the public API, a few at a time, and scores answers."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from limelight import AsyncClient, LimelightError, TrackedFrame, TrackSummary
from limelight.client import TrackOptions
from limelight.masks import Mask, decode_rle
from limelight.values import RLE, ModelInfo
from training.evaluation.clip_questions import ClipQuestionBuilder, ClipQuestionSet
from training.evaluation.pairing import pair_clip
from training.evaluation.tracking import TrackingScore, answered_right, score
from training.world.clip_instructions import ClipFamily

OnClip = Callable[[], None]


@dataclass(frozen=True)
class ClipAnswer:
    """What came back of one call.

    Attributes:
        frames: of every frame of the clip, what was answered: phrase, object id, mask.
        error: why the call failed, empty for one that did not; its frames are empty then.
        models: that took part.
    """

    frames: Sequence[Sequence[tuple[str, int, RLE]]]
    error: str = ""
    models: frozenset[ModelInfo] = frozenset()

    def masks(self, phrase: str | None = None) -> Iterator[Mapping[int, Mask]]:
        """Masks by id of every frame in turn, of one phrase or of all."""
        for frame in self.frames:
            yield {
                number: decode_rle(mask) for found, number, mask in frame if phrase in (None, found)
            }


@dataclass(frozen=True)
class InstructedScore:
    """How an instruction about a clip was answered.

    Attributes:
        family: its kind.
        text: as asked.
        right: see `answered_right`.
        tracking: of its targets; None where nothing was ever wanted.
    """

    family: ClipFamily
    text: str
    right: bool
    tracking: TrackingScore | None


@dataclass(frozen=True)
class ClipScores:
    """One clip's scores.

    Attributes:
        seed: of the clip.
        phrases: of each phrase, the absent one last.
        instructed: of its instruction, if it had one.
        errors: why calls failed.
        models: that answered.
    """

    seed: int
    phrases: tuple[TrackingScore, ...]
    instructed: InstructedScore | None
    errors: tuple[str, ...]
    models: frozenset[ModelInfo]


@dataclass(frozen=True)
class ClipEvaluator:
    """Evaluates the service behind a client.

    Attributes:
        client: to the gateway.
        builder: of the questions.
        concurrency: streams under way at once.
        timeout_s: for one call.
    """

    client: AsyncClient
    builder: ClipQuestionBuilder
    concurrency: int = 3
    timeout_s: float = 900.0

    async def evaluate(
        self, seeds: Sequence[int], on_clip: OnClip = lambda: None
    ) -> list[ClipScores]:
        """The scores of each seed's clip, in the order of the seeds.

        Raises:
            ExceptionGroup: of `LimelightError`: nothing answers at the address. Every other failed
                call is scored as one that answered nothing.
        """
        scores: dict[int, ClipScores] = {}
        waiting = iter(seeds)

        async def work() -> None:
            for seed in waiting:
                scores[seed] = await self._clip(
                    await asyncio.to_thread(self.builder.questions, seed)
                )
                on_clip()

        async with asyncio.TaskGroup() as group:
            for _ in range(self.concurrency):
                group.create_task(work())
        return [scores[seed] for seed in seeds]

    async def _clip(self, asked: ClipQuestionSet) -> ClipScores:
        words = [question.phrase for question in asked.phrases]
        answers = [await self.ask(asked, None, {"phrases": words})]
        phrases = await asyncio.to_thread(
            lambda: tuple(
                score(pair_clip(asked.clip, question.targets, answers[0].masks(question.phrase)))
                for question in asked.phrases
            )
        )
        instructed = None
        if asked.instruction is not None:
            answers.append(await self.ask(asked, asked.instruction.text, {}))
            instructed = await asyncio.to_thread(_instructed, asked, answers[1])
        return ClipScores(
            asked.seed,
            phrases,
            instructed,
            tuple(answer.error for answer in answers if answer.error),
            frozenset[ModelInfo]().union(*(answer.models for answer in answers)),
        )

    async def ask(
        self, asked: ClipQuestionSet, instruction: str | None, options: TrackOptions
    ) -> ClipAnswer:
        """One call about a clip.

        Raises:
            LimelightError: nothing answers at the address.
        """
        frames: list[list[tuple[str, int, RLE]]] = [[] for _ in range(asked.clip.frame_count)]
        models: Collection[ModelInfo] = ()
        told = 0
        options["timeout"] = self.timeout_s
        try:
            async with self.client.track(asked.content, instruction, **options) as events:
                async for event in events:
                    if isinstance(event, TrackedFrame):
                        told += 1
                        frames[event.index] = [
                            (item.phrase, item.id, item.rle) for item in event.instances
                        ]
                    elif isinstance(event, TrackSummary):
                        models = event.models
        except LimelightError as exc:
            if exc.unreachable:
                raise
            return ClipAnswer([[]] * asked.clip.frame_count, exc.reason or exc.code.name)
        missing = asked.clip.frame_count - told
        error = f"{missing} frames missing" if missing else ""
        return ClipAnswer(frames, error, frozenset(model for model in models if model.revision))


def _instructed(asked: ClipQuestionSet, answer: ClipAnswer) -> InstructedScore:
    instruction = asked.instruction
    assert instruction is not None
    frames = pair_clip(asked.clip, instruction.targets, answer.masks())
    return InstructedScore(
        instruction.family,
        instruction.text,
        not answer.error and answered_right(frames),
        score(frames) if instruction.targets else None,
    )
