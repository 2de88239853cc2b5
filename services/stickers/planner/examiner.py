"""Asks a model about scenes it never saw, and marks what it writes.

Flow: seeds -> scenes and instructions -> greedy generation -> `services.planner.calls` -> `Oracle`
-> `Answered`; seeds -> candidates -> `Judged`; both -> `services.stickers.planner.figures`. An
answer is right when its plan, executed on the true masks, gives exactly the true set: another plan
with the same answer is as good.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from transformers import Gemma4ForConditionalGeneration

from services.domain import Plan
from services.planner.calls import CallError, parse_call, plan_from_call, verdict_from_call
from services.planner.prompt import VERDICT_TOOL
from services.stickers.instructions import Family, Instruction
from services.stickers.planner.lessons import Teacher, with_second_look
from services.stickers.planner.oracle import Oracle
from services.stickers.scenes import Scene

T = TypeVar("T")

_MAX_NEW_TOKENS = 96
# An answer ends with its turn, or where the model hands over to the tool.
_ENDINGS = ("<eos>", "<turn|>", "<|tool_response>")


@dataclass(frozen=True)
class Answered:
    """One instruction and what the model made of it.

    Attributes:
        instruction: with its canonical plan and its truth.
        second_look: whether it asked for a review, on top of what its family asks.
        text: what the model wrote.
        tokens: how long that was.
        plan: what it says; None where it is no valid call.
        found: indices of the instances that the plan answers; empty without a plan.
        wanted_concepts, found_concepts: what the true and the found instances show.
    """

    instruction: Instruction
    second_look: bool
    text: str
    tokens: int
    plan: Plan | None
    found: frozenset[int]
    wanted_concepts: frozenset[int]
    found_concepts: frozenset[int]

    @property
    def exact(self) -> bool:
        """Whether the answer is exactly the true set."""
        return self.plan is not None and self.found == self.instruction.truth


@dataclass(frozen=True)
class Judged:
    """One candidate: whether it should be accepted, and whether it was; None is no valid call."""

    accept: bool
    accepted: bool | None


@dataclass(frozen=True)
class Examiner:
    """Asks a model for plans and verdicts, and marks them.

    Attributes:
        teacher: gives scenes, words and the chat format.
        batch: questions asked at a time.
    """

    teacher: Teacher
    batch: int = 16

    @cached_property
    def oracle(self) -> Oracle:
        """Executes plans in the words of the teacher's vocabulary."""
        return Oracle(self.teacher.writer.phrases)

    def examine(
        self,
        model: Gemma4ForConditionalGeneration,
        seeds: Iterable[int],
        each: int = 1,
        size: tuple[int, int] | None = None,
    ) -> list[Answered]:
        """`each` instructions of every family for each seed's scene, and one for a second look.

        Args:
            model: in evaluation mode.
            seeds: of the scenes.
            each: instructions a family and scene; those without a sound truth are left out.
            size: of the scenes in pixels, if the source can draw such; by default its own.
        """
        answered = []
        for part in _batches(self._asked(seeds, each, size), self.batch):
            chats = [
                ((scene.image,), self.teacher.preprocessor.planning_chat(instruction.text))
                for scene, instruction, _ in part
            ]
            for (scene, instruction, looks), (text, tokens) in zip(
                part, self.answers(model, chats), strict=True
            ):
                answered.append(self._marked(scene, instruction, looks, text, tokens))
        return answered

    def judge(
        self, model: Gemma4ForConditionalGeneration, seeds: Iterable[int], each: int = 2
    ) -> list[Judged]:
        """A candidate of each seed's scene, held against up to `each` requests, half of them fit.

        Args:
            model: in evaluation mode.
            seeds: of the scenes.
            each: requests a candidate.
        """
        judged = []
        reviews = (self.teacher.review((seed,), each) for seed in seeds)
        asked = ((review, one) for review in reviews for one in review.asked)
        for part in _batches(asked, self.batch):
            prepared = self.teacher.preprocessor
            chats = [
                (review.images(), prepared.chat(review.messages(one), VERDICT_TOOL))
                for review, one in part
            ]
            for (_, one), (text, _) in zip(part, self.answers(model, chats), strict=True):
                judged.append(Judged(one.accept, _verdict(text)))
        return judged

    @torch.inference_mode()
    def answers(
        self,
        model: Gemma4ForConditionalGeneration,
        chats: Sequence[tuple[Sequence[np.ndarray], str]],
    ) -> list[tuple[str, int]]:
        """What the model writes, greedily, and how many tokens that is.

        Args:
            model: in evaluation mode.
            chats: the images, uint8 ``[h, w, 3]``, and the text of each.
        """
        prepared = self.teacher.preprocessor
        tokenizer = prepared.tokenizer
        images = prepared.image_processor(
            images=[image for shown, _ in chats for image in shown], return_tensors="pt"
        )
        soft = iter(images["num_soft_tokens_per_image"])
        prompts = [
            prepared.expanded(chat, [int(next(soft)) for _ in shown]) for shown, chat in chats
        ]
        inputs = tokenizer(
            prompts,
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        ).to(model.device)
        ids = inputs["input_ids"]
        endings = tokenizer.convert_tokens_to_ids(list(_ENDINGS))
        made = model.generate(
            input_ids=ids,
            attention_mask=inputs["attention_mask"],
            pixel_values=images["pixel_values"].to(model.device, model.dtype),
            image_position_ids=images["image_position_ids"].to(model.device),
            mm_token_type_ids=(ids == model.config.image_token_id).long(),
            do_sample=False,
            max_new_tokens=_MAX_NEW_TOKENS,
            eos_token_id=endings,
        )[:, ids.shape[1] :]
        answers = [_ended(row, set(endings)) for row in made.tolist()]
        return [
            (tokenizer.decode(answer, skip_special_tokens=False), len(answer)) for answer in answers
        ]

    def _asked(
        self, seeds: Iterable[int], each: int, size: tuple[int, int] | None
    ) -> Iterator[tuple[Scene, Instruction, bool]]:
        writer = self.teacher.writer
        for seed in seeds:
            rng = np.random.default_rng(seed)
            scene = self.teacher.source.scene(rng, size=size)
            asked = [writer.generate(scene, rng, family) for family in list(Family) * each]
            drawn = [instruction for instruction in asked if instruction is not None]
            yield from ((scene, instruction, False) for instruction in drawn)
            # After all else, so that it changes none of the others.
            plain = [instruction for instruction in drawn if instruction.plan.include]
            if plain:
                yield scene, with_second_look(plain[int(rng.integers(len(plain)))], rng), True

    def _marked(
        self, scene: Scene, instruction: Instruction, looks: bool, text: str, tokens: int
    ) -> Answered:
        plan = _plan(text)
        found = frozenset() if plan is None else self.oracle.execute(plan, scene)
        return Answered(
            instruction=instruction,
            second_look=looks,
            text=text,
            tokens=tokens,
            plan=plan,
            found=found,
            wanted_concepts=_shown(scene, instruction.truth),
            found_concepts=_shown(scene, found),
        )


def _shown(scene: Scene, indices: frozenset[int]) -> frozenset[int]:
    return frozenset(scene.instances[index].concept.index for index in indices)


def _plan(text: str) -> Plan | None:
    try:
        return plan_from_call(parse_call(text))
    except CallError:
        return None


def _verdict(text: str) -> bool | None:
    try:
        return verdict_from_call(parse_call(text))[0]
    except CallError:
        return None


def _ended(row: list[int], endings: set[int]) -> list[int]:
    """An answer's tokens up to the one that ended it; padding follows in a batch."""
    end = next((index for index, token in enumerate(row) if token in endings), len(row) - 1)
    return row[: end + 1]


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
