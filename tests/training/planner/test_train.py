"""The trainer's command: sticker world, and fine-tuning of any Gemma 4 on pictures of one's own."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Gemma4ForConditionalGeneration

from services.planner.calls import parse_call, plan_from_call
from services.planner.engines import Prompt, PromptImage
from services.planner.engines.transformers import TransformersPlannerEngine
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.prompt import PLAN_TOOL, plan_messages
from services.planner.settings import SHIPPED, PlannerSettings
from tests.training.datasets.builders import write_coco
from tests.training.kit.terminated import terminated_as_by_make
from tests.training.planner.test_example_file import GOOD, written
from tests.training.planner.tiny import SHAPE, planner_model, preprocessor, real_model, task_of
from training.datasets.coco import CocoScenes, DatasetSplit
from training.kit import metrics
from training.planner import evaluate
from training.planner.examples import ExampleBuilder
from training.planner.models import PlannerModel, export
from training.planner.packing import Layout, collate
from training.planner.preprocessing import Preprocessor
from training.planner.recipe import ADAPTING, FINE_TUNING, SCRATCH, PlannerRecipe
from training.planner.train import command_parser, main, recipe_for
from training.world.scenes import random_scene
from training.world.splits import TRAINING

# What the pictures' things are called by people who never heard of sticker world.
RENAMED = {"dog": "hound", "cat": "tabby", "girl": "lass", "red car": "red auto"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A new tiny checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    export(planner_model(), folder)
    return str(folder)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Forty annotated pictures, with names of their own for some things."""
    shown = [c for c in _vocabulary() if c.name in (*RENAMED, "tree", "house")]
    scenes = [
        random_scene(np.random.default_rng(seed), concepts=shown, size=(160, 120))
        for seed in range(40)
    ]
    annotations, images = write_coco(tmp_path_factory.mktemp("coco"), scenes)
    content = json.loads(annotations.read_text())
    for category in content["categories"]:
        if category["name"] in RENAMED:
            category["name"] = RENAMED[category["name"]]
            category["plural"] = category["name"] + "s"
    annotations.write_text(json.dumps(content))
    return annotations, images


def _vocabulary() -> Any:
    from training.world.vocabulary import Vocabulary

    return Vocabulary.load().concepts


def _tuned(dataset: tuple[Path, Path], *words: str) -> list[str]:
    return ["--coco", str(dataset[0]), "--images", str(dataset[1]), *words]


@torch.no_grad()
def _loss(checkpoint: str | Path, dataset: tuple[Path, Path]) -> float:
    """The loss of answers about the held-out pictures."""
    model = Gemma4ForConditionalGeneration.from_pretrained(checkpoint).eval()
    source = CocoScenes.load(*dataset, DatasetSplit.VALIDATION)
    taught = ExampleBuilder(source, Preprocessor.load(str(checkpoint)), labeled=False)
    examples = [taught.planning((TRAINING[-1], index), 8) for index in range(6)]
    batch = collate(examples, Layout.of(model.config))
    return float(task_of(model).losses(batch)["answer"])


