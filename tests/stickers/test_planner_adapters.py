"""LoRA: adapters lie where they should, start as nothing, and merge into what they were."""

import re

import pytest
import torch

from services.stickers.planner.adapters import adapt, merge
from services.stickers.planner.losses import Student
from services.stickers.planner.packing import Batch, Layout, collate
from services.stickers.splits import TRAINING
from tests.stickers.tiny_planner import SWITCHES, real_model, teacher


def _batch(model) -> Batch:  # type: ignore[no-untyped-def]
    lessons = [teacher(looks=False).planning((TRAINING[0], 3, index), 3) for index in range(2)]
    return collate(lessons, Layout.of(model.config))


def _loss(model, batch: Batch) -> torch.Tensor:  # type: ignore[no-untyped-def]
    return Student(model).losses(batch, answers=True)["answer"]


@pytest.mark.parametrize("size", list(SWITCHES))
def test_every_size_is_adapted_where_it_has_projections(size: str) -> None:
    model = real_model(size).eval()
    batch = _batch(model)
    before = _loss(model, batch)
    adapted = adapt(model, rank=2)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(re.search(r"language_model\.layers\.\d\..*lora_[AB]", name) for name in trained)
    places = {re.sub(r".*layers\.(\d)\.(.*)\.lora_.*", r"\1 \2", name) for name in trained}
    assert {"0 self_attn.q_proj", "3 self_attn.o_proj", "3 mlp.down_proj"} <= places
    # Layers that share keys and values have no projections of their own for them.
    assert ("3 self_attn.k_proj" in places) == (size != "E2B")
    assert ("1 self_attn.v_proj" in places) == (size in ("tiny", "E2B"))
    torch.testing.assert_close(_loss(model, batch), before)

    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0.0, 0.3)
    changed = _loss(model, batch)
    assert (changed - before).abs() > 1e-3
    merged = merge(adapted)
    assert not any("lora" in name for name in merged.state_dict())
    torch.testing.assert_close(_loss(merged, batch), changed, atol=2e-5, rtol=1e-4)


def test_the_vision_tower_is_adapted_on_demand() -> None:
    model = real_model("E2B")
    adapt(model, rank=2, vision=True)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    vision = {name for name in trained if "vision_tower" in name}
    assert {f"{part}_proj" for part in ("q", "k", "v", "o", "gate", "up", "down")} == {
        match.group() for name in vision if (match := re.search("[a-z]+_proj", name))
    }
    assert trained - vision
    _loss(model, _batch(model)).backward()
    assert all(
        p.grad is not None and (p.grad.any() or "lora_A" in name)
        for name, p in model.named_parameters()
        if name in trained
    )


@pytest.mark.parametrize("size", list(SWITCHES))
def test_layers_computed_twice_give_the_same_gradients(size: str) -> None:
    gradients = []
    for twice in (False, True):
        model = real_model(size).train()
        torch.manual_seed(2)
        adapt(model, rank=2)
        if twice:
            model.activation_checkpointing_enable()
            assert model.model.language_model.is_activation_checkpointing
        _loss(model, _batch(model)).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
