"""Which lessons a step has. Decided by the seed and the step's number and by nothing else, so that
a restarted run sees what an unbroken one would have seen.

Flow: step -> `Curriculum.lessons` -> `services.stickers.planner.packing.collate`.
"""

from dataclasses import dataclass

import numpy as np

from services.stickers.planner.examples import OwnExamples
from services.stickers.planner.lessons import Lesson, Teacher
from services.stickers.planner.recipe import Recipe
from services.stickers.planner.scenery import training_size


@dataclass(frozen=True)
class Curriculum:
    """The order of a run's lessons.

    Attributes:
        recipe: the run's.
        teacher: makes lessons of scenes; None where only own examples are learnt.
        examples: one's own questions, if any.
    """

    recipe: Recipe
    teacher: Teacher | None = None
    examples: OwnExamples | None = None

    def __post_init__(self) -> None:
        if self.teacher is None and self.examples is None:
            raise ValueError("nothing to learn from: neither scenes nor examples")
        if self.examples is not None and self.recipe.looks:
            raise ValueError("own examples have no masks: they cannot teach to look")

    def lessons(self, step: int, answers: bool) -> list[Lesson]:
        """The lessons of a step.

        Args:
            step: its number.
            answers: whether the second phase has begun, in which there are questions.
        """
        recipe = self.recipe
        count = recipe.scenes * recipe.accumulate
        seeds = [(recipe.seed, step, index) for index in range(count)]
        own: list[Lesson] = []
        if self.examples is not None:
            share = 1.0 if self.teacher is None else recipe.own_share
            first = round(share * count)
            own = [self.examples.lesson(seed, recipe.questions) for seed in seeds[:first]]
            seeds = seeds[first:]
        if self.teacher is None:
            return own
        # One size a step: scenes of one shape need no padding.
        size = training_size(np.random.default_rng([recipe.seed, step]))
        if not answers:
            return [self.teacher.looking(seed, size) for seed in seeds]
        if step % recipe.review_every == 0:
            return own + [self.teacher.reviewing(seed, recipe.questions) for seed in seeds]
        return own + [self.teacher.planning(seed, recipe.questions, size) for seed in seeds]
