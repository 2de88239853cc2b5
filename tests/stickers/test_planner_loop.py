"""The training loop: it learns, it resumes exactly, and its schedule follows the clock."""

import json
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch

from services.stickers.planner.config import Shape, new_model
from services.stickers.planner.data import Teacher
from services.stickers.planner.loop import Recipe, Student, Trainer
from services.stickers.planner.train import export, new_teacher
from services.stickers.splits import TRAINING

SHAPE = Shape(vision_width=32, vision_layers=1, text_width=32, text_layers=2, head_dim=16)
# The clock ticks half a minute a step: four steps, the first of them for vision alone.
RECIPE = Recipe(minutes=2.0, scenes=2, questions=2, vision_share=0.25, review_every=3)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return new_teacher()


def _clock() -> Callable[[], float]:
    ticks = count(0.0, 30.0)
    return lambda: next(ticks)


def _trainer(teacher: Teacher, directory: Path) -> Trainer:
    student = Student(new_model(SHAPE, teacher.tokenizer, seed=1), 48)
    return Trainer(student, teacher, RECIPE, directory, _clock())


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    with trainer.averaged() as student:
        return {key: value.clone() for key, value in student.state_dict().items()}


def test_a_resumed_run_ends_where_an_unbroken_one_does(teacher: Teacher, tmp_path: Path) -> None:
    whole = _trainer(teacher, tmp_path / "whole")
    figures = list(whole.steps())
    assert [("answer" in step) for step in figures] == [False, True, True, True]

    broken = _trainer(teacher, tmp_path / "broken")
    steps = broken.steps()
    next(steps), next(steps)
    broken.save()
    next(steps)  # lost with the process
    resumed = _trainer(teacher, tmp_path / "broken")
    assert resumed.step == 2
    assert list(resumed.steps()) == figures[2:]
    expected = _weights(whole)
    for key, value in _weights(resumed).items():
        assert torch.equal(value, expected[key]), key


def test_training_data_comes_from_the_training_seeds() -> None:
    assert Recipe().seed in TRAINING


def test_the_log_has_a_line_a_call(teacher: Teacher, tmp_path: Path) -> None:
    trainer = _trainer(teacher, tmp_path)
    next(trainer.steps())
    trainer.log({"dense": 1.5})
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "minutes": 0.5,
        "dense": 1.5,
    }


def test_averaging_leaves_the_own_weights_alone(teacher: Teacher, tmp_path: Path) -> None:
    trainer = _trainer(teacher, tmp_path)
    list(trainer.steps())
    own = {key: value.clone() for key, value in trainer.student.state_dict().items()}
    averaged = _weights(trainer)
    assert any(not torch.equal(averaged[key], own[key]) for key in own)
    for key, value in trainer.student.state_dict().items():
        assert torch.equal(value, own[key])


def test_the_export_loads(teacher: Teacher, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText, Gemma4ForConditionalGeneration

    trainer = _trainer(teacher, tmp_path / "run")
    export(trainer, teacher, tmp_path / "out")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert isinstance(model, Gemma4ForConditionalGeneration)
    assert model.generation_config.eos_token_id == [
        teacher.tokenizer.convert_tokens_to_ids(token)
        for token in ("<eos>", "<turn|>", "<|tool_response>")
    ]
    assert model.dtype is torch.float32
