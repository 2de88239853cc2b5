import torch

from services.segmenter.operators import install_roi_align
from services.stickers.phrases import PhraseBook
from services.stickers.segmenter.checkpoint import new_model, new_tokenizer
from services.stickers.segmenter.data import BatchMaker, Pairs
from services.stickers.segmenter.detection import corners, detect
from services.stickers.segmenter.sampling import PhraseSampler
from services.stickers.splits import SHOWN
from services.stickers.vocabulary import Vocabulary

BOOK = PhraseBook(Vocabulary.load())


def assert_last_layer_is_the_models_own(pairs: Pairs, pixels: torch.Tensor, **boxes: torch.Tensor):
    model = new_model(new_tokenizer(BOOK), seed=3).eval()
    with torch.no_grad():
        ours = detect(model, model.vision_encoder(pixels), pairs)
        plain = model(
            pixel_values=pixels[pairs.image],
            input_ids=pairs.input_ids,
            attention_mask=pairs.attention_mask,
            **boxes,
        )
    close = {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(ours.logits[-1], plain.pred_logits, **close)
    torch.testing.assert_close(ours.presence[-1], plain.presence_logits[:, 0], **close)
    torch.testing.assert_close(corners(ours.boxes[-1]), plain.pred_boxes, **close)
    torch.testing.assert_close(ours.masks[-1], plain.pred_masks, **close)
    torch.testing.assert_close(ours.semantic, plain.semantic_seg[:, 0], **close)


def batches() -> BatchMaker:
    return BatchMaker(PhraseSampler(BOOK), new_tokenizer(BOOK), 240, 20, 40)


def test_phrases_go_as_through_the_model():
    batch = batches().phrases(SHOWN[:2])
    assert batch.pairs is not None
    assert_last_layer_is_the_models_own(batch.pairs, batch.pixels)


def test_exemplars_go_as_through_the_model():
    install_roi_align()
    batch = batches().exemplars(SHOWN[:3])
    assert batch.pairs is not None
    assert (batch.pairs.box_labels < 0).any(), "no padded box in this batch: choose other seeds"
    assert_last_layer_is_the_models_own(
        batch.pairs,
        batch.pixels,
        input_boxes=batch.pairs.boxes,
        input_boxes_labels=batch.pairs.box_labels,
    )
