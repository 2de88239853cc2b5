"""What is wrong with the model's answers: matching of queries to stickers, and the losses.

Hungarian one-to-one matching after DETR (Carion et al., 2020) on every decoder layer; masks by
cross-entropy and Dice on soft coverage. Class losses run over pairs whose concept is there,
presence over all: the score is their product, so each must be a calibrated probability.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from services.stickers.segmenter.data import Batch, Pairs
from services.stickers.segmenter.detection import Detections, centre_code, corners

_INSIDE = 0.5  # share of a cell from which it belongs to the sticker


@dataclass(frozen=True)
class LossWeights:
    """Factors on the parts of the loss."""

    class_: float = 2.0
    box: float = 4.0
    giou: float = 1.5
    mask: float = 3.0
    dice: float = 4.0
    presence: float = 1.5
    semantic: float = 1.5
    dense_class: float = 1.0
    dense_attention: float = 0.5
    dense_box: float = 1.5
    centre: float = 2.0


def dense_losses(
    logits: Tensor, boxes: Tensor, attention: Tensor, batch: Batch
) -> Mapping[str, Tensor]:
    """What the encoder alone gets wrong, token by token.

    Args:
        logits, boxes: of `DenseHeads`.
        attention: of `name_attention`.
        batch: holds the truth.
    """
    # Background is three quarters of a scene; the stickers must not drown in it.
    weight = torch.ones(logits.shape[-1])
    weight[-1] = 0.3
    targets = batch.coverage * weight
    covered = (batch.coverage[..., :-1].sum(-1) > 0.4).float()
    distance = 4 * (boxes - batch.token_boxes).abs().sum(-1)
    distance = distance + 1 - generalised_iou(corners(boxes), corners(batch.token_boxes))
    shown = batch.coverage[..., :-1]
    missed = -(shown * functional.logsigmoid(attention)).sum((1, 2, 3, 4)) / shown.sum()
    strayed = -((1 - shown) * functional.logsigmoid(-attention)).mean((1, 2, 3, 4))
    return {
        "dense_class": -(targets * logits.log_softmax(-1)).sum() / targets.sum(),
        "dense_box": (distance * covered).sum() / covered.sum().clamp(min=1),
        "dense_attention": missed.mean() + 3 * strayed.mean(),
    }


def centre_loss(codes: Tensor, pairs: Pairs) -> Mapping[str, Tensor]:
    """How far the pixels of wanted stickers are from the code of their sticker's centre.

    Args:
        codes: read from the pixel embeddings, ``[n, 12, m, m]``.
        pairs: the truth.
    """
    coverage, owner = pairs.target_masks.max(1)
    truth = centre_code(pairs.target_boxes[..., :2])
    rows = torch.arange(len(owner))[:, None, None].expand_as(owner)
    error = (codes.permute(0, 2, 3, 1) - truth[rows, owner]).square().mean(-1)
    inside = (coverage > _INSIDE).float()
    return {"centre": (error * inside).sum() / inside.sum().clamp(min=1)}


def detection_losses(detections: Detections, pairs: Pairs) -> Mapping[str, Tensor]:
    """All losses of the pairs, over the decoder layers."""
    layers = detections.logits.shape[0]
    each = [_layer_losses(detections, pairs, layer) for layer in range(layers)]
    # The last layer is the answer: it weighs as much as all the others.
    weights = [0.5 / max(1, layers - 1)] * (layers - 1) + [0.5]
    parts = {
        name: sum((w * part[name] for w, part in zip(weights, each, strict=True)), torch.zeros(()))
        for name in each[-1]
    }
    parts["semantic"] = _semantic_loss(detections.semantic, pairs)
    return parts


def total(parts: Mapping[str, Tensor], weights: LossWeights) -> Tensor:
    """The weighted sum of the named parts."""
    factors = {"class": weights.class_, **vars(weights)}
    return sum((factors[name] * value for name, value in parts.items()), torch.zeros(()))


def generalised_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU of boxes x0 y0 x1 y1 that broadcast against each other (Rezatofighi et al., 2019)."""
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(
        -1
    )
    union = (areas - shared).clamp(min=1e-6)
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(
        first[..., :2], second[..., :2]
    )
    hull_area = hull.clamp(min=0).prod(-1).clamp(min=1e-6)
    return shared / union - (hull_area - union) / hull_area


