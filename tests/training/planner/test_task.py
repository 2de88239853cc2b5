"""The planner's task: losses, their weights, parameter groups, examples by step, the loop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from services.planner.calls import call_from_plan, format_call
from tests.training.planner.test_example_file import GOOD, written
from tests.training.planner.tiny import (
    builder,
    planner_model,
    preprocessor,
    real_model,
    task_of,
    tiny_task,
)
from training.kit.trainer import Trainer, moved
from training.planner.example_file import ExampleFile
from training.planner.models import adapt
from training.planner.packing import Layout, PlannerBatch, collate
from training.planner.recipe import ADAPTING, FINE_TUNING, SCRATCH
from training.planner.task import PlannerTask
from training.world.splits import TRAINING

# Five steps, the first of them for vision alone.
SHORT = replace(
    SCRATCH, steps=5, batch=2, questions=2, dense_share=0.2, review_every=3, validation_scenes=0
)


@pytest.fixture(scope="module")
def batch() -> PlannerBatch:
    examples = [builder().planning((TRAINING[0], 2, index), 3) for index in range(2)]
    return collate(examples, tiny_task().layout)


@pytest.fixture(scope="module")
def dense_batch() -> PlannerBatch:
    examples = [builder().dense((TRAINING[0], 2, index), (96, 80)) for index in range(2)]
    return collate(examples, tiny_task().layout)


@pytest.fixture
def file(tmp_path: Path) -> ExampleFile:
    return ExampleFile.load(written(tmp_path, *GOOD), preprocessor())


def test_a_model_that_knows_everything_loses_nothing(batch: PlannerBatch) -> None:
    knowing = tiny_task()

    class Knowing(torch.nn.Module):
        """A last layer that gives the right token, whatever it is asked."""

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            wanted = batch.labels[batch.labels >= 0]
            pieces = len(builder().preprocessor.tokenizer)
            return 50.0 * torch.nn.functional.one_hot(wanted, pieces).float()

    knowing.model.lm_head = Knowing()
    losses = knowing.losses(batch)
    assert losses["answer"] < 1e-6
    assert losses["tokens_right"] == 1


def test_the_head_is_held_to_what_the_soft_tokens_show(dense_batch: PlannerBatch) -> None:
    seeing = tiny_task()

    class Eye(torch.nn.Module):
        """A head that reads the truth."""

        def forward(self, soft: torch.Tensor) -> torch.Tensor:
            full = (dense_batch.coverage / 0.25).clamp(1e-6, 1 - 1e-6)
            logits = torch.logit(full)
            soft_tokens = torch.tensor(dense_batch.soft)
            there = dense_batch.present.repeat_interleave(soft_tokens, dim=0) > 0
            # Thin things never fill a quarter of a soft token.
            return torch.where(there & (full > 1e-3), logits.clamp(min=0.1), logits)

    blind = seeing.losses(dense_batch)
    seeing.head = Eye()  # type: ignore[assignment]
    losses = seeing.losses(dense_batch)
    assert set(losses) == {"dense", "present", "seen", "scenes_seen"}
    assert losses["dense"] < 0.2 * blind["dense"]
    assert losses["seen"] == losses["scenes_seen"] == 1
    assert blind["scenes_seen"] < 1


def test_without_a_head_only_answers_count(batch: PlannerBatch) -> None:
    plain = tiny_task(replace(FINE_TUNING, answer_weight=3.0))
    assert not any(name.startswith("head.") for name in plain.state_dict())
    losses = plain.losses(batch)
    assert set(losses) == {"answer", "tokens_right"}
    assert plain.total(losses, dense=False) == 3.0 * losses["answer"]


def test_losses_weigh_what_the_recipe_says() -> None:
    losses = {
        name: torch.tensor(float(n)) for n, name in enumerate(("dense", "present", "answer"), 1)
    }
    task = tiny_task(replace(SCRATCH, present_weight=0.5, dense_weight=0.1, answer_weight=7.0))
    looking = {name: value for name, value in losses.items() if name != "answer"}
    assert task.total(looking, dense=True) == 2.0
    assert float(task.total(losses, dense=False)) == pytest.approx(0.1 * 2.0 + 7.0 * 3.0)


def test_scores_are_capped_as_the_checkpoint_says() -> None:
    model = real_model("31B")
    examples = [builder().planning((TRAINING[0], 2, index), 3) for index in range(2)]
    batch = collate(examples, Layout.of(model.config))
    capped = task_of(model).losses(batch)["answer"]
    with torch.no_grad():
        model.lm_head.weight.mul_(30.0)  # far beyond the cap of 3
    bounded = task_of(model).losses(batch)["answer"]
    model.config.text_config.final_logit_softcapping = None
    unbounded = task_of(model).losses(batch)["answer"]
    assert bounded < 6 + torch.log(torch.tensor(float(len(builder().preprocessor.tokenizer))))
    assert unbounded > 2 * bounded
    assert capped != bounded


def test_bfloat16_gives_nearly_the_same_loss(batch: PlannerBatch) -> None:
    seeing = tiny_task().eval()
    whole = seeing.losses(batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = seeing.losses(batch)
    for name in ("dense", "present", "answer"):
        assert half[name].dtype is torch.float32
        torch.testing.assert_close(half[name], whole[name], rtol=0.05, atol=0.02)
        assert half[name] != whole[name]


def test_a_batch_moves_whole(batch: PlannerBatch) -> None:
    for name, value in vars(moved(batch, torch.device("meta"))).items():
        tensors = value.values() if isinstance(value, dict) else [value]
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == "meta", name


def owners(task: PlannerTask) -> dict[str, tuple[bool, float, float]]:
    """Of each weight, whether Muon trains it, its decay, and when its rate begins to fall."""
    names = {id(p): name for name, p in task.named_parameters()}
    found: dict[str, tuple[bool, float, float]] = {}
    for group in task.groups():
        for parameter in group.parameters:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group.muon, group.weight_decay, group.start)
    return found


def test_every_weight_has_the_optimizer_that_suits_it() -> None:
    task = tiny_task()
    found = owners(task)
    assert set(found) == {name for name, _ in task.named_parameters()}
    assert found["head.weight"] == (False, 0.0, 0.0)
    text, vision = "model.model.language_model", "model.model.vision_tower"
    assert found[f"{text}.embed_tokens.weight"] == (False, 0.0, 0.3)
    assert found[f"{text}.layers.0.mlp.up_proj.weight"] == (True, 0.05, 0.3)
    assert found[f"{text}.layers.0.input_layernorm.weight"] == (False, 0.0, 0.3)
    projection = f"{vision}.encoder.layers.0.self_attn.q_proj.linear.weight"
    assert found[projection] == (True, 0.05, 0.0)
    assert found[f"{vision}.patch_embedder.input_proj.weight"] == (False, 0.0, 0.0)


def test_fine_tuning_leaves_all_to_adamw() -> None:
    task = tiny_task(FINE_TUNING)
    found = owners(task)
    assert set(found) == {name for name, _ in task.named_parameters()}
    assert set(found.values()) == {(False, 0.0, 0.0)}


def test_frozen_weights_are_left_out() -> None:
    task = tiny_task(ADAPTING)
    adapt(task.model, rank=2)
    assert owners(task)
    assert all("lora_" in name for name in owners(task))


def test_every_step_has_its_examples() -> None:
    recipe = replace(SCRATCH, batch=2, questions=3, review_every=4)
    task = tiny_task(recipe)
    assert all(not example.turns for example in task.examples(5, dense=True))
    planned = task.examples(5, dense=False)
    assert [len(example.images) for example in planned] == [1, 1]
    assert all(1 <= len(example.turns) <= 3 for example in planned)
    reviewed = task.examples(8, dense=False)
    assert [len(example.images) for example in reviewed] == [2, 2]
    turns = [example.turns for example in planned]
    assert [example.turns for example in task.examples(5, dense=False)] == turns
    assert [example.turns for example in task.examples(6, dense=False)] != turns
    other = tiny_task(replace(recipe, seed=7)).examples(5, dense=False)
    assert [example.turns for example in other] != turns


def test_batches_add_up_to_a_step_and_stages_follow_each_other() -> None:
    task = tiny_task(replace(SCRATCH, batch=2, accumulate=3))
    dense = list(task.batches(5, progress=0.29))
    assert [len(batch.soft) for batch in dense] == [2, 2, 2]
    assert all(not batch.ids.shape[1] for batch in dense)
    assert all(batch.ids.shape[1] for batch in task.batches(5, progress=0.3))


def test_the_files_examples_take_their_share(file: ExampleFile) -> None:
    recipe = replace(FINE_TUNING, batch=4, examples_share=0.5)
    task = PlannerTask(planner_model(), recipe, builder(labeled=False), file)
    answers = {
        preprocessor().answer(format_call(call_from_plan(one.plan)))
        for about in file.images
        for one in about
    }
    mixed = task.examples(1, dense=False)
    own = [example for example in mixed if {answer for _, answer in example.turns} <= answers]
    assert (len(mixed), len(own)) == (4, 2)
    alone = PlannerTask(planner_model(), recipe, None, file).examples(10, dense=False)
    assert len(alone) == 4
    assert all({answer for _, answer in example.turns} <= answers for example in alone)


def test_what_nothing_can_be_learned_from_is_refused(file: ExampleFile) -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        PlannerTask(planner_model(), FINE_TUNING, None)
    with pytest.raises(ValueError, match="no masks"):
        PlannerTask(planner_model(), SCRATCH, builder(), file)


def adapting() -> PlannerTask:
    """A task that trains LoRA adapters only."""
    numbers = {"steps": 5, "batch": 2, "questions": 2, "review_every": 3, "validation_scenes": 0}
    task = tiny_task(replace(ADAPTING, **numbers))
    torch.manual_seed(5)
    adapt(task.model, rank=2)
    return task


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: tiny_task(SHORT), adapting], ids=["all", "LoRA"])
def test_a_run_stopped_after_every_step_ends_where_an_uninterrupted_one_does(
    make: Callable[[], PlannerTask], tmp_path: Path
) -> None:
    whole = Trainer(make(), tmp_path / "whole")
    losses = [whole.train_step() for _ in range(5)]
    for step in range(5):
        broken = Trainer(make(), tmp_path / "broken")
        assert broken.resume() == (step > 0)
        assert broken.train_step() == losses[step]
        broken.save()
    with whole.averaged(), broken.averaged():
        for one, other in zip(whole.task.parameters(), broken.task.parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    recipe = replace(
        SCRATCH,
        steps=30,
        batch=2,
        questions=4,
        dense_share=0.0,
        muon_learning_rate=0.02,
        learning_rate=0.01,
        warm_up=0.0,
    )
    trainer = Trainer(tiny_task(recipe), tmp_path)
    answers = [trainer.train_step()["answer"] for _ in range(30)]
    assert sum(answers[-5:]) < 0.6 * sum(answers[:5])
