import dataclasses

import pytest
import torch

from services.stickers.segmenter.data import MAX_INSTANCES, Pairs
from services.stickers.segmenter.detection import Detections, centre_code
from services.stickers.segmenter.losses import (
    LossWeights,
    centre_loss,
    detection_losses,
    generalised_iou,
    match,
    total,
)

GRID, QUERIES = 8, 5
BOXES = torch.tensor([[0.25, 0.25, 0.25, 0.5], [0.75, 0.75, 0.5, 0.5]])


def two_stickers() -> Pairs:
    """One pair with two wanted stickers, and one whose concept is not there."""
    masks = torch.zeros(2, MAX_INSTANCES, GRID, GRID)
    masks[0, 0, 0:4, 1:3] = 1
    masks[0, 1, 4:8, 4:8] = 1
    boxes = torch.zeros(2, MAX_INSTANCES, 4)
    boxes[0, :2] = BOXES
    return Pairs(
        image=torch.tensor([0, 1]),
        input_ids=torch.zeros(2, 1, dtype=torch.long),
        attention_mask=torch.ones(2, 1, dtype=torch.long),
        boxes=torch.zeros(2, 0, 4),
        box_labels=torch.zeros(2, 0, dtype=torch.long),
        presence=torch.tensor([1.0, 0.0]),
        target_boxes=boxes,
        target_masks=masks,
        counts=torch.tensor([2, 0]),
        semantic=masks.sum(1),
    )


def perfect(pairs: Pairs, queries: tuple[int, int], layers: int = 2) -> Detections:
    """Right answers, given by two of the queries."""
    logits = torch.full((layers, 2, QUERIES), -12.0)
    boxes = torch.full((layers, 2, QUERIES, 4), 0.5)
    masks = torch.full((layers, 2, QUERIES, GRID, GRID), -12.0)
    for target, query in enumerate(queries):
        logits[:, 0, query] = 12.0
        boxes[:, 0, query] = BOXES[target]
        masks[:, 0, query] = (pairs.target_masks[0, target] - 0.5) * 24
    return Detections(
        logits=logits,
        boxes=boxes,
        presence=torch.tensor([[10.0, -10.0]]).repeat(layers, 1),
        masks=masks,
        semantic=(pairs.semantic - 0.5) * 24,
        pixels=torch.zeros(2, 1, GRID, GRID),
    )


def test_giou_of_known_boxes():
    unit = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert generalised_iou(unit, unit).item() == pytest.approx(1.0)
    right_half = torch.tensor([0.5, 0.0, 1.0, 1.0])
    assert generalised_iou(unit, right_half).item() == pytest.approx(0.5)
    # Side by side with a gap of one: no overlap, a third of the hull is empty.
    beside = torch.tensor([2.0, 0.0, 3.0, 1.0])
    assert generalised_iou(unit, beside).item() == pytest.approx(-1 / 3)


def test_matching_finds_the_right_queries():
    pairs = two_stickers()
    pair, query, target = match(perfect(pairs, (3, 1)), pairs, layer=0)
    assert pair.tolist() == [0, 0]
    assert dict(zip(target.tolist(), query.tolist(), strict=True)) == {0: 3, 1: 1}


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
        ("masks", "mask"),
        ("masks", "dice"),
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


def test_an_unsure_presence_is_not_trained():
    pairs = dataclasses.replace(two_stickers(), presence=torch.tensor([-1.0, -1.0]))
    assert detection_losses(perfect(pairs, (0, 1)), pairs)["presence"].item() == 0.0


def test_a_batch_without_any_sticker_still_has_a_loss():
    pairs = dataclasses.replace(
        two_stickers(), counts=torch.zeros(2, dtype=torch.long), presence=torch.zeros(2)
    )
    parts = detection_losses(perfect(pairs, (0, 1)), pairs)
    assert parts["box"].item() == 0.0
    assert torch.isfinite(total(parts, LossWeights()))


def test_pixels_must_tell_where_their_own_stickers_centre_is():
    pairs = two_stickers()
    left, right = centre_code(BOXES[:, :2])
    codes = torch.zeros(2, 12, GRID, GRID)
    codes[0, :, 0:4, 1:3] = left[:, None, None]
    codes[0, :, 4:8, 4:8] = right[:, None, None]
    assert centre_loss(codes, pairs)["centre"].item() == pytest.approx(0.0, abs=1e-6)
    # The same code for both, or the pixels outside them: only the first is an error.
    codes[0, :, 4:8, 4:8] = left[:, None, None]
    assert centre_loss(codes, pairs)["centre"] > 0.2
    codes[0, :, 4:8, 4:8] = right[:, None, None]
    codes[1] = 5.0
    assert centre_loss(codes, pairs)["centre"].item() == pytest.approx(0.0, abs=1e-6)


def test_centres_apart_have_codes_apart():
    codes = centre_code(torch.tensor([[0.2, 0.5], [0.3, 0.5], [0.8, 0.5]]))
    near, far = codes[0] @ codes[1], codes[0] @ codes[2]
    assert codes[0] @ codes[0] > near > far
