from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers import Sam3Model

from services.stickers.segmenter.data import name_tokens
from services.stickers.segmenter.optimizers import optimizers
from services.stickers.segmenter.plan import Plan, fine_tuning
from services.stickers.segmenter.student import Student
from tests.stickers.segmenter_parts import BOOK, TOKENIZER, tiny_model


@pytest.fixture(scope="module")
def student() -> Student:
    return student_of(tiny_model())


def student_of(model: Sam3Model, heads: bool = True) -> Student:
    names = name_tokens(TOKENIZER, BOOK.vocabulary, 32)
    return Student(model, names, heads=heads, half=False)


def parameters(student: Student) -> dict[str, nn.Parameter]:
    parts = {"model": student.model, **student.throw_away}
    return dict(nn.ModuleDict(parts).named_parameters())


def held(student: Student, plan: Plan) -> dict[str, dict[str, object]]:
    """The group of every parameter, by name; fails on one that is held twice."""
    names = {id(p): name for name, p in parameters(student).items()}
    groups: dict[str, dict[str, object]] = {}
    for optimizer in optimizers(student, plan):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert names[id(parameter)] not in groups
                groups[names[id(parameter)]] = group | {"by": type(optimizer)}
    return groups


@pytest.mark.parametrize("plan", [Plan(), fine_tuning()])
def test_every_parameter_is_held_once(student: Student, plan: Plan):
    assert held(student, plan).keys() == parameters(student).keys()


def test_muon_trains_the_matrices_of_linear_layers_faster(student: Student):
    groups = held(student, Plan(learning_rate=1e-3, matrix_rate=2.5))
    matrix = groups["model.detr_encoder.layers.0.mlp.fc1.weight"]
    assert matrix["by"] is torch.optim.Muon
    assert matrix["peak"] == 2.5e-3
    for name in ("detr_encoder.layers.0.mlp.fc1.bias", "detr_decoder.query_embed.weight"):
        assert groups[f"model.{name}"]["by"] is torch.optim.AdamW
        assert groups[f"model.{name}"]["peak"] == 1e-3


def test_vectors_are_not_decayed(student: Student):
    for plan in (Plan(), fine_tuning()):
        for name, group in held(student, plan).items():
            if not name.startswith("fine."):
                matrix = parameters(student)[name].ndim > 1
                assert group["weight_decay"] == (plan.weight_decay if matrix else 0.0)


def test_fine_tuning_has_a_rate_for_each_encoder(student: Student):
    groups = held(student, replace(fine_tuning(), learning_rate=1.0))
    peaks = {
        part: {group["peak"] for name, group in groups.items() if name.startswith(part)}
        for part in (
            "model.vision_encoder",
            "model.text_encoder",
            "model.detr_",
            "model.text_projection",
            "heads",
        )
    }
    assert peaks.pop("model.vision_encoder") == {0.3125}
    assert peaks.pop("model.text_encoder") == {0.0625}
    assert list(peaks.values()) == [{1.0}] * 3


@pytest.mark.parametrize("plan", [Plan(), fine_tuning()])
def test_fine_heads_learn_faster(student: Student, plan: Plan):
    groups = held(student, plan)
    peaks = [group["peak"] for name, group in groups.items() if name.startswith("fine.")]
    assert peaks == pytest.approx([3 * plan.learning_rate] * 4)


@pytest.mark.parametrize("plan", [Plan(), fine_tuning()])
def test_frozen_weights_are_left_out(plan: Plan):
    model = tiny_model()
    model.vision_encoder.requires_grad_(False)
    groups = held(student_of(model, heads=False), plan)
    assert groups
    assert not [name for name in groups if "vision_encoder" in name]
