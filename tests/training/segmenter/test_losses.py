import dataclasses

import pytest
import torch

from tests.training.segmenter.answers import BOXES, GRID, perfect, two_stickers
from training.segmenter.dense import DenseTargets, center_code
from training.segmenter.losses import (
    LossWeights,
    center_loss,
    dense_losses,
    detection_losses,
    fine_losses,
    total,
)


def test_right_answers_cost_next_to_nothing():
    pairs = two_stickers()
    for name, value in detection_losses(perfect(pairs, (0, 4)), pairs).items():
        assert value.item() == pytest.approx(0.0, abs=0.02), name


@pytest.mark.parametrize(
    ("field", "part"),
    [
        ("logits", "class"),
        ("boxes", "box"),
        ("boxes", "giou"),
        ("queries", "mask"),
        ("queries", "dice"),
        ("presence", "presence"),
        ("semantic", "semantic"),
    ],
)
def test_each_wrong_answer_costs_its_part(field: str, part: str):
    pairs = two_stickers()
    right = perfect(pairs, (0, 4))
    blurred = getattr(right, field) * (0.7 if field == "boxes" else 0.05)
    wrong = dataclasses.replace(right, **{field: blurred})
    assert detection_losses(wrong, pairs)[part] > detection_losses(right, pairs)[part] + 0.05


def test_the_last_layer_weighs_as_much_as_all_the_others():
    pairs = two_stickers()
    right = perfect(pairs, (0, 4), layers=3)

    def cost(layer: int) -> float:
        logits = right.logits.clone()
        logits[layer] = 0.0
        return detection_losses(dataclasses.replace(right, logits=logits), pairs)["class"].item()

    assert cost(2) == pytest.approx(cost(0) + cost(1), rel=1e-3)
    assert cost(0) == pytest.approx(cost(1), rel=1e-3)


def test_an_unsure_presence_is_not_trained():
    pairs = dataclasses.replace(two_stickers(), presence=torch.tensor([-1.0, -1.0]))
    assert detection_losses(perfect(pairs, (0, 1)), pairs)["presence"].item() == 0.0


def test_a_batch_without_any_sticker_still_has_a_loss():
    pairs = dataclasses.replace(
        two_stickers(), counts=torch.zeros(2, dtype=torch.long), presence=torch.zeros(2)
    )
    parts = detection_losses(perfect(pairs, (0, 1)), pairs)
    assert parts["box"].item() == parts["mask"].item() == parts["class"].item() == 0.0
    assert parts["presence"] > 1
    assert torch.isfinite(total(parts, LossWeights(), 1.0))


def test_pixels_must_tell_where_their_own_stickers_center_is():
    pairs, shown = two_stickers(), torch.tensor([0])
    left, right = center_code(BOXES[:, :2])
    codes = torch.zeros(1, 12, GRID, GRID)
    codes[0, :, 0:8, 2:6] = left[:, None, None]
    codes[0, :, 8:16, 8:16] = right[:, None, None]
    assert center_loss(codes, pairs, shown)["center"].item() == pytest.approx(0.0, abs=1e-6)
    # The same code for both is an error, pixels outside them are not.
    codes[0, :, 8:16, 8:16] = left[:, None, None]
    assert center_loss(codes, pairs, shown)["center"] > 0.2
    codes[0, :, 8:16, 8:16] = right[:, None, None]
    codes[0, :, :, 0] = 5.0
    assert center_loss(codes, pairs, shown)["center"].item() == pytest.approx(0.0, abs=1e-6)


def one_sticker() -> DenseTargets:
    """The second of two concepts on two of 4 x 4 tokens, and on two of 4 x 4 cells."""
    coverage = torch.zeros(1, 4, 4, 3)
    coverage[..., 2] = 1
    coverage[0, 0, :2] = torch.tensor([0.0, 1.0, 0.0])
    codes = center_code(torch.tensor([0.25, 0.125]))[None, :, None, None].expand(1, 12, 4, 4)
    return DenseTargets(coverage, torch.full((1, 4, 4, 4), 0.5), coverage.argmax(-1), codes)


def test_tokens_must_name_what_they_show_and_say_where_it_lies():
    truth = one_sticker()
    # Attention names the second concept on its two tokens and nothing anywhere else.
    attention = (truth.coverage[None, ..., :2] - 0.5) * 24
    right = dense_losses((truth.coverage - 0.5) * 24, truth.token_boxes, attention, truth)
    for name, value in right.items():
        assert value.item() == pytest.approx(0.0, abs=0.01), name
    mixed = (truth.coverage[..., [1, 0, 2]] - 0.5) * 24
    wrong = dense_losses(mixed, truth.token_boxes * 0.8, attention.flip(-1), truth)
    for name, value in wrong.items():
        assert value > right[name] + 0.1, name


def test_cells_must_name_what_they_show_and_whose_they_are():
    truth = one_sticker()
    logits = (truth.coverage.permute(0, 3, 1, 2) - 0.5) * 24
    for name, value in fine_losses(logits, truth.fine_codes, truth).items():
        assert value.item() == pytest.approx(0.0, abs=0.01), name
    wrong = fine_losses(logits.flip(1), truth.fine_codes.flip(1), truth)
    assert min(wrong.values()) > 0.1
    # Where nothing lies, a code is nobody's.
    elsewhere = truth.fine_codes.clone()
    elsewhere[..., 2:] = 5.0
    assert fine_losses(logits, elsewhere, truth)["dense_center"].item() == 0.0


def test_the_total_weighs_every_part():
    weights = LossWeights()
    for name in ("class", "box", "giou", "mask", "dice", "presence", "semantic", "center"):
        factor = weights.class_ if name == "class" else getattr(weights, name)
        assert total({name: torch.tensor(2.0)}, weights, 1.0).item() == 2 * factor
