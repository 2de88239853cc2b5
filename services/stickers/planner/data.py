"""Training data: scenes rendered on the fly, several instructions each, packed into batches.

Flow: seed -> scene -> `SceneLesson` (patches, dense targets, tokenised questions) -> `collate` ->
`Batch`. The questions of one scene share its picture: they are packed into one row behind one
prefix and see the prefix and themselves, never each other, so that a row costs one picture and
gives exactly what the separate conversations would.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from services.domain import Plan
from services.planner.calls import (
    VERDICT,
    Call,
    CallError,
    call_from_plan,
    format_call,
    parse_call,
    plan_from_call,
)
from services.planner.marks import numbered_overview, zoom_window, zoomed_candidate
from services.planner.prompt import PLAN_TOOL, VERDICT_TOOL, plan_messages, review_messages
from services.stickers.backgrounds import WIDE, draw_background
from services.stickers.instructions import Family, Instruction, InstructionWriter
from services.stickers.planner.config import POOLING
from services.stickers.planner.tokenizer import TOOL_RESPONSE
from services.stickers.scenes import (
    Scene,
    compose,
    random_placements,
    random_size,
)
from services.stickers.vocabulary import Concept
from services.stickers.weather import weathered

# Half of the questions are answered from the text alone, half from the picture (beside the request
# for everything, which is): with fewer of the first, quoting the question is learnt late.
WEIGHTS: Mapping[Family, float] = {
    Family.PHRASE: 0.18,
    Family.CATEGORY: 0.14,
    Family.SUBJECTS: 0.10,
    Family.REFERENTIAL: 0.20,
    Family.SET: 0.15,
    Family.INDIRECT: 0.13,
    Family.ABSENT: 0.10,
}
_SIDES = (256, 600)  # pixels; the model sees about 380, larger scenes only cost rendering
_EVERYTHING = 0.6  # share of scenes that are asked for all they hold
_RETRIES = 0.03  # share of questions asked a second time, after a broken answer
_REVIEWS = 0.04  # share of questions that ask for a second look
_SECOND_LOOKS = (
    "check each one",
    "and check each one",
    "look closely at each",
    "double-check them",
    "review every one",
    "make sure of each one",
)
_IGNORED = -100  # the label of positions without loss
_GRID = 8  # samples a side of a soft token, for its targets
_IMAGE = "<|image|>"


@dataclass(frozen=True)
class Picture:
    """One image as the model takes it, with what its soft tokens show.

    Attributes:
        patches: float32 ``[280, 768]``, padded.
        positions: int64 ``[280, 2]``, x and y of each patch, -1 where padded.
        coverage: float32 ``[soft, concepts]``, the share of each soft token that shows a concept.
        present: float32 ``[concepts]``, 1 there, 0 absent, -1 unknown ("don't care" only).
    """

    patches: np.ndarray
    positions: np.ndarray
    coverage: np.ndarray
    present: np.ndarray


@dataclass(frozen=True)
class Lesson:
    """What is asked about some pictures: token ids of questions and of their answers."""

    pictures: tuple[Picture, ...]
    prefix: tuple[int, ...]
    turns: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


@dataclass(frozen=True)
class Batch:
    """Lessons as tensors; rows are lessons, `soft` counts the soft tokens of each picture.

    Attributes:
        patches: float32 ``[pictures, patches, 768]``, patches at most 280.
        patch_positions: int64 ``[pictures, patches, 2]``.
        coverage: float32 ``[all soft tokens, concepts]``.
        present: float32 ``[pictures, concepts]``.
        soft: soft tokens of each picture.
        ids: int64 ``[rows, length]``.
        positions: int64 ``[rows, length]``, starting over with each question.
        visible: bool ``[rows, 1, length, length]``, what each position may attend to.
        labels: int64 ``[rows, length]``, the next token, or -100.
    """

    patches: torch.Tensor
    patch_positions: torch.Tensor
    coverage: torch.Tensor
    present: torch.Tensor
    soft: tuple[int, ...]
    ids: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Teacher:
    """Turns scenes into lessons, with the tokenizer and image processor that the service uses."""

    writer: InstructionWriter
    tokenizer: PreTrainedTokenizerBase
    image_processor: Gemma4ImageProcessorPil

    def looking(self, seed: Sequence[int], size: tuple[int, int]) -> Lesson:
        """A crowded picture and no question: two scenes' stickers on one background."""
        rng = np.random.default_rng(list(seed))
        longest = _longest_side(rng)
        placements = [
            random_placements(rng, self._pool(rng), size, longest_side=longest) for _ in range(2)
        ]
        scene = compose(sum(placements, ()), draw_background(rng, size, WIDE))
        scene = weathered(scene, rng)
        picture = self.picture(scene.image, _labels(scene), _presence(scene, self._concepts))
        return Lesson((picture,), (), ())

    def planning(
        self, seed: Sequence[int], questions: int, size: tuple[int, int] | None = None
    ) -> Lesson:
        """A scene with 1 to `questions` instructions; the same for the same seed and size."""
        rng = np.random.default_rng(list(seed))
        texts: list[tuple[str, str]] = []
        while not texts:  # a scene may hold nothing that can be asked about
            scene = self._scene(rng, size)
            for instruction in self.instructions(scene, rng, questions):
                texts.append(self._planning_turn(instruction, rng))
        picture = self.picture(scene.image, _labels(scene), _presence(scene, self._concepts))
        return self._lesson((picture,), texts)

    def reviewing(self, seed: Sequence[int], questions: int = 1) -> Lesson:
        """A scene with one candidate, and up to `questions` requests that it fits or does not.

        About half of them should be accepted. The rest are what a segmenter's mistakes give:
        requests for something else that is there, or that only looks alike.
        """
        rng = np.random.default_rng(list(seed))
        while True:
            scene = self._scene(rng)
            shown = [i for i, instance in enumerate(scene.instances) if not instance.dont_care]
            if not shown:
                continue
            candidates = [int(i) for i in rng.permutation(shown)]
            number = int(rng.integers(len(candidates)))
            asked = self._reviewed(scene, candidates[number], rng, questions)
            if asked:
                break
        masks = [scene.instances[i].mask for i in candidates]
        concept = scene.instances[candidates[number]].concept
        texts = []
        for instruction in asked:
            accept = candidates[number] in instruction.truth
            phrases = [query.phrase for query in instruction.plan.include]
            fitting = [
                phrase
                for phrase in phrases
                if concept.index in self.writer.phrases.matching_concepts(phrase)
            ]
            phrase = fitting[0] if fitting else _pick(rng, phrases)
            messages = review_messages(instruction.text, phrase, number + 1)
            answer = format_call(Call(VERDICT, {"accept": accept}))
            texts.append((self._chat(messages, VERDICT_TOOL), answer))
        labels, window = _labels(scene), zoom_window(masks[number])
        zoomed = np.where(masks[number], labels, -1)[window]
        alone = np.zeros(self._concepts, np.float32)
        alone[concept.index] = 1.0
        pictures = (
            self.picture(
                numbered_overview(scene.image, masks), labels, _presence(scene, self._concepts)
            ),
            self.picture(zoomed_candidate(scene.image, masks[number]), zoomed, alone),
        )
        return self._lesson(pictures, texts)

    def _reviewed(
        self, scene: Scene, candidate: int, rng: np.random.Generator, count: int
    ) -> list[Instruction]:
        """Up to `count` instructions, as nearly half of them true of the candidate as comes."""
        fits: list[Instruction] = []
        fails: list[Instruction] = []
        for _ in range(4 * count):
            family = _REVIEWED[int(rng.integers(len(_REVIEWED)))]
            instruction = self.writer.generate(scene, rng, family)
            if instruction is not None and instruction.plan.include:
                (fits if candidate in instruction.truth else fails).append(instruction)
        first = int(rng.integers(2))
        mixed = [
            pile[at]
            for at in range(count)
            for pile in ((fits, fails) if first else (fails, fits))
            if at < len(pile)
        ]
        return mixed[:count]

    def instructions(self, scene: Scene, rng: np.random.Generator, count: int) -> list[Instruction]:
        """Up to `count` instructions about `scene`, by the training weights.

        The first mostly asks for everything: no other answer teaches as much about the picture.
        """
        families = rng.choice(len(WEIGHTS), 2 * count, p=list(WEIGHTS.values()))
        drawn = [self.writer.generate(scene, rng, list(WEIGHTS)[i]) for i in families]
        if rng.random() < _EVERYTHING:
            drawn.insert(0, self.writer.everything(scene, rng))
        return [instruction for instruction in drawn if instruction is not None][:count]

    def picture(self, image: np.ndarray, labels: np.ndarray, present: np.ndarray) -> Picture:
        """`image` in patches, and the concepts each soft token shows by `labels` (-1: none)."""
        made = self.image_processor(images=[image], return_tensors="np")
        positions = made["image_position_ids"][0]
        columns, rows = (positions.max(axis=0) + 1) // POOLING
        ys = ((np.arange(rows * _GRID) + 0.5) * labels.shape[0] / (rows * _GRID)).astype(int)
        xs = ((np.arange(columns * _GRID) + 0.5) * labels.shape[1] / (columns * _GRID)).astype(int)
        samples = labels[np.ix_(ys, xs)].reshape(rows, _GRID, columns, _GRID) + 1
        cells = np.arange(rows * columns).reshape(rows, 1, columns, 1) * (self._concepts + 1)
        counts = np.bincount(
            (cells + samples).ravel(), minlength=rows * columns * (self._concepts + 1)
        )
        shares = counts.reshape(rows * columns, -1)[:, 1:] / _GRID**2
        return Picture(
            made["pixel_values"][0].astype(np.float32),
            positions.astype(np.int64),
            shares.astype(np.float32),
            present,
        )

    def prompt(self, text: str) -> str:
        """The chat that asks for a plan, up to where the model answers; one `<|image|>` in it."""
        return self._chat(plan_messages(text), PLAN_TOOL)

    def _scene(self, rng: np.random.Generator, size: tuple[int, int] | None = None) -> Scene:
        frame = size or training_size(rng)
        outside = 0.35 if rng.random() < 0.15 else 0.0
        placements = random_placements(
            rng, self._pool(rng), frame, longest_side=_longest_side(rng), outside=outside
        )
        return weathered(compose(placements, draw_background(rng, frame, WIDE)), rng)

    def _pool(self, rng: np.random.Generator) -> Sequence[Concept]:
        """The concepts that a scene draws from: all, or mostly subjects, or mostly people."""
        concepts = self.writer.vocabulary.concepts
        draw = rng.random()
        if draw > _SUBJECT_SHARE:
            return concepts
        # Faces are told apart by little, and "the main subjects" hangs on them.
        people = draw < _PEOPLE_SHARE
        chosen = [c for c in concepts if (c.category == "person" if people else c.subject)]
        others = [concept for concept in concepts if concept not in chosen]
        picked = rng.choice(len(others), 3 if people else 4, replace=False)
        return (*chosen, *(others[i] for i in picked))

    @property
    def _concepts(self) -> int:
        return len(self.writer.vocabulary.concepts)

    def _planning_turn(self, instruction: Instruction, rng: np.random.Generator) -> tuple[str, str]:
        text, plan = instruction.text, instruction.plan
        if plan.include and rng.random() < _REVIEWS:
            text = f"{text.rstrip('?!. ')}, {_SECOND_LOOKS[int(rng.integers(len(_SECOND_LOOKS)))]}"
            plan = replace(plan, review=True)
        answer = format_call(call_from_plan(plan))
        attempts = []
        if rng.random() < _RETRIES:
            broken = _broken(answer, rng)
            attempts = [(broken, error)] if (error := _error(broken)) else []
        return self._chat(plan_messages(text, attempts), PLAN_TOOL), answer

    def _chat(self, messages: Sequence[Mapping[str, object]], tool: Mapping[str, object]) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                messages, tools=[tool], tokenize=False, add_generation_prompt=True
            )
        )

    def _lesson(self, pictures: Sequence[Picture], texts: Sequence[tuple[str, str]]) -> Lesson:
        """Splits each chat behind its last image; what stands before is the same for all."""
        prefix: tuple[int, ...] = ()
        turns = []
        for chat, answer in texts:
            head, tail = self._expanded(chat, [len(picture.coverage) for picture in pictures])
            prefix = self._ids(head)
            turns.append((self._ids(tail), self._ids(answer + TOOL_RESPONSE)))
        return Lesson(tuple(pictures), prefix, tuple(turns))

    def _expanded(self, chat: str, soft: Sequence[int]) -> tuple[str, str]:
        *before, tail = chat.split(_IMAGE)
        images = [f"<|image>{_IMAGE * count}<image|>" for count in soft]
        return "".join(a + b for a, b in zip(before, images, strict=True)), tail

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer(text, add_special_tokens=False).input_ids)


