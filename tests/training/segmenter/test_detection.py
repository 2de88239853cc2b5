import torch

from services.segmenter.operators import install_roi_align
from tests.training.segmenter.parts import batch_builder, tiny_model
from training.segmenter.boxes import corners
from training.segmenter.data import Pairs
from training.segmenter.detection import detect
from training.world.splits import SHOWN

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def assert_last_layer_is_the_models_own(pairs: Pairs, pixels: torch.Tensor, **boxes: torch.Tensor):
    model = tiny_model(seed=3).eval()
    with torch.no_grad():
        ours = detect(model, model.vision_encoder(pixels), pairs)
        plain = model(
            pixel_values=pixels[pairs.image],
            input_ids=pairs.input_ids,
            attention_mask=pairs.attention_mask,
            **boxes,
        )
    torch.testing.assert_close(ours.logits[-1], plain.pred_logits, **CLOSE)
    torch.testing.assert_close(ours.presence[-1], plain.presence_logits[:, 0], **CLOSE)
    torch.testing.assert_close(corners(ours.boxes[-1]), plain.pred_boxes, **CLOSE)
    layers, count, queries = ours.logits.shape
    every = torch.arange(queries).expand(layers, count, queries)
    torch.testing.assert_close(ours.masks(every)[-1], plain.pred_masks, **CLOSE)
    torch.testing.assert_close(ours.semantic, plain.semantic_seg[:, 0], **CLOSE)


def test_phrases_go_as_through_the_model():
    batch = batch_builder().phrases(SHOWN[:2])
    assert batch.pairs is not None
    assert_last_layer_is_the_models_own(batch.pairs, batch.pixels)


def test_exemplars_go_as_through_the_model():
    install_roi_align()
    batch = batch_builder().exemplars(SHOWN[:3])
    assert batch.pairs is not None
    assert (batch.pairs.box_labels < 0).any(), "no padded box in this batch: choose other seeds"
    assert_last_layer_is_the_models_own(
        batch.pairs,
        batch.pixels,
        input_boxes=batch.pairs.boxes,
        input_boxes_labels=batch.pairs.box_labels,
    )


def test_masks_are_made_of_the_shown_pairs_only_and_are_the_same():
    batch = batch_builder().phrases(SHOWN[:2])
    assert batch.pairs is not None
    model = tiny_model(seed=3).eval()
    shown = torch.tensor([3, 1])
    with torch.no_grad():
        vision = model.vision_encoder(batch.pixels)
        every, some = detect(model, vision, batch.pairs), detect(model, vision, batch.pairs, shown)
    torch.testing.assert_close(some.logits, every.logits, **CLOSE)
    torch.testing.assert_close(some.semantic, every.semantic[shown], **CLOSE)
    chosen = torch.tensor([4, 7]).expand(3, 2, 2)
    masks = every.masks(torch.tensor([4, 7]).expand(3, 4, 2))
    torch.testing.assert_close(some.masks(chosen), masks[:, shown], **CLOSE)
    coarse = torch.nn.functional.avg_pool2d(some.masks(chosen).flatten(0, 2), 4)
    torch.testing.assert_close(
        some.coarse_masks(4)[:, :, [4, 7]].flatten(0, 2), coarse, atol=1e-3, rtol=1e-3
    )
