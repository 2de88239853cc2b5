"""Optimisers: every weight that is trained has one, with its tower's schedule."""

import pytest
import torch

from services.stickers.planner.adapters import adapt
from services.stickers.planner.losses import Student
from services.stickers.planner.optimisers import optimisers, schedule, set_rates
from services.stickers.planner.recipe import ADAPTING, FINE_TUNING, Recipe
from tests.stickers.tiny_planner import student


def _owners(made: tuple[torch.optim.Optimizer, ...], trained: Student) -> dict[str, str]:
    """The optimiser's name, and the tower, of each weight."""
    names = {id(p): name for name, p in trained.named_parameters()}
    owners: dict[str, str] = {}
    for optimizer in made:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = names[id(parameter)]
                assert name not in owners, f"{name} has two"
                owners[name] = f"{type(optimizer).__name__} {group['tower']}"
    return owners


def test_every_weight_has_the_optimiser_that_suits_it() -> None:
    trained = student()
    owners = _owners(optimisers(trained, Recipe()), trained)
    assert set(owners) == {name for name, _ in trained.named_parameters()}
    assert owners["head.weight"] == "AdamW vision"
    text, vision = "model.model.language_model", "model.model.vision_tower"
    assert owners[f"{text}.embed_tokens.weight"] == "AdamW text"
    assert owners[f"{text}.layers.0.mlp.up_proj.weight"] == "Muon text"
    assert owners[f"{text}.layers.0.input_layernorm.weight"] == "AdamW text"
    assert owners[f"{vision}.encoder.layers.0.self_attn.q_proj.linear.weight"] == "Muon vision"
    assert owners[f"{vision}.patch_embedder.input_proj.weight"] == "AdamW vision"


def test_fine_tuning_leaves_all_to_adam() -> None:
    trained = Student(student().model)
    owners = _owners(optimisers(trained, FINE_TUNING), trained)
    assert set(owners) == {name for name, _ in trained.named_parameters()}
    assert set(owners.values()) == {"AdamW vision", "AdamW text"}


def test_frozen_weights_have_none() -> None:
    trained = Student(student().model)
    adapt(trained.model, rank=2)
    owners = _owners(optimisers(trained, ADAPTING), trained)
    assert owners
    assert all("lora_" in name for name in owners)
    assert set(owners.values()) == {"AdamW text"}


@pytest.mark.parametrize(
    ("progress", "start", "share"),
    [
        (0.0, 0.0, 0.01),
        (0.05, 0.0, 0.51),
        (0.55, 0.0, 0.5 * (1 + torch.cos(torch.tensor(0.55 * torch.pi)).item())),
        (1.0, 0.0, 0.0),
        (0.2, 0.5, 0.01),  # not begun: next to nothing, and no loss reaches it either
        (0.75, 0.5, 0.5),
        (1.0, 0.5, 0.0),
    ],
)
def test_rates_rise_and_fall(progress: float, start: float, share: float) -> None:
    assert schedule(progress, start, warm_up=0.1) == pytest.approx(share, abs=4e-3)


def test_the_language_model_starts_with_its_phase() -> None:
    made = optimisers(student(), Recipe(vision_share=0.5))
    for optimizer in made:
        set_rates(optimizer, 0.5, Recipe(vision_share=0.5))
        rates = {group["tower"]: group["lr"] / group["peak"] for group in optimizer.param_groups}
        assert rates["vision"] == pytest.approx(0.5, abs=0.01)
        assert rates["text"] == pytest.approx(0.01, abs=0.001)
