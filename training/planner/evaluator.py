"""Asks a model about held-out scenes, and scores what it writes.

Flow: seeds -> scenes and instructions -> greedy generation -> `services.planner.calls` -> plans
executed on the true masks -> `PlanAnswer`; seeds -> candidates -> `ReviewAnswer`; both ->
`training.planner.figures`. An answer is right when its plan gives exactly the true set: another
plan with the same answer is as good.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from transformers import Gemma4ForConditionalGeneration

from limelight.values import Plan
from services.planner.calls import CallError, parse_call, plan_from_call, verdict_from_call
from services.planner.prompt import VERDICT_TOOL
from training.planner.examples import ExampleBuilder, with_second_look
from training.world.execution import execute
from training.world.instructions import Family, Instruction
from training.world.scenes import Scene

_MAX_NEW_TOKENS = 96
# An answer ends with its turn, or where the model hands over to the tool.
_ENDINGS = ("<eos>", "<turn|>", "<|tool_response>")

Chat = tuple[Sequence[np.ndarray], str]
"""Images, uint8 ``[h, w, 3]``, and a text with a mark for each."""


@dataclass(frozen=True)
class PlanAnswer:
    """One instruction and what the model made of it.

    Attributes:
        instruction: with its canonical plan and its truth.
        second_look: whether it asked for a review, on top of what its family asks.
        text: what the model wrote.
        tokens: how long that was.
        plan: what it says; None where it is not a valid call.
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
class ReviewAnswer:
    """One candidate: whether to accept it, and whether the model did; None: not a valid call."""

    accept: bool
    accepted: bool | None


@dataclass(frozen=True)
class PlanEvaluator:
    """Asks a model for plans and verdicts.

    Attributes:
        builder: gives scenes, words and the chat format.
        batch: questions asked at a time.
    """

    builder: ExampleBuilder
    batch: int = 16

    def plans(
        self,
        model: Gemma4ForConditionalGeneration,
        seeds: Iterable[int],
        each: int = 1,
        size: tuple[int, int] | None = None,
    ) -> list[PlanAnswer]:
        """Plans for `each` instructions of every family about each seed's scene, and one review.

        Args:
            model: in evaluation mode.
            seeds: of the scenes.
            each: instructions a family and scene; those without a sound truth are left out.
            size: of the scenes in pixels, if the source can draw such; by default its own.
        """
        chat = self.builder.preprocessor.planning_chat
        asked = self._asked(seeds, each, size)
        answers = []
        while part := list(islice(asked, self.batch)):
            texts = self.answers(model, [((s.image,), chat(i.text)) for s, i, _ in part])
            answers += [
                self._scored(*question, *text) for question, text in zip(part, texts, strict=True)
            ]
        return answers

    def reviews(
        self, model: Gemma4ForConditionalGeneration, seeds: Iterable[int], each: int = 2
    ) -> list[ReviewAnswer]:
        """Verdicts on a candidate of each seed's scene against `each` requests, half of them fit.

        Args:
            model: in evaluation mode.
            seeds: of the scenes.
            each: requests a candidate.
        """
        chat = self.builder.preprocessor.chat
        reviews = (self.builder.review((seed,), each) for seed in seeds)
        asked = ((review, request) for review in reviews for request in review.requests)
        answers = []
        while part := list(islice(asked, self.batch)):
            chats = [(r.images(), chat(r.messages(one), VERDICT_TOOL)) for r, one in part]
            for (_, one), (text, _) in zip(part, self.answers(model, chats), strict=True):
                answers.append(ReviewAnswer(one.accept, _verdict(text)))
        return answers

    @torch.inference_mode()
    def answers(
        self, model: Gemma4ForConditionalGeneration, chats: Sequence[Chat]
    ) -> list[tuple[str, int]]:
        """What the model, in evaluation mode, writes greedily, and how many tokens that is."""
        prepared = self.builder.preprocessor
        tokenizer = prepared.tokenizer
        images = prepared.image_processor(
            images=[image for shown, _ in chats for image in shown], return_tensors="pt"
        )
        soft = iter(images["num_soft_tokens_per_image"])
        inputs = tokenizer(
            [prepared.expanded(chat, [int(next(soft)) for _ in shown]) for shown, chat in chats],
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
        return [(tokenizer.decode(row, skip_special_tokens=False), len(row)) for row in answers]

    def _asked(
        self, seeds: Iterable[int], each: int, size: tuple[int, int] | None
    ) -> Iterator[tuple[Scene, Instruction, bool]]:
        writer = self.builder.writer
        for seed in seeds:
            rng = np.random.default_rng(seed)
            scene = self.builder.source.scene(rng, size=size)
            asked = [writer.generate(scene, rng, family) for family in list(Family) * each]
            drawn = [instruction for instruction in asked if instruction is not None]
            yield from ((scene, instruction, False) for instruction in drawn)
            # After all else, so that it changes none of the others.
            plain = [instruction for instruction in drawn if instruction.plan.include]
            if plain:
                yield scene, with_second_look(plain[int(rng.integers(len(plain)))], rng), True

    def _scored(
        self, scene: Scene, instruction: Instruction, second_look: bool, text: str, tokens: int
    ) -> PlanAnswer:
        plan = _plan(text)
        found = execute(plan, scene, self.builder.writer.phrases) if plan else frozenset()
        wanted_concepts, found_concepts = (
            frozenset(scene.instances[index].concept.index for index in indices)
            for indices in (instruction.truth, found)
        )
        return PlanAnswer(
            instruction, second_look, text, tokens, plan, found, wanted_concepts, found_concepts
        )


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