@torch.no_grad()
def match(detections: Detections, pairs: Pairs, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best one-to-one matching of targets to queries.

    Returns:
        Pair, query and target indices of the matches, each ``[matches]``.
    """
    logits, boxes = detections.logits[layer], detections.boxes[layer]
    target = pairs.target_boxes
    distance = (boxes[:, :, None] - target[:, None]).abs().sum(-1)
    giou = generalised_iou(corners(boxes)[:, :, None], corners(target)[:, None])
    likelihood = detections.masks[layer].flatten(2).sigmoid()
    truth = pairs.target_masks.flatten(2)
    shared = torch.einsum("nqp,ntp->nqt", likelihood, truth)
    dice = (2 * shared + 1) / (likelihood.sum(-1)[:, :, None] + truth.sum(-1)[:, None] + 1)
    cost = 5 * distance - 2 * giou - 3 * dice - 2 * logits.sigmoid()[..., None]
    rows: list[np.ndarray] = []
    for pair, (matrix, count) in enumerate(zip(cost.numpy(), pairs.counts.tolist(), strict=True)):
        if count:
            queries, targets = linear_sum_assignment(matrix[:, :count])
            rows.append(np.stack([np.full(count, pair), queries, targets]))
    matched = np.concatenate(rows, 1) if rows else np.zeros((3, 0), int)
    pair_index, query_index, target_index = torch.from_numpy(matched).long()
    return pair_index, query_index, target_index


def _layer_losses(detections: Detections, pairs: Pairs, layer: int) -> dict[str, Tensor]:
    pair, query, target = match(detections, pairs, layer)
    found = max(1, len(pair))
    logits = detections.logits[layer]
    wanted = torch.zeros_like(logits)
    wanted[pair, query] = 1.0
    present = (pairs.presence == 1).float()[:, None]
    class_loss = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    boxes, truth = detections.boxes[layer][pair, query], pairs.target_boxes[pair, target]
    masks = detections.masks[layer][pair, query].flatten(1)
    coverage = pairs.target_masks[pair, target].flatten(1)
    return {
        "class": (class_loss * present).sum() / found,
        "box": (boxes - truth).abs().sum() / found,
        "giou": (1 - generalised_iou(corners(boxes), corners(truth))).sum() / found,
        "mask": _mask_loss(masks, coverage).sum() / found,
        "dice": _dice_loss(masks, coverage).sum() / found,
        "presence": _presence_loss(detections.presence[layer], pairs.presence),
    }


def _presence_loss(logits: Tensor, presence: Tensor) -> Tensor:
    known = (presence >= 0).float()
    loss = functional.binary_cross_entropy_with_logits(
        logits, presence.clamp(min=0), reduction="none"
    )
    return (loss * known).sum() / known.sum().clamp(min=1)


def _semantic_loss(logits: Tensor, pairs: Pairs) -> Tensor:
    flat, truth = logits.flatten(1), pairs.semantic.flatten(1)
    present = (truth.sum(1) > 0).float()
    cross_entropy = functional.binary_cross_entropy_with_logits(flat, truth, reduction="none").mean(
        1
    )
    dice = _dice_loss(flat, truth) * present
    return 4 * cross_entropy.mean() + dice.sum() / present.sum().clamp(min=1)


def _mask_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    # Averaged over the sticker's own area and as much again around it, not over the whole
    # picture, where small stickers would weigh nothing.
    loss = functional.binary_cross_entropy_with_logits(logits, coverage, reduction="none").sum(1)
    return loss / (2 * coverage.sum(1) + 8)


def _dice_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    likelihood = logits.sigmoid()
    shared = (likelihood * coverage).sum(1)
    # Squares in the denominator make soft targets reachable (Milletari et al., 2016).
    return 1 - (2 * shared + 1) / ((likelihood**2).sum(1) + (coverage**2).sum(1) + 1)