@pytest.mark.slow
def test_the_shipped_checkpoint_learns_other_names(
    dataset: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LoRA on a dataset, to a checkpoint that the service loads and that answers with a plan."""
    main(
        [
            *("--start", str(SHIPPED), "--out", str(tmp_path), "--lora", "4"),
            *("--steps", "20", "--learning-rate", "0.01", "--batch", "2", "--questions", "5"),
            *("--validate-every", "10", "--validation-scenes", "1"),
            *_tuned(dataset),
        ]
    )
    told = capsys.readouterr().out
    assert "resumed" not in told
    out = tmp_path / "export"
    assert f"written to {out}" in told
    # It has learned what it did not know.
    before, after = _loss(SHIPPED, dataset), _loss(out, dataset)
    assert after < 0.6 * before, (before, after)
    # Nothing but the adapted projections changed.
    own, tuned = (
        Gemma4ForConditionalGeneration.from_pretrained(folder).state_dict()
        for folder in (SHIPPED, out)
    )
    assert own.keys() == tuned.keys()
    changed = {name for name in own if not torch.equal(own[name], tuned[name])}
    assert changed
    assert all("language_model.layers" in name and "_proj" in name for name in changed)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all("lora_" in name for name in state["weights"])
    # The service loads it, and it answers with a valid plan.
    engine = TransformersPlannerEngine(PlannerSettings(model=str(out)), RecordedPlannerMetrics())
    engine.load()
    scene = CocoScenes.load(*dataset, DatasetSplit.VALIDATION).at(0)
    prompt = Prompt(plan_messages("the hounds"), [PromptImage(scene.image)], [PLAN_TOOL])
    (answer,) = engine.generate([prompt], lambda: True)
    assert plan_from_call(parse_call(answer)).include
    # The run's folder tells what happened.
    run = metrics.read(tmp_path)
    assert run.recipe["LoRA rank"] == 4
    assert [entry.step for entry in run.validations] == [10, 20]
    assert [entry.step for entry in run.losses] == [20]
    with Image.open(tmp_path / "curves.png") as curves:
        assert curves.size[0] > 500
    assert "| LoRA rank | 4 |" in (tmp_path / "figures.md").read_text()


@pytest.mark.parametrize("size", ["E2B", "26B-A4B", "31B"])
@pytest.mark.slow
def test_every_size_goes_all_the_way(size: str, dataset: tuple[Path, Path], tmp_path: Path) -> None:
    """Random weights with the switches of a real size: loaded, adapted, merged, and served."""
    export(PlannerModel(real_model(size, window=512), preprocessor()), tmp_path / "start")
    words = ["--start", str(tmp_path / "start"), "--out", str(tmp_path / "run"), "--lora", "2"]
    words += ["--steps", "2", "--batch", "2", "--validation-scenes", "1", "--accumulate", "2"]
    main([*words, "--gradient-checkpointing", "--train-vision", *_tuned(dataset)])
    own, tuned = (
        Gemma4ForConditionalGeneration.from_pretrained(tmp_path / folder).state_dict()
        for folder in ("start", "run/export")
    )
    assert own.keys() == tuned.keys()
    changed = {name for name in own if not torch.equal(own[name], tuned[name])}
    assert {"vision_tower", "language_model"} == {name.split(".")[1] for name in changed}
    settings = PlannerSettings(model=str(tmp_path / "run" / "export"), max_new_tokens=8)
    engine = TransformersPlannerEngine(settings, RecordedPlannerMetrics())
    engine.load()
    prompt = Prompt(
        plan_messages("the hounds"), [PromptImage(np.zeros((90, 120, 3), np.uint8))], [PLAN_TOOL]
    )
    assert engine.generate([prompt], lambda: True)[0]


@pytest.mark.slow
def test_frozen_weights_may_be_kept_in_half_as_many_bits(
    checkpoint: str, dataset: tuple[Path, Path], tmp_path: Path
) -> None:
    """What a GPU does, on a CPU: bfloat16 but for the adapters and the head."""
    words = ["--start", checkpoint, "--out", str(tmp_path), "--precision", "bfloat16"]
    words += ["--lora", "2", "--train-vision", "--dense-share", "0.4", "--dense-weight", "0.3"]
    main([*words, "--steps", "3", "--batch", "1", "--validation-scenes", "1", *_tuned(dataset)])
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(value.dtype is torch.float32 for value in state["weights"].values())
    assert {"head.weight", "head.bias"} < set(state["weights"])
    exported = Gemma4ForConditionalGeneration.from_pretrained(tmp_path / "export")
    assert exported.dtype is torch.bfloat16


def test_own_examples_are_enough(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = str(written(tmp_path, *GOOD))
    words = ["--start", checkpoint, "--examples", examples, "--out", str(tmp_path / "run")]
    main([*words, "--steps", "3", "--batch", "2", "--lora", "2", "--no-merge"])
    assert (tmp_path / "run" / "export" / "adapter_model.safetensors").exists()
    assert (tmp_path / "run" / "curves.png").exists()


def test_scenes_and_examples_together_train_all_weights(
    checkpoint: str, dataset: tuple[Path, Path], tmp_path: Path
) -> None:
    file = written(dataset[1], *GOOD)
    words = ["--start", checkpoint, "--examples", str(file), "--out", str(tmp_path / "run")]
    main([*words, *_tuned(dataset), "--steps", "2", "--batch", "2", "--validation-scenes", "0"])
    own, tuned = (
        Gemma4ForConditionalGeneration.from_pretrained(folder).state_dict()
        for folder in (checkpoint, tmp_path / "run" / "export")
    )
    changed = {name for name in own if not torch.equal(own[name], tuned[name])}
    assert any("embed_tokens" in name for name in changed)
    assert not any("vision" in name for name in changed)


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_same_command(
    checkpoint: str,
    dataset: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--start", checkpoint, "--lora", "2", "--batch", "1", "--validation-scenes", "0"]
    words += _tuned(dataset, "--steps", "4")
    main([*words, "--out", str(tmp_path / "whole")])

    asked = nullcontext(iter([False, False, True]).__next__)
    monkeypatch.setattr("training.kit.command.interruptible", lambda: asked)
    main([*words, "--out", str(tmp_path / "broken")])
    assert "stopped at step 2; the same command goes on from there" in capsys.readouterr().out
    assert not (tmp_path / "broken" / "export").exists()
    monkeypatch.undo()
    main([*words, "--out", str(tmp_path / "broken"), "--learning-rate", "2e-4"])
    told = capsys.readouterr().out
    assert "resumed at step 2" in told
    assert " was " not in told  # the recipe is the same
    whole, broken = (
        (tmp_path / name / "export" / "model.safetensors").read_bytes()
        for name in ("whole", "broken")
    )
    assert whole == broken


@pytest.mark.slow
def test_sticker_world_visibly_learns_from_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.planner.train._SHAPE", SHAPE)
    main(
        [
            *("--out", str(tmp_path), "--steps", "60", "--batch", "2", "--questions", "3"),
            *("--dense-share", "0.3", "--validation-scenes", "1"),
        ]
    )
    assert "M weights on cpu, from the start" in capsys.readouterr().out
    losses = metrics.read(tmp_path).losses
    assert [entry.step for entry in losses] == [20, 40, 60]
    assert losses[-1].values["answer"] < 0.9 * losses[1].values["answer"]
    assert (tmp_path / "export" / "model.safetensors").exists()


@pytest.mark.slow
def test_a_run_that_make_ends_saves_and_ends_cleanly(
    checkpoint: str, dataset: tuple[Path, Path], tmp_path: Path
) -> None:
    words = ["--start", checkpoint, "--lora", "2", *_tuned(dataset, "--steps", "100000")]
    _, told = terminated_as_by_make(
        "training.planner.train", [*words, "--out", str(tmp_path)], "from the start"
    )
    step = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"]
    assert "stopping after this step" in told
    assert f"stopped at step {step}; " in told
    assert not (tmp_path / "export").exists()


def test_data_is_judged_before_the_checkpoint_is_read(
    dataset: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(dataset[0].read_text())
    content["annotations"][3]["iscrowd"] = "0"
    (tmp_path / "instances.json").write_text(json.dumps(content))
    own = tmp_path / "instances.json", dataset[1]
    examples = str(written(tmp_path, {**GOOD[0], "plan": {}}, "{"))
    for words, message in (
        (_tuned(own), "annotations[3].iscrowd (annotation 3): '0' is neither 0 nor 1"),
        (["--examples", examples], "examples.jsonl has 2 faults:"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(["--start", str(tmp_path / "none"), "--out", str(tmp_path / "run"), *words])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        evaluate.main(_tuned(own))
    assert "annotations[3].iscrowd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "recipe"),
    [
        ([], SCRATCH),
        (["--minutes", "9"], replace(SCRATCH, steps=None, minutes=9.0)),
        (["--batch", "6", "--questions", "3"], replace(SCRATCH, batch=6, questions=3)),
        (["--coco", "x"], FINE_TUNING),
        (["--examples", "x", "--lora", "8"], ADAPTING),
    ],
)
def test_the_recipe_follows_the_command(words: list[str], recipe: PlannerRecipe) -> None:
    assert recipe_for(command_parser().parse_args(words)) == recipe


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--coco", "x", "--images", "."], "--start, the checkpoint"),
        (["--lora", "4"], "--start, the checkpoint"),
        (["--start", "CHECKPOINT", "--coco", "x"], "--coco needs --images"),
        (["--start", "CHECKPOINT", "--coco", "x", "--images", "."], "x: "),
        (["--start", "CHECKPOINT", "--examples", "y"], "'y'"),
        (["--start", "nowhere/at-all-"], "nowhere/at-all-"),
        (["--device", "cuda:9"], "there is no cuda:9 here"),
        (["--lora", "4", "--steps", "x"], "invalid int value"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: list[str],
    message: str,
    checkpoint: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = [checkpoint if word == "CHECKPOINT" else word for word in words]
    with pytest.raises(SystemExit) as caught:
        main([*words, "--out", str(tmp_path / "run")])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
