"""Examples: images, and what is asked and answered about them, as token ids.

Flow: seed -> scene -> instructions with their canonical plans -> chats -> `TrainingExample` ->
`training.planner.packing`. There are three kinds: dense targets without a question, planning, and
reviewing a candidate. The questions of an example share its images, which stand in front, so that
each image is encoded once for all of them.

To teach your own plan language, change what a turn says here; to teach other images, pass another
`SceneSource`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from services.planner.calls import (
    VERDICT,
    Call,
    CallError,
    call_from_plan,
    format_call,
    parse_call,
    plan_from_call,
)
from services.planner.prompt import PLAN_TOOL, VERDICT_TOOL, plan_messages
from training.datasets.sources import SceneSource
from training.planner.images import (
    PatchedImage,
    labeled_image,
    plain_image,
    scene_labels,
    scene_presence,
)
from training.planner.preprocessing import Preprocessor
from training.planner.reviews import Review, review_of
from training.world.instructions import Family, Instruction, InstructionWriter
from training.world.scenes import Scene
from training.world.wording import pick, words

# About half of the questions are answered from the text alone, half from the image: with fewer of
# the first, quoting the question is learned late. Sets ask most of the image, and are learned last.
WEIGHTS: Mapping[Family, float] = {
    Family.PHRASE: 0.12,
    Family.CATEGORY: 0.14,
    Family.SUBJECTS: 0.10,
    Family.REFERENTIAL: 0.16,
    Family.SET: 0.25,
    Family.INDIRECT: 0.13,
    Family.ABSENT: 0.10,
}
_EVERYTHING = 0.9  # share of scenes that are asked for all they hold
_RETRIES = 0.03  # share of questions asked a second time, after a broken answer
_REVIEWS = 0.04  # share of questions that ask for a second look
# Share of images that hold as much as the source can show. A head on the soft tokens reads all of
# an image right where the language model still forgets one thing of five.
_CROWDED = 0.3
_MOST_SCENES = 200  # that may hold nothing to ask about, one after the other


class NothingToAsk(ValueError):
    """A source whose scenes hold nothing that could be asked about."""


@dataclass(frozen=True)
class TrainingExample:
    """What is asked about some images: token ids of questions and of their answers."""

    images: tuple[PatchedImage, ...]
    prefix: tuple[int, ...]
    turns: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True)
class ExampleBuilder:
    """Turns scenes into examples, in the format of one checkpoint.

    Attributes:
        source: of the scenes.
        preprocessor: the checkpoint's.
        labeled: whether images come with targets for what their soft tokens show.
    """

    source: SceneSource
    preprocessor: Preprocessor
    labeled: bool = True

    @cached_property
    def writer(self) -> InstructionWriter:
        """Writes the instructions, in the words of the source's vocabulary."""
        return InstructionWriter(self.source.vocabulary)

    def dense(self, seed: Sequence[int], size: tuple[int, int]) -> TrainingExample:
        """A crowded image and no question."""
        scene = self.source.scene(np.random.default_rng(list(seed)), size=size, crowded=True)
        return TrainingExample((self._image(scene),), (), ())

    def planning(
        self, seed: Sequence[int], questions: int, size: tuple[int, int] | None = None
    ) -> TrainingExample:
        """A scene with 1 to `questions` instructions; the same for the same seed and size.

        Raises:
            NothingToAsk: of no scene that was tried.
        """
        rng = np.random.default_rng(list(seed))
        for _ in range(_MOST_SCENES):  # a scene may hold nothing that can be asked about
            scene = self.source.scene(rng, size=size, crowded=bool(rng.random() < _CROWDED))
            texts = [
                self._planning_turn(instruction, rng)
                for instruction in self._instructions(scene, rng, questions)
            ]
            if texts:
                return training_example(self.preprocessor, (self._image(scene),), texts)
        raise NothingToAsk(f"{_MOST_SCENES} scenes in a row held nothing to ask about")

    def reviewing(self, seed: Sequence[int], questions: int = 1) -> TrainingExample:
        """A candidate, and up to `questions` requests that it fits or does not.

        Raises:
            NothingToAsk: of no scene that was tried.
        """
        review = self.review(seed, questions)
        prepared = self.preprocessor
        texts = [
            (
                prepared.chat(review.messages(request), VERDICT_TOOL),
                format_call(Call(VERDICT, {"accept": request.accept})),
            )
            for request in review.requests
        ]
        overview, close_up = review.images()
        images = (
            self._image(review.scene, overview),
            self._image(review.scene, close_up, only=review),
        )
        return training_example(prepared, images, texts)

    def review(self, seed: Sequence[int], questions: int = 1) -> Review:
        """What `reviewing` is about.

        Raises:
            NothingToAsk: of no scene that was tried.
        """
        rng = np.random.default_rng(list(seed))
        for _ in range(_MOST_SCENES):
            review = review_of(self.source.scene(rng), self.writer, rng, questions)
            if review is not None:
                return review
        raise NothingToAsk(f"{_MOST_SCENES} scenes in a row held no candidate to ask about")

    @property
    def concepts(self) -> int:
        """How many concepts there are to tell apart."""
        return len(self.source.vocabulary.concepts)

    def _instructions(
        self, scene: Scene, rng: np.random.Generator, count: int
    ) -> list[Instruction]:
        """Up to `count` instructions about `scene`, by the training weights.

        The first mostly asks for everything: no other answer teaches as much about the image.
        """
        families = rng.choice(len(WEIGHTS), 2 * count, p=list(WEIGHTS.values()))
        drawn = [self.writer.generate(scene, rng, list(WEIGHTS)[i]) for i in families]
        if rng.random() < _EVERYTHING:
            drawn.insert(0, self.writer.everything(scene, rng))
        return [instruction for instruction in drawn if instruction is not None][:count]

    def _planning_turn(self, instruction: Instruction, rng: np.random.Generator) -> tuple[str, str]:
        if instruction.plan.include and rng.random() < _REVIEWS:
            instruction = with_second_look(instruction, rng)
        answer = format_call(call_from_plan(instruction.plan))
        attempts = []
        if rng.random() < _RETRIES:
            broken = _broken(answer, rng)
            attempts = [(broken, error)] if (error := _error(broken)) else []
        messages = plan_messages(instruction.text, attempts)
        return self.preprocessor.chat(messages, PLAN_TOOL), answer

    def _image(
        self, scene: Scene, image: np.ndarray | None = None, only: Review | None = None
    ) -> PatchedImage:
        """The scene's image, or another of the same layout, with targets if there are any.

        Args:
            scene: gives the targets.
            image: to show in place of the scene's own.
            only: a review whose close-up the image is.
        """
        shown = scene.image if image is None else image
        if not self.labeled:
            return plain_image(self.preprocessor, shown)
        labels, present = scene_labels(scene), scene_presence(scene, self.concepts)
        if only is not None:
            mask, window = only.close_up()
            labels = np.where(mask, labels, -1)[window]
            present = np.eye(self.concepts, dtype=np.float32)[only.concept]
        return labeled_image(self.preprocessor, shown, labels, present)


