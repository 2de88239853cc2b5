from dataclasses import replace

import pytest
import torch
from torch import nn

from services.stickers.segmenter.dense import DenseHeads, FineHeads
from services.stickers.segmenter.optimizers import optimizers
from services.stickers.segmenter.plan import Plan, fine_tuning
from tests.stickers.segmenter_parts import tiny_model


@pytest.fixture(scope="module")
def module() -> nn.ModuleList:
    return nn.ModuleList([tiny_model(), DenseHeads(64, 48)])


def held(module: nn.Module, plan: Plan) -> dict[str, dict[str, object]]:
    """The group of every parameter, by name; fails on one that is held twice."""
    names = {id(p): name for name, p in module.named_parameters()}
    groups: dict[str, dict[str, object]] = {}
    for optimizer in optimizers(module, None, plan):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert names[id(parameter)] not in groups
                groups[names[id(parameter)]] = group | {"by": type(optimizer)}
    return groups


@pytest.mark.parametrize("plan", [Plan(), fine_tuning()])
def test_every_parameter_is_held_once(module: nn.ModuleList, plan: Plan):
    assert held(module, plan).keys() == dict(module.named_parameters()).keys()


def test_muon_trains_the_matrices_of_linear_layers_faster(module: nn.ModuleList):
    groups = held(module, Plan(learning_rate=1e-3, matrix_rate=2.5))
    matrix = groups["0.detr_encoder.layers.0.mlp.fc1.weight"]
    assert matrix["by"] is torch.optim.Muon
    assert matrix["peak"] == 2.5e-3
    for name in ("0.detr_encoder.layers.0.mlp.fc1.bias", "0.detr_decoder.query_embed.weight"):
        assert groups[name]["by"] is torch.optim.AdamW
        assert groups[name]["peak"] == 1e-3


def test_vectors_are_not_decayed(module: nn.ModuleList):
    for plan in (Plan(), fine_tuning()):
        for name, group in held(module, plan).items():
            matrix = dict(module.named_parameters())[name].ndim > 1
            assert group["weight_decay"] == (plan.weight_decay if matrix else 0.0)


def test_fine_tuning_has_a_rate_for_each_encoder(module: nn.ModuleList):
    groups = held(module, replace(fine_tuning(), learning_rate=1.0))
    peaks = {
        part: {group["peak"] for name, group in groups.items() if name.startswith(f"0.{part}")}
        for part in ("vision_encoder", "text_encoder", "detr_", "text_projection", "mask_decoder")
    }
    assert peaks["vision_encoder"] == {0.3125}
    assert peaks["text_encoder"] == {0.0625}
    assert peaks["detr_"] == peaks["text_projection"] == peaks["mask_decoder"] == {1.0}


@pytest.mark.parametrize("plan", [Plan(), fine_tuning()])
def test_frozen_weights_are_left_out(plan: Plan):
    model = tiny_model()
    model.vision_encoder.requires_grad_(False)
    groups = held(model, plan)
    assert groups
    assert not [name for name in groups if name.startswith("vision_encoder")]


@pytest.mark.parametrize("plan", [Plan(), fine_tuning()])
def test_fine_heads_learn_faster_by_an_optimiser_of_their_own(module: nn.ModuleList, plan: Plan):
    fine = FineHeads(64, 48)
    *others, own = optimizers(module, fine, plan)
    assert len(others) == len(optimizers(module, None, plan))
    assert [id(p) for p in own.param_groups[0]["params"]] == [id(p) for p in fine.parameters()]
    assert own.param_groups[0]["peak"] == pytest.approx(3 * plan.learning_rate)
