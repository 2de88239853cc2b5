"""Second looks: one candidate of a scene, and requests that it does or does not fit.

The images and the wording are those that `services.planner.reviewing` puts before the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from services.planner.marks import numbered_overview, zoom_window, zoomed_candidate
from services.planner.prompt import Message, review_messages
from training.world.instructions import Family, Instruction, InstructionWriter
from training.world.scenes import Scene
from training.world.wording import pick

_FAMILIES = (Family.PHRASE, Family.CATEGORY, Family.SET, Family.INDIRECT, Family.ABSENT)


@dataclass(frozen=True)
class ReviewRequest:
    """What the caller wants, the phrase that the candidate was found for, and whether it fits."""

    instruction: Instruction
    phrase: str
    accept: bool


@dataclass(frozen=True)
class Review:
    """One candidate of a scene.

    Attributes:
        scene: what it is part of.
        candidates: indices into the scene's instances, in the order of their numbers.
        number: of the candidate, from 0.
        requests: at least one that the candidate is held against.
    """

    scene: Scene
    candidates: tuple[int, ...]
    number: int
    requests: tuple[ReviewRequest, ...]

    @property
    def concept(self) -> int:
        """Index of the concept that the candidate shows."""
        return self.scene.instances[self.candidates[self.number]].concept.index

    def images(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbered overview and the candidate close up, uint8 ``[h, w, 3]`` each."""
        masks = [self.scene.instances[index].mask for index in self.candidates]
        return (
            numbered_overview(self.scene.image, masks),
            zoomed_candidate(self.scene.image, masks[self.number]),
        )

    def close_up(self) -> tuple[np.ndarray, tuple[slice, slice]]:
        """The candidate's mask, bool ``[h, w]``, and the window of it that the close-up shows."""
        mask = self.scene.instances[self.candidates[self.number]].mask
        return mask, zoom_window(mask)

    def messages(self, request: ReviewRequest) -> Sequence[Message]:
        """The chat that asks for a verdict."""
        return review_messages(request.instruction.text, request.phrase, self.number + 1)


def review_of(
    scene: Scene, writer: InstructionWriter, rng: np.random.Generator, count: int
) -> Review | None:
    """A review of one of the scene's instances; None where nothing can be asked about it.

    About half of the at most `count` requests fit. The rest are what a segmenter's mistakes give:
    requests for something else that is there, or that only looks alike.
    """
    shown = [i for i, instance in enumerate(scene.instances) if not instance.dont_care]
    if not shown:
        return None
    candidates = tuple(int(i) for i in rng.permutation(shown))
    number = int(rng.integers(len(candidates)))
    candidate = candidates[number]
    concept = scene.instances[candidate].concept.index
    requests = []
    for instruction in _mixed(scene, writer, candidate, rng, count):
        phrases = [query.phrase for query in instruction.plan.include]
        fitting = [p for p in phrases if concept in writer.phrases.matching_concepts(p)]
        phrase = fitting[0] if fitting else pick(rng, phrases)
        requests.append(ReviewRequest(instruction, phrase, candidate in instruction.truth))
    return Review(scene, candidates, number, tuple(requests)) if requests else None


def _mixed(
    scene: Scene, writer: InstructionWriter, candidate: int, rng: np.random.Generator, count: int
) -> list[Instruction]:
    """Up to `count` instructions, as nearly half of them true of the candidate as comes."""
    fits: list[Instruction] = []
    fails: list[Instruction] = []
    for _ in range(4 * count):
        instruction = writer.generate(scene, rng, pick(rng, _FAMILIES))
        if instruction is not None and instruction.plan.include:
            (fits if candidate in instruction.truth else fails).append(instruction)
    piles = (fits, fails) if rng.integers(2) else (fails, fits)
    turns = chain.from_iterable(zip_longest(*(pile[:count] for pile in piles)))
    return [instruction for instruction in turns if instruction is not None][:count]