def with_second_look(instruction: Instruction, rng: np.random.Generator) -> Instruction:
    """The instruction with the wish that each candidate be looked at, and its plan with `review`.

    Args:
        instruction: one that is not refused.
        rng: source of all choices.
    """
    text = f"{instruction.text.rstrip('?!. ')}, {pick(rng, words('second_looks'))}"
    return replace(instruction, text=text, plan=replace(instruction.plan, review=True))


def training_example(
    preprocessor: Preprocessor, images: Sequence[PatchedImage], texts: Sequence[tuple[str, str]]
) -> TrainingExample:
    """The example of some chats about the same images, and the call that answers each.

    Each chat is split after its last image; what stands before is the same for all.
    """
    prefix: tuple[int, ...] = ()
    turns = []
    for chat, answer in texts:
        prefix, question = preprocessor.split(chat, [image.soft for image in images])
        turns.append((question, preprocessor.answer(answer)))
    return TrainingExample(tuple(images), prefix, tuple(turns))


def _broken(answer: str, rng: np.random.Generator) -> str:
    """`answer` with one of the faults that a language model makes."""
    faults: tuple[Callable[[str], str], ...] = (
        lambda text: text[: int(rng.integers(1, len(text)))],
        lambda text: text.replace("include", "object"),
        lambda text: text.replace("call:plan", "call:segment"),
        lambda text: re.sub(r"include:\[[^]]*\]", "include:[]", text),
        lambda _: "",
    )
    return pick(rng, faults)(answer)


def _error(answer: str) -> str | None:
    """What is wrong with `answer`, or None."""
    try:
        plan_from_call(parse_call(answer))
    except CallError as error:
        return str(error)
    return None
