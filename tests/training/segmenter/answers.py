"""Made-up answers of a model to two small pairs, right ones to begin with."""

import torch

from training.segmenter.data import Pairs
from training.segmenter.detection import Detections

GRID, QUERIES = 16, 5
BOXES = torch.tensor([[0.25, 0.25, 0.25, 0.5], [0.75, 0.75, 0.5, 0.5]])


def two_stickers() -> Pairs:
    """One pair with two wanted stickers, and one whose concept is not there."""
    masks = torch.zeros(2, 3, GRID, GRID)
    masks[0, 0, 0:8, 2:6] = 1
    masks[0, 1, 8:16, 8:16] = 1
    boxes = torch.zeros(2, 3, 4)
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
    """Right answers to the first pair, given by two of the queries; its masks alone are shown.

    Pixel embeddings have a channel a target and one for "nowhere".
    """
    logits = torch.full((layers, 2, QUERIES), -12.0)
    boxes = torch.full((layers, 2, QUERIES, 4), 0.5)
    drawn = torch.zeros(layers, 1, QUERIES, 3)
    drawn[..., 2] = -12.0
    for target, query in enumerate(queries):
        logits[:, 0, query] = 12.0
        boxes[:, 0, query] = BOXES[target]
        drawn[:, 0, query, target] = 24.0
    pixels = torch.cat([pairs.target_masks[0, :2], torch.ones(1, GRID, GRID)])
    return Detections(
        logits=logits,
        boxes=boxes,
        presence=torch.tensor([[10.0, -10.0]]).repeat(layers, 1),
        shown=torch.tensor([0]),
        queries=drawn,
        pixels=pixels[None],
        semantic=(pairs.semantic[:1] - 0.5) * 24,
    )
