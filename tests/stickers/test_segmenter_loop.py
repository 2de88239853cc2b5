from collections.abc import Mapping
from dataclasses import astuple, replace
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Sam3Model

from services.segmenter.operators import install_roi_align
from services.stickers.runlog import read
from services.stickers.segmenter.data import Batch, BatchMaker
from services.stickers.segmenter.loop import Trainer
from services.stickers.segmenter.losses import LossWeights
from services.stickers.segmenter.plan import Plan, fine_tuning
from tests.stickers.segmenter_parts import batch_maker, tiny_model, tiny_trainer

# Two dense steps, then pairs, an exemplar step among them.
SHORT = Plan(steps=8, dense_images=1, images=1, dense_share=0.25, exemplar_from=0.5, warm_up=2)
TUNING = replace(fine_tuning(), steps=5, accumulate=2, warm_up=1, exemplar_every=2)

install_roi_align()


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Everything that training changes."""
    parts: dict[str, Sam3Model] = {"model": trainer.model, "average": trainer.average}
    return {
        f"{part}.{name}": weight.clone()
        for part, model in parts.items()
        for name, weight in model.state_dict().items()
    }


def assert_same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, weight in one.items():
        assert torch.equal(weight, other[name]), name


def with_dropout(trainer: Trainer) -> Trainer:
    """As the full-size model has in its detector."""
    for part in trainer.model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.1
    return trainer


@pytest.mark.parametrize("plan", [SHORT, TUNING], ids=["from scratch", "fine-tuning"])
def test_stopped_and_resumed_after_every_step_it_ends_with_the_same_weights(
    plan: Plan, tmp_path: Path
):
    unbroken = with_dropout(tiny_trainer(tmp_path / "a", plan))
    unbroken.model.train()
    while unbroken.progress < 1:
        unbroken.train_step()

    for step in range(plan.steps):
        broken = with_dropout(tiny_trainer(tmp_path / "b", plan))
        broken.model.train()
        assert broken.resume() == (step > 0)
        assert broken.step == step
        broken.train_step()
        broken.save()

    assert broken.progress == 1
    assert_same(weights(broken), weights(unbroken))


def test_a_run_started_again_with_another_rate_has_that_rate(tmp_path: Path):
    first = tiny_trainer(tmp_path, TUNING)
    first.train_step()
    first.save()

    still = tiny_trainer(tmp_path, replace(TUNING, learning_rate=0.0))
    assert still.resume()
    still.train_step()
    assert_same(still.model.state_dict(), first.model.state_dict())


class OneBatch(BatchMaker):
    """Shows one scene over and over."""

    def phrases(self, seeds):
        return super().phrases([5])


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
def test_steps_on_one_scene_lower_the_loss(half: bool, tmp_path: Path):
    plan = Plan(steps=100, images=1, dense_share=0.0, exemplar_from=1.0, warm_up=1)
    trainer = tiny_trainer(tmp_path, plan, batch_maker(OneBatch), half=half)
    losses = [sum(trainer.train_step().values()) for _ in range(12)]
    assert min(losses[-3:]) < 0.8 * losses[0]


def test_a_step_of_three_batches_takes_their_mean(tmp_path: Path):
    # So little weight that no gradient is clipped, which would hide its size.
    little = LossWeights(*(1e-4 * factor for factor in astuple(LossWeights())))
    once = replace(TUNING, accumulate=1, exemplar_from=1.0, weights=little)
    trainers = [
        tiny_trainer(tmp_path / str(plan.accumulate), plan, batch_maker(OneBatch))
        for plan in (once, replace(once, accumulate=3))
    ]
    one, three = (trainer.train_step() for trainer in trainers)
    for name, value in one.items():
        assert three[name] == pytest.approx(value, rel=1e-5)
    first, second = (
        torch.cat([p.grad.flatten() for p in t.model.parameters() if p.grad is not None])
        for t in trainers
    )
    assert first.norm() < 1
    assert (first - second).norm() < 0.01 * first.norm()


def test_frozen_parts_stay_and_are_not_copied(tmp_path: Path):
    model = tiny_model()
    model.vision_encoder.requires_grad_(False)
    frozen = tiny_trainer(tmp_path, TUNING, model=model)
    before = weights(frozen)
    frozen.train_step()
    after = weights(frozen)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not [name for name in changed if "vision_encoder" in name]
    for part in ("vision_encoder", "text_encoder"):
        own = next(getattr(frozen.model, part).parameters())
        averaged = next(getattr(frozen.average, part).parameters())
        assert (own.data_ptr() == averaged.data_ptr()) == (part == "vision_encoder")


def test_without_dense_heads_there_are_no_dense_losses(tmp_path: Path):
    parts = tiny_trainer(tmp_path, TUNING).train_step()
    assert parts.keys() == {"class", "box", "giou", "mask", "dice", "presence", "semantic"}


def test_the_average_follows_slowly(tmp_path: Path):
    trainer = tiny_trainer(tmp_path, replace(SHORT, average=0.9, warm_up=1))
    name = "detr_decoder.query_embed.weight"
    start = trainer.model.state_dict()[name].clone()
    for _ in range(3):
        trainer.train_step()
    moved = trainer.model.state_dict()[name] - start
    followed = trainer.average.state_dict()[name] - start
    assert 0 < followed.norm() < moved.norm()
    assert not trainer.average.training


def test_nothing_to_resume(tmp_path: Path):
    assert not tiny_trainer(tmp_path, SHORT).resume()


def test_a_run_logs_validates_and_leaves_a_checkpoint_and_curves(tmp_path: Path):
    plan = Plan(steps=2, dense_images=1, images=1, dense_share=0.5, warm_up=1)
    seen = []
    tiny_trainer(tmp_path, plan).run(lambda model: seen.append(model.training) or {"f1": 0.25})
    assert seen == [False], "validation uses the averaged model, in evaluation mode"
    (entry,) = read(tmp_path).validations
    assert (entry.step, entry.values) == (2, {"f1": 0.25})
    for name in ("checkpoint.pt", "curves.png", "figures.md"):
        assert (tmp_path / name).exists(), name


def test_a_run_that_ends_on_a_validation_does_not_validate_twice(tmp_path: Path):
    plan = replace(TUNING, steps=2, accumulate=1, validate_every=2)
    steps: list[int] = []
    trainer = tiny_trainer(tmp_path, plan)
    trainer.run(lambda _: steps.append(trainer.step) or {})
    assert steps == [2]


def test_a_stopped_run_saves_does_not_validate_and_goes_on(tmp_path: Path):
    seen: list[int] = []
    first = tiny_trainer(tmp_path, SHORT)
    first.run(lambda _: seen.append(0) or {}, stopped=lambda: first.step == 3)
    assert not seen
    second = tiny_trainer(tmp_path, SHORT)
    assert second.resume()
    assert second.step == 3
    assert_same(weights(first), weights(second))


@pytest.mark.parametrize("step", [0, 3, 7])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_seeds_never_repeat_between_steps(step: int, accumulate: int, tmp_path: Path):
    used: list[int] = []

    class Recorder(BatchMaker):
        def phrases(self, seeds):
            used.extend(seeds)
            return super().phrases(list(seeds)[:1])

    plan = Plan(
        steps=100,
        images=4,
        accumulate=accumulate,
        dense_images=16,
        dense_share=0.0,
        exemplar_from=1.0,
    )
    trainer = tiny_trainer(tmp_path, plan, batch_maker(Recorder))
    trainer.step = step
    trainer.train_step()
    trainer.train_step()
    assert len(used) == len(set(used)) == 8 * accumulate


@pytest.mark.parametrize("kind", ["dense", "phrases"])
def test_a_step_makes_nothing_on_a_device_of_its_own_choice(kind: str, tmp_path: Path):
    """What keeps it from running on a GPU: tensors made where no device is named.

    There need not be a GPU to see that: such tensors are made on "meta" here, which computes with
    no other device.
    """
    batch = getattr(batch_maker(), kind)([5])

    class Made(BatchMaker):
        def phrases(self, seeds):
            return batch

        dense = exemplars = phrases

    plan = replace(SHORT, dense_share=0.5, exemplar_from=0.5)
    trainer = tiny_trainer(tmp_path, plan, batch_maker(Made))
    trainer.step = 2 if kind == "dense" else 6
    with torch.device("meta"):
        parts = trainer.train_step()
        assert torch.zeros(1).is_meta
    assert all(value > 0 for value in parts.values())


def test_batches_are_sent_to_the_models_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sent: list[torch.device] = []
    monkeypatch.setattr(Batch, "to", lambda self, device: sent.append(device) or self)
    trainer = tiny_trainer(tmp_path, SHORT)
    trainer.train_step()
    assert sent == [trainer.model.device]
