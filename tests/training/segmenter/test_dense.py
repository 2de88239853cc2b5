import numpy as np
import pytest
import torch

from tests.training.segmenter.parts import BOOK, TOKENIZER, batch_builder, tiny_model
from training.segmenter.data import name_tokens
from training.segmenter.dense import (
    DenseHeads,
    DenseTargets,
    FineHeads,
    center_code,
    dense_targets,
    name_attention,
)
from training.segmenter.grids import coverage
from training.world.scenes import Placement, Scene, compose
from training.world.splits import SHOWN

NAMES = BOOK.vocabulary.by_name


def cat_and_dog() -> Scene:
    """A cat on the left, a dog on the right that covers some of it."""
    placements = [
        Placement(NAMES["cat"], (0.25, 0.5), 0.9),
        Placement(NAMES["dog"], (0.6, 0.5), 0.9),
    ]
    return compose(placements, np.zeros((120, 200, 3), np.uint8))


def targets() -> DenseTargets:
    scene = cat_and_dog()
    masks = torch.stack([coverage(instance, 80) for instance in scene.instances])
    return dense_targets([scene], [masks], tokens=20, concepts=48)


def test_coverage_shares_every_token_out():
    shares = batch_builder().dense(SHOWN[:4]).dense.coverage
    assert shares.shape == (4, 20, 20, 49)
    torch.testing.assert_close(shares.sum(-1), torch.ones(4, 20, 20), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "x"), [("cat", 0.2), ("dog", 0.6)])
def test_tokens_and_cells_know_the_concept_and_the_place_of_what_covers_them(name: str, x: float):
    truth = targets()
    (own,) = [i for i in cat_and_dog().instances if i.concept.name == name]
    x0, y0, x1, y1 = own.box
    center = torch.tensor([(x0 + x1) / 2 / 200, (y0 + y1) / 2 / 120])
    assert truth.coverage[0, 10, int(x * 20), own.concept.index] > 0.7
    torch.testing.assert_close(truth.token_boxes[0, 10, int(x * 20), :2], center)
    assert truth.fine_labels[0, 40, int(x * 80)] == own.concept.index
    torch.testing.assert_close(truth.fine_codes[0, :, 40, int(x * 80)], center_code(center))


def test_what_nothing_covers_is_background():
    truth = targets()
    assert truth.coverage[0, 0, 19, -1] == 1
    assert truth.fine_labels[0, 0, 79] == 48
    share = (truth.fine_labels < 48).float().mean().item()
    area = sum(instance.area for instance in cat_and_dog().instances)
    assert share == pytest.approx(area / (120 * 200), abs=0.01)


def test_fine_heads_answer_for_every_cell():
    logits, codes = FineHeads(8, 3)(torch.rand(2, 8, 6, 6))
    assert logits.shape == (2, 4, 6, 6)
    assert codes.shape == (2, 12, 6, 6)


def test_centers_apart_have_codes_apart():
    codes = center_code(torch.tensor([[0.2, 0.5], [0.3, 0.5], [0.8, 0.5]]))
    near, far = codes[0] @ codes[1], codes[0] @ codes[2]
    assert codes[0] @ codes[0] > near > far


def test_tokens_start_with_boxes_around_themselves():
    heads = DenseHeads(width=8, concepts=3)
    torch.nn.init.zeros_(heads.box[-1].weight)
    torch.nn.init.zeros_(heads.box[-1].bias)
    logits, boxes = heads(torch.rand(2, 8, 4, 4))
    assert logits.shape == (2, 4, 4, 4)
    rows = torch.tensor([0.125, 0.375, 0.625, 0.875])
    torch.testing.assert_close(boxes[0, :, 0, 1], rows)
    torch.testing.assert_close(boxes[0, 0, :, 0], rows)


def test_attention_to_a_name_leaves_its_padding_out():
    model = tiny_model().eval()
    ids, mask = (part[0, :6] for part in name_tokens(TOKENIZER, BOOK.vocabulary, 32))
    names = torch.rand(6, ids.shape[1], 64)
    features = torch.rand(1, 64, 4, 4)
    with torch.no_grad():
        before = name_attention(model, features, names, mask)
        assert (mask == 0).any()
        assert before.shape == (3, 1, 4, 4, 6), "two fusion layers and the mask decoder"
        names[mask == 0] = 100.0
        torch.testing.assert_close(name_attention(model, features, names, mask), before)
        names[:, 0] = 1.0
        assert not torch.allclose(name_attention(model, features, names, mask), before)