def collate(lessons: Sequence[Lesson]) -> Batch:
    """Lessons as one batch; rows are padded on the right."""
    length = max(
        len(lesson.prefix) + sum(len(a) + len(b) for a, b in lesson.turns) for lesson in lessons
    )
    shape = (len(lessons), length)
    ids, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    labels = np.full(shape, _IGNORED, np.int64)
    segments = np.full(shape, -1, np.int64)  # 0: prefix, n: n-th question, -1: padding
    for row, lesson in enumerate(lessons):
        at = len(lesson.prefix)
        ids[row, :at], positions[row, :at], segments[row, :at] = lesson.prefix, range(at), 0
        for number, (question, answer) in enumerate(lesson.turns, start=1):
            turn = question + answer
            span = np.s_[row, at : at + len(turn)]
            ids[span], segments[span] = turn, number
            positions[span] = np.arange(len(turn)) + len(lesson.prefix)
            start = at + len(question) - 1
            labels[row, start : start + len(answer)] = answer
            at += len(turn)
    earlier = np.tri(length, dtype=bool)
    same = segments[:, :, None] == segments[:, None, :]
    visible = earlier & (same | (segments == 0)[:, None, :])
    pictures = [picture for lesson in lessons for picture in lesson.pictures]
    # The processor pads to its budget; the widest picture of the batch is enough.
    used = max(len(picture.coverage) for picture in pictures) * POOLING**2
    return Batch(
        patches=torch.from_numpy(np.stack([p.patches[:used] for p in pictures])),
        patch_positions=torch.from_numpy(np.stack([p.positions[:used] for p in pictures])),
        coverage=torch.from_numpy(np.concatenate([picture.coverage for picture in pictures])),
        present=torch.from_numpy(np.stack([picture.present for picture in pictures])),
        soft=tuple(len(picture.coverage) for picture in pictures),
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        visible=torch.from_numpy(visible)[:, None],
        labels=torch.from_numpy(labels),
    )


