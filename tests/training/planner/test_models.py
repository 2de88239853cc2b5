"""Where runs begin and what they leave: checkpoints that load like any Gemma 4."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, Gemma4ForConditionalGeneration

from services.errors import CheckpointError
from services.planner.settings import SHIPPED
from tests.odd.checkpoints import NORM, POINTER, changed, copied, dropped, filled, prefixed, written
from tests.training.planner.tiny import SWITCHES, builder, planner_model, real_model, task_of
from training.datasets.sources import WorldScenes
from training.planner import evaluate, train
from training.planner.config import MAX_SOFT_TOKENS, POOLING, Shape
from training.planner.evaluator import PlanEvaluator
from training.planner.examples import ExampleBuilder
from training.planner.models import PlannerModel, adapt, export, load_planner, merge, new_planner
from training.planner.packing import Layout, PlannerBatch, collate
from training.world.splits import TRAINING


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new tiny checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    export(planner_model(), folder)
    return folder


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_export_loads(checkpoint: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    assert isinstance(model, Gemma4ForConditionalGeneration)
    assert model.dtype is torch.float32
    made = planner_model()
    endings = ("<eos>", "<turn|>", "<|tool_response>")
    assert model.generation_config.eos_token_id == [
        made.preprocessor.tokenizer.convert_tokens_to_ids(token) for token in endings
    ]
    for name, value in made.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    loaded = load_planner(str(checkpoint))
    assert loaded.preprocessor.tokenizer.get_vocab() == made.preprocessor.tokenizer.get_vocab()
    assert loaded.preprocessor.image_processor.max_soft_tokens == MAX_SOFT_TOKENS


ODD = {
    "wrapped": (partial(changed, prefixed("module.")), "every one of its 126 names starts with"),
    "in part": (partial(changed, dropped(NORM)), "1 of the 127 tensors are missing"),
    "not finite": (partial(changed, filled(NORM, torch.nan)), "1 tensors hold numbers that are"),
    "a pointer": (partial(written, "model.safetensors", POINTER), "is a Git LFS pointer"),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_run_does_not_start_from_a_checkpoint_that_does_not_work(
    odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither to be trained nor to be measured."""
    make, message = ODD[odd]
    source = str(make(tmp_path, shipped=SHIPPED))
    with pytest.raises(CheckpointError, match=message):
        load_planner(source)
    for main, words in (
        (train.main, ["--out", str(tmp_path / "run"), "--start", source]),
        (evaluate.main, [source]),
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("tokenizer.json", "has no tokenizer"),
        ("chat_template.jinja", "has no chat template"),
        ("preprocessor_config.json", "has no image processor"),
    ],
)
def test_a_run_does_not_start_without_what_the_model_reads_with(
    part: str, message: str, tmp_path: Path
) -> None:
    folder = copied(tmp_path, SHIPPED)
    (folder / part).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_planner(str(folder))


@pytest.mark.slow
def test_a_new_planner_is_always_the_same_one() -> None:
    shape = Shape(vision_width=32, vision_layers=1, text_width=32, text_layers=2, head_dim=16)
    first, second = (new_planner(shape, seed=2) for _ in range(2))
    assert first.source == ""
    assert all(
        torch.equal(value, second.model.state_dict()[name])
        for name, value in first.model.state_dict().items()
    )


def test_more_soft_tokens_leave_old_answers_alone() -> None:
    """A longer table of positions changes nothing for images that fitted the old one."""
    old = load_planner(str(SHIPPED))
    own = old.preprocessor.image_processor.max_soft_tokens
    table = old.model.model.vision_tower.patch_embedder.position_embedding_table.shape[1]
    wide = load_planner(str(SHIPPED), soft_tokens=560)
    embedder = wide.model.model.vision_tower.patch_embedder
    assert embedder.position_embedding_table.shape[1] == 560 * POOLING > table
    assert wide.model.config.vision_config.position_embedding_size == 560 * POOLING
    assert wide.model.config.vision_config.default_output_length == 560
    assert wide.preprocessor.image_processor.max_soft_tokens == 560
    narrow = PlannerModel(wide.model, old.preprocessor)
    image = WorldScenes().scene(np.random.default_rng(1), size=(320, 240)).image
    answers = [
        PlanEvaluator(ExampleBuilder(WorldScenes(), one.preprocessor)).answers(
            one.model.eval(), [((image,), one.preprocessor.planning_chat("everything"))]
        )
        for one in (old, narrow)
    ]
    assert answers[0] == answers[1]
    assert own < 560


def test_adapters_are_added_into_the_weights_or_kept_apart(
    checkpoint: Path, tmp_path: Path
) -> None:
    before = _weights(load_planner(str(checkpoint)).model)
    adapted = load_planner(str(checkpoint), rank=2, seed=4)
    again = load_planner(str(checkpoint), rank=2, seed=4)
    for (name, one), (_, other) in zip(
        adapted.model.named_parameters(), again.model.named_parameters(), strict=True
    ):
        assert torch.equal(one, other), name
    with torch.no_grad():
        for name, parameter in adapted.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    export(adapted, tmp_path / "apart", merged=False)
    assert (tmp_path / "apart" / "adapter_model.safetensors").exists()
    assert not (tmp_path / "apart" / "model.safetensors").exists()
    export(adapted, tmp_path / "merged")
    merged = Gemma4ForConditionalGeneration.from_pretrained(tmp_path / "merged").state_dict()
    changed = {name for name, value in merged.items() if not torch.equal(value, before[name])}
    assert merged.keys() == before.keys()
    assert changed
    assert all("language_model.layers" in name and "_proj." in name for name in changed)

    from peft import PeftModel

    base = Gemma4ForConditionalGeneration.from_pretrained(checkpoint)
    together = PeftModel.from_pretrained(base, tmp_path / "apart").merge_and_unload()
    for name, value in together.state_dict().items():
        torch.testing.assert_close(value, merged[name], msg=name)


@pytest.mark.parametrize(("vision", "frozen"), [(True, False), (False, True)])
def test_the_vision_tower_may_stay_as_it_is(checkpoint: Path, vision: bool, frozen: bool) -> None:
    loaded = load_planner(str(checkpoint), vision=vision)
    still = {name for name, p in loaded.model.named_parameters() if not p.requires_grad}
    assert any("vision_tower" in name for name in still) == frozen
    assert any("embed_vision" in name for name in still) == frozen
    assert all("vision" in name for name in still)


def test_files_that_other_servers_want_come_along(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "processor_config.json").write_text(json.dumps({"processor_class": "X"}))
    export(load_planner(str(checkpoint)), tmp_path)
    assert json.loads((tmp_path / "processor_config.json").read_text())["processor_class"] == "X"


def test_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_planner(str(tmp_path))


def _batch(model) -> PlannerBatch:  # type: ignore[no-untyped-def]
    examples = [builder(labeled=False).planning((TRAINING[0], 3, index), 3) for index in range(2)]
    return collate(examples, Layout.of(model.config))


def _loss(model, batch: PlannerBatch) -> torch.Tensor:  # type: ignore[no-untyped-def]
    return task_of(model).losses(batch)["answer"]


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
