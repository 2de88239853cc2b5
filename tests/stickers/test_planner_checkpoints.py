"""Where runs begin and what they leave: checkpoints that load like any Gemma 4."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, Gemma4ForConditionalGeneration

from services.stickers.planner.checkpoints import Pupil, export, load_pupil, new_pupil
from services.stickers.planner.config import MAX_SOFT_TOKENS, POOLING, Shape
from services.stickers.planner.evaluate import SHIPPED
from services.stickers.planner.examiner import Examiner
from services.stickers.planner.lessons import Teacher
from services.stickers.sources import WorldScenes
from tests.stickers.tiny_planner import pupil


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new tiny checkpoint."""
    folder = tmp_path_factory.mktemp("checkpoint")
    export(pupil(), folder)
    return folder


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_export_loads(checkpoint: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    assert isinstance(model, Gemma4ForConditionalGeneration)
    assert model.dtype is torch.float32
    made = pupil()
    endings = ("<eos>", "<turn|>", "<|tool_response>")
    assert model.generation_config.eos_token_id == [
        made.preprocessor.tokenizer.convert_tokens_to_ids(token) for token in endings
    ]
    for name, value in made.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    loaded = load_pupil(str(checkpoint))
    assert loaded.preprocessor.tokenizer.get_vocab() == made.preprocessor.tokenizer.get_vocab()
    assert loaded.preprocessor.image_processor.max_soft_tokens == MAX_SOFT_TOKENS


def test_a_new_pupil_is_always_the_same_one() -> None:
    shape = Shape(vision_width=32, vision_layers=1, text_width=32, text_layers=2, head_dim=16)
    first, second = (new_pupil(shape, seed=2) for _ in range(2))
    assert first.source == ""
    assert all(
        torch.equal(value, second.model.state_dict()[name])
        for name, value in first.model.state_dict().items()
    )


def test_more_soft_tokens_leave_old_answers_alone() -> None:
    """A longer table of positions changes nothing for images that fitted the old one."""
    old = load_pupil(str(SHIPPED))
    own = old.preprocessor.image_processor.max_soft_tokens
    table = old.model.model.vision_tower.patch_embedder.position_embedding_table.shape[1]
    wide = load_pupil(str(SHIPPED), soft_tokens=560)
    embedder = wide.model.model.vision_tower.patch_embedder
    assert embedder.position_embedding_table.shape[1] == 560 * POOLING > table
    assert wide.model.config.vision_config.position_embedding_size == 560 * POOLING
    assert wide.model.config.vision_config.default_output_length == 560
    assert wide.preprocessor.image_processor.max_soft_tokens == 560
    narrow = Pupil(wide.model, old.preprocessor)
    image = WorldScenes().scene(np.random.default_rng(1), size=(320, 240)).image
    answers = [
        Examiner(Teacher(WorldScenes(), one.preprocessor)).answers(
            one.model.eval(), [((image,), one.preprocessor.planning_chat("everything"))]
        )
        for one in (old, narrow)
    ]
    assert answers[0] == answers[1]
    assert own < 560


def test_adapters_are_added_into_the_weights_or_kept_apart(
    checkpoint: Path, tmp_path: Path
) -> None:
    before = _weights(load_pupil(str(checkpoint)).model)
    adapted = load_pupil(str(checkpoint), rank=2, seed=4)
    again = load_pupil(str(checkpoint), rank=2, seed=4)
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
    loaded = load_pupil(str(checkpoint), vision=vision)
    still = {name for name, p in loaded.model.named_parameters() if not p.requires_grad}
    assert any("vision_tower" in name for name in still) == frozen
    assert any("embed_vision" in name for name in still) == frozen
    assert all("vision" in name for name in still)


def test_files_that_other_servers_want_come_along(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "processor_config.json").write_text(json.dumps({"processor_class": "X"}))
    export(load_pupil(str(checkpoint)), tmp_path)
    assert json.loads((tmp_path / "processor_config.json").read_text())["processor_class"] == "X"


def test_no_checkpoint_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=str(tmp_path)):
        load_pupil(str(tmp_path))