# Share of the scenes that show hardly anything but people and animals.
_SUBJECT_SHARE = 0.4
# Share of those that show hardly anything but people; it lies within the above.
_PEOPLE_SHARE = 0.12
_REVIEWED = (Family.PHRASE, Family.CATEGORY, Family.SET, Family.INDIRECT, Family.ABSENT)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def training_size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of a training scene."""
    return random_size(rng, *_SIDES)


def _longest_side(rng: np.random.Generator) -> float:
    """How large a scene's stickers get: small ones are what a planner overlooks."""
    return 0.28 if rng.random() < 0.4 else 0.5


def _labels(scene: Scene) -> np.ndarray:
    """int64 ``[h, w]``: the concept each pixel shows, -1 for the background."""
    labels = np.full(scene.image.shape[:2], -1, np.int64)
    for instance in scene.instances:
        x0, y0, x1, y1 = instance.box
        labels[y0:y1, x0:x1][instance.visible] = instance.concept.index
    return labels


def _presence(scene: Scene, concepts: int) -> np.ndarray:
    present = np.zeros(concepts, np.float32)
    for instance in sorted(scene.instances, key=lambda instance: not instance.dont_care):
        present[instance.concept.index] = -1.0 if instance.dont_care else 1.0
    return present


def _broken(answer: str, rng: np.random.Generator) -> str:
    """`answer` with one of the faults that a language model makes."""
    faults: tuple[Callable[[str], str], ...] = (
        lambda text: text[: int(rng.integers(1, len(text)))],
        lambda text: text.replace("include", "object"),
        lambda text: text.replace("call:plan", "call:segment"),
        lambda text: re.sub(r"include:\[[^]]*\]", "include:[]", text),
        lambda _: "",
    )
    return faults[int(rng.integers(len(faults)))](answer)


def _error(answer: str) -> str | None:
    """What is wrong with `answer`, or None."""
    try:
        _: Plan = plan_from_call(parse_call(answer))
    except CallError as error:
        return str(error)
    return None
