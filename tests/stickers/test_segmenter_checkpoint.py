from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Sam3Model

from services.stickers.phrases import PhraseBook
from services.stickers.segmenter.checkpoint import export, new_model, new_tokenizer
from services.stickers.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def model() -> Sam3Model:
    return new_model(new_tokenizer(PhraseBook(Vocabulary.load())), seed=1).eval()


def test_the_same_seed_gives_the_same_weights(model: Sam3Model):
    again = new_model(new_tokenizer(PhraseBook(Vocabulary.load())), seed=1)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, model.state_dict()[name]), name


def test_exported_it_reads_back_with_its_tokenizer(model: Sam3Model, tmp_path: Path):
    tokenizer = new_tokenizer(PhraseBook(Vocabulary.load()))
    export(model, tokenizer, tmp_path)
    again = Sam3Model.from_pretrained(tmp_path).eval()
    text = AutoTokenizer.from_pretrained(tmp_path)(["soccer ball"], return_tensors="pt")
    pixels = torch.rand(1, 3, 240, 240)
    with torch.no_grad():
        expected = model(pixel_values=pixels, **text).pred_masks
        torch.testing.assert_close(again(pixel_values=pixels, **text).pred_masks, expected)


def test_queries_start_spread_out_and_look_into_their_boxes(model: Sam3Model):
    decoder = model.detr_decoder
    boxes = decoder.reference_points.weight.sigmoid()
    assert len({tuple(centre) for centre in boxes[:, :2].round(decimals=3).tolist()}) == 16
    with torch.no_grad():
        bias = decoder._get_rpb_matrix(boxes[None, :1], (20, 20))[0, :, 0].view(-1, 20, 20)
    # The first box covers the first quarter of the picture both ways.
    assert (bias[:-1, 1:5, 1:5] > -0.01).all()
    assert (bias[:-1, 12:, 12:] < -1).all()
    assert (bias[-1] == 0).all(), "one head looks everywhere"


def test_tokens_start_knowing_where_they_are(model: Sam3Model):
    position = model.vision_encoder.backbone.embeddings.position_embeddings[0].detach()
    closeness = torch.cdist(position[:1], position)[0].view(20, 20)
    assert closeness[0, 1] < closeness[0, 4] < closeness[0, 8]
    assert closeness[1, 0] < closeness[4, 0] < closeness[8, 0]
