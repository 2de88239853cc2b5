"""The segmenter's task: losses by stage, parameter groups, batches, and steps in the loop."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from services.segmenter.operators import install_roi_align
from tests.training.segmenter.parts import batch_builder, tiny_model, tiny_task
from training.kit.task import ParameterGroup
from training.kit.trainer import Trainer
from training.segmenter.data import BatchBuilder, SegmenterBatch
from training.segmenter.recipe import FINE_TUNING, SCRATCH, SegmenterRecipe
from training.segmenter.task import SegmenterTask
from training.world.splits import SHOWN

DENSE = {"dense_class", "dense_box", "dense_attention"}
FINE = {"dense_fine", "dense_center", "center"}
PAIRED = {"class", "box", "giou", "mask", "dice", "presence", "semantic"}
# Dense, phrases, exemplars, phrases.
SHORT = replace(
    SCRATCH, steps=4, batch=1, dense_batch=1, exemplar_from=0.5, exemplar_every=2, dense_share=0.25
)
WITHOUT_HEADS = replace(SCRATCH, dense_share=0.0, dense_weight=0.0)

install_roi_align()


@pytest.fixture(scope="module")
def task() -> SegmenterTask:
    return tiny_task()


@pytest.mark.parametrize(
    ("kind", "recipe", "parts"),
    [
        ("dense", SCRATCH, DENSE),
        ("phrases", SCRATCH, DENSE | FINE | PAIRED),
        ("phrases", WITHOUT_HEADS, PAIRED),
    ],
)
def test_what_is_asked_decides_the_parts_of_the_loss(
    kind: str, recipe: SegmenterRecipe, parts: set[str]
):
    batch = getattr(batch_builder(), kind)(SHOWN[:2])
    losses = tiny_task(recipe).losses(batch, step=0)
    assert losses.keys() == parts
    assert all(value.isfinite() and value >= 0 for value in losses.values())


def test_names_and_plurals_take_turns(task: SegmenterTask):
    batch = batch_builder().dense(SHOWN[:2])
    losses = [task.losses(batch, step)["dense_attention"].item() for step in range(3)]
    assert losses[0] == losses[2] != losses[1]


def test_in_bfloat16_the_losses_are_about_the_same_and_exact_numbers(task: SegmenterTask):
    batch = batch_builder().phrases(SHOWN[:2])
    with torch.no_grad():
        exact = task.losses(batch, 0)
        with torch.autocast("cpu", torch.bfloat16):
            half = task.losses(batch, 0)
    for name, value in exact.items():
        assert half[name].dtype == torch.float32
        assert half[name].item() == pytest.approx(value.item(), rel=0.2, abs=0.05), name
    assert any(half[name] != value for name, value in exact.items())


def test_the_finest_convolutions_are_halved_in_training_only(task: SegmenterTask):
    convolutions = task.model.vision_encoder.neck.fpn_layers[0]
    grid = torch.randn(1, 192, 20, 20)
    with torch.no_grad():
        trained = task.train().model.vision_encoder.neck.fpn_layers[0](grid)
        evaluated = task.eval().model.vision_encoder.neck.fpn_layers[0](grid)
        exact = type(convolutions).forward(convolutions, grid)
    task.train()
    assert trained.dtype is torch.float32
    assert not torch.equal(trained, exact)
    assert torch.equal(evaluated, exact)


def test_pairs_of_nothing_still_teach_presence():
    made = (batch_builder(phrases_per_image=1).phrases([seed]) for seed in SHOWN)
    empty = next(batch for batch in made if batch.pairs and not batch.pairs.counts.any())
    losses = tiny_task(WITHOUT_HEADS).losses(empty, 0)
    assert losses["presence"] > 0.1
    assert losses["mask"] == losses["box"] == 0.0


def test_dense_losses_weigh_less_after_their_stage(task: SegmenterTask):
    losses = {"dense_class": torch.tensor(2.0), "class": torch.tensor(1.0)}
    weights = task.recipe.weights
    assert task.total(losses, dense=True) == 2.0 * weights.dense_class + weights.class_
    later = 0.6 * 2.0 * weights.dense_class + weights.class_
    assert float(task.total(losses, dense=False)) == pytest.approx(later)


def held(task: SegmenterTask) -> dict[str, ParameterGroup]:
    """The group of every parameter, by name; fails on one that is held twice."""
    names = {id(p): name for name, p in task.named_parameters()}
    groups: dict[str, ParameterGroup] = {}
    for group in task.groups():
        for parameter in group.parameters:
            assert names[id(parameter)] not in groups
            groups[names[id(parameter)]] = group
    return groups


@pytest.mark.parametrize("recipe", [SCRATCH, replace(FINE_TUNING, dense_weight=0.3)])
def test_every_parameter_is_held_once_and_vectors_are_not_decayed(recipe: SegmenterRecipe):
    task = tiny_task(recipe)
    groups, parameters = held(task), dict(task.named_parameters())
    assert groups.keys() == parameters.keys()
    for name, group in groups.items():
        if name.startswith("fine."):
            assert group.peak == pytest.approx(3 * recipe.learning_rate)
        else:
            matrix = parameters[name].ndim > 1
            assert group.weight_decay == (recipe.weight_decay if matrix else 0.0)


def test_muon_trains_the_matrices_of_linear_layers_faster(task: SegmenterTask):
    groups = held(task)
    matrix = groups["model.detr_encoder.layers.0.mlp.fc1.weight"]
    assert (matrix.muon, matrix.peak) == (True, 2.5e-3)
    assert groups["heads.classes.weight"].muon
    for name in ("detr_encoder.layers.0.mlp.fc1.bias", "detr_decoder.query_embed.weight"):
        assert not groups[f"model.{name}"].muon
        assert groups[f"model.{name}"].peak == 1e-3


def test_fine_tuning_has_a_rate_for_each_encoder():
    groups = held(tiny_task(replace(FINE_TUNING, learning_rate=1.0)))
    assert not any(group.muon for group in groups.values())
    peaks = {
        part: {group.peak for name, group in groups.items() if name.startswith(f"model.{part}")}
        for part in ("vision_encoder", "text_encoder", "detr_", "text_projection")
    }
    assert list(peaks.values()) == [{0.3125}, {0.0625}, {1.0}, {1.0}]


def test_frozen_weights_are_left_out():
    model = tiny_model()
    model.vision_encoder.requires_grad_(False)
    groups = held(tiny_task(FINE_TUNING, model))
    assert groups
    assert not [name for name in groups if "vision_encoder" in name]


def test_stages_follow_each_other_and_seeds_never_repeat():
    recipe = replace(SHORT, batch=4, dense_batch=16, accumulate=2)
    task = tiny_task(recipe)
    used: list[tuple[str, Sequence[int]]] = []

    class Recorder:
        def __getattr__(self, kind: str) -> Any:
            return lambda seeds: used.append((kind, seeds))

    task.builder = Recorder()  # type: ignore[assignment]
    for step in range(4):
        list(task.batches(step, step / 4))
    kinds = ["dense", "phrases", "exemplars", "phrases"]
    assert [kind for kind, _ in used] == [kind for kind in kinds for _ in range(2)]
    seeds = [seed for _, part in used for seed in part]
    assert len(seeds) == len(set(seeds)) == 2 * (16 + 3 * 4)


def with_dropout(task: SegmenterTask) -> SegmenterTask:
    """As the full-size model has in its detector."""
    for part in task.model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.1
    return task


@pytest.mark.slow
def test_stopped_and_resumed_after_every_step_it_ends_with_the_same_weights(tmp_path: Path):
    whole = Trainer(with_dropout(tiny_task(SHORT)), tmp_path / "whole")
    for _ in range(4):
        whole.train_step()
    for step in range(4):
        broken = Trainer(with_dropout(tiny_task(SHORT)), tmp_path / "broken")
        assert broken.resume() == (step > 0)
        broken.train_step()
        broken.save()
    for trainer in (whole, broken):
        assert trainer.progress == 1.0
    for one, other in zip(whole.task.parameters(), broken.task.parameters(), strict=True):
        assert torch.equal(one, other)
    with whole.averaged(), broken.averaged():
        for one, other in zip(whole.task.parameters(), broken.task.parameters(), strict=True):
            assert torch.equal(one, other)


class OneScene(SegmenterTask):
    """Shows one scene over and over."""

    def batches(self, step, progress):
        yield self.builder.phrases([5])


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.slow
def test_steps_on_one_scene_lower_the_loss(half: bool, tmp_path: Path):
    recipe = replace(SCRATCH, steps=100, dense_share=0.0, warm_up=0.0)
    task = tiny_task(recipe)
    task.__class__ = OneScene
    trainer = Trainer(task, tmp_path, half=half)
    losses = [trainer.train_step() for _ in range(6)]
    totals = [sum(value for name, value in one.items() if name != "norm") for one in losses]
    assert min(totals[-3:]) < 0.8 * totals[0]


@pytest.mark.parametrize("kind", ["dense", "phrases"])
def test_a_step_makes_nothing_on_a_device_of_its_own_choice(kind: str, tmp_path: Path):
    """What keeps it from running on a GPU: tensors made where no device is named.

    There need not be a GPU to see that: such tensors are made on "meta" here, which computes with
    no other device.
    """
    batch: SegmenterBatch = getattr(batch_builder(), kind)([5])

    class Made(BatchBuilder):
        def phrases(self, seeds):
            return batch

        dense = exemplars = phrases

    task = tiny_task(replace(SHORT, dense_share=0.5))
    task.builder = batch_builder(Made)
    trainer = Trainer(task, tmp_path)
    trainer.step = 1 if kind == "dense" else 3
    with torch.device("meta"):
        parts = trainer.train_step()
        assert torch.zeros(1).is_meta
    assert all(value > 0 for value in parts.values())
