import json
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    Sam3Model,
    Sam3TrackerVideoConfig,
    Sam3VideoConfig,
    Sam3VideoModel,
)

from services.errors import CheckpointError
from services.planner.settings import SHIPPED as PLANNER
from tests.odd.checkpoints import (
    BIAS,
    POINTER,
    changed,
    copied,
    dropped,
    filled,
    pickled_alone,
    prefixed,
    written,
)
from tests.training.segmenter.parts import TOKENIZER, tiny_model
from training.segmenter import evaluate, train
from training.segmenter.models import export, new_model, open_checkpoint


@pytest.fixture(scope="module")
def model() -> Sam3Model:
    return tiny_model().eval()


def answer(model: Sam3Model, tokenizer, pixels: torch.Tensor) -> torch.Tensor:
    text = tokenizer(["soccer ball"], return_tensors="pt")
    with torch.no_grad():
        masks: torch.Tensor = model(
            pixel_values=pixels, input_ids=text.input_ids, attention_mask=text.attention_mask
        ).pred_masks
    return masks


def test_the_same_seed_gives_the_same_weights(model: Sam3Model):
    for name, weight in tiny_model().state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name
    other = new_model(TOKENIZER, seed=2).state_dict()
    name = "detr_decoder.query_embed.weight"
    assert not torch.equal(other[name], model.state_dict()[name])


def test_exported_it_reads_back_with_its_tokenizer(model: Sam3Model, tmp_path: Path):
    export(model, TOKENIZER, tmp_path)
    pixels = torch.rand(1, 3, 240, 240)
    expected = answer(model, TOKENIZER, pixels)
    again = Sam3Model.from_pretrained(tmp_path).eval()
    read = answer(again, AutoTokenizer.from_pretrained(tmp_path), pixels)
    torch.testing.assert_close(read, expected)
    opened, tokenizer = open_checkpoint(str(tmp_path))
    torch.testing.assert_close(answer(opened.eval(), tokenizer, pixels), expected)


def test_a_checkpoint_without_its_own_tokenizer_is_refused(model: Sam3Model, tmp_path: Path):
    model.save_pretrained(tmp_path)
    with pytest.raises((ValueError, OSError), match=str(tmp_path)):
        open_checkpoint(str(tmp_path))
    TOKENIZER.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["text_config"]["vocab_size"] == len(TOKENIZER)
    open_checkpoint(str(tmp_path))


ODD = {
    "wrapped": (partial(changed, prefixed("module.")), "every one of its 432 names starts with"),
    "in part": (partial(changed, dropped(BIAS)), "1 of the 432 tensors are missing"),
    "not finite": (partial(changed, filled(BIAS, torch.nan)), "1 tensors hold numbers that are"),
    "a pointer": (partial(written, "model.safetensors", POINTER), "is a Git LFS pointer"),
    "a planner": (partial(copied, shipped=PLANNER), "config.json describes a Gemma 4"),
    "a .pt": (pickled_alone, "sam3.pt is a pickle of torch.save"),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_run_does_not_start_from_a_checkpoint_that_does_not_work(
    odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Neither to fine-tune, nor to grow, nor to be measured."""
    make, message = ODD[odd]
    source = str(make(tmp_path))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(source)
    for main, words in (
        (train.main, ["--out", str(tmp_path / "run"), "--start", source]),
        (evaluate.main, [source]),
    ):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_what_is_saved_as_a_video_model_gives_its_detector(model: Sam3Model, tmp_path: Path):
    """`facebook/sam3` is saved so, detector and tracker in one."""
    tracker = Sam3TrackerVideoConfig(
        vision_config=model.config.vision_config.to_dict(), memory_attention_num_layers=1
    )
    config = Sam3VideoConfig(
        detector_config=model.config.to_dict(), tracker_config=tracker.to_dict()
    )
    video = Sam3VideoModel(config)
    video.detector_model.load_state_dict(model.state_dict())
    video.save_pretrained(tmp_path / "video")
    TOKENIZER.save_pretrained(tmp_path / "video")

    opened, tokenizer = open_checkpoint(str(tmp_path / "video"))
    export(opened, tokenizer, tmp_path / "export")
    again = Sam3Model.from_pretrained(tmp_path / "export").eval()
    assert again.config.model_type == "sam3"
    pixels = torch.rand(1, 3, 240, 240)
    torch.testing.assert_close(answer(again, tokenizer, pixels), answer(model, TOKENIZER, pixels))


def test_queries_start_spread_out_and_look_into_their_boxes(model: Sam3Model):
    decoder = model.detr_decoder
    boxes = decoder.reference_points.weight.sigmoid()
    assert len({tuple(center) for center in boxes[:, :2].round(decimals=3).tolist()}) == 25
    with torch.no_grad():
        bias = decoder._get_rpb_matrix(boxes[None, :1], (20, 20))[0, :, 0].view(-1, 20, 20)
    # The first box reaches over the first fifth of the picture both ways.
    assert (bias[:-1, 1:4, 1:4] > -0.01).all()
    assert (bias[:-1, 12:, 12:] < -1).all()
    assert (bias[-1] == 0).all(), "one head looks everywhere"


def test_tokens_start_knowing_where_they_are(model: Sam3Model):
    position = model.vision_encoder.backbone.embeddings.position_embeddings[0].detach()
    closeness = torch.cdist(position[:1], position)[0].view(20, 20)
    assert closeness[0, 1] < closeness[0, 4] < closeness[0, 8]
    assert closeness[1, 0] < closeness[4, 0] < closeness[8, 0]
