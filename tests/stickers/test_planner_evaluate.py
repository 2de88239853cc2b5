"""The examiner: answers are executed and compared, whatever their wording."""

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from services.planner.calls import Call, call_from_plan, format_call
from services.stickers.instructions import Instruction
from services.stickers.planner.config import Shape, new_model
from services.stickers.planner.data import Teacher
from services.stickers.planner.evaluate import Answered, Examiner, shares
from services.stickers.planner.oracle import Oracle
from services.stickers.planner.train import new_teacher
from services.stickers.splits import VALIDATION

SEEDS = VALIDATION[:4]


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return new_teacher()


class _Scripted(Examiner):
    """An examiner whose model knows the canonical plans, or never answers with a call."""

    def answers(self, model, asked):  # type: ignore[no-untyped-def]
        return [model(text) for _, text in asked]


def _plans(teacher: Teacher) -> dict[str, str]:
    asked: list[Answered] = _Scripted(teacher, Oracle(teacher.writer.phrases)).examine(
        lambda text: "",  # type: ignore[arg-type]
        SEEDS,
        size=(96, 96),
    )
    instructions: list[Instruction] = [one.instruction for one in asked]
    return {one.text: format_call(call_from_plan(one.plan)) for one in instructions}


def test_canonical_plans_are_all_right_and_silence_is_all_wrong(teacher: Teacher) -> None:
    examiner, plans = _Scripted(teacher, Oracle(teacher.writer.phrases)), _plans(teacher)
    right = examiner.examine(plans.__getitem__, SEEDS, size=(96, 96))  # type: ignore[arg-type]
    assert len(right) > 15
    assert set(shares(right).values()) == {1.0}
    silent = examiner.examine(lambda text: "I see a dog.", SEEDS, size=(96, 96))  # type: ignore[arg-type]
    assert set(shares(silent).values()) == {0.0}


def test_another_plan_with_the_same_answer_is_right(teacher: Teacher) -> None:
    examiner = _Scripted(teacher, Oracle(teacher.writer.phrases))
    elephants = format_call(Call("plan", {"include": ["unicorn"]}))
    answered = examiner.examine(lambda text: elephants, SEEDS, size=(96, 96))  # type: ignore[arg-type]
    assert {one.exact for one in answered if not one.instruction.truth} == {True}
    assert {one.exact for one in answered if one.instruction.truth} == {False}


def test_batching_changes_no_answer(teacher: Teacher) -> None:
    shape = Shape(vision_width=32, vision_layers=1, text_width=32, text_layers=2, head_dim=16)
    model = new_model(shape, teacher.tokenizer, seed=4).eval()
    model.generation_config = GenerationConfig(pad_token_id=0)
    examiner = Examiner(teacher, Oracle(teacher.writer.phrases))
    rng = np.random.default_rng(0)
    asked = [
        (rng.integers(0, 256, (90, 130, 3)).astype(np.uint8), "the dogs"),
        (rng.integers(0, 256, (130, 80, 3)).astype(np.uint8), "the second penguin from the left"),
    ]
    with torch.inference_mode():
        assert examiner.answers(model, asked) == [examiner.answers(model, [a])[0] for a in asked]
