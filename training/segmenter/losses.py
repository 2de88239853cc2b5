"""What is wrong with the model's answers, as numbers to be made smaller.

After `matching` has said which query answers for which instance, on every decoder layer: boxes by
distance and GIoU, masks by cross-entropy and Dice on soft coverage. Class losses run over pairs
whose concept is there, presence over all: the score is their product, so each must be a calibrated
probability.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.segmenter.boxes import corners, generalized_iou
from training.segmenter.data import Pairs
from training.segmenter.dense import DenseTargets, center_code
from training.segmenter.detection import Detections
from training.segmenter.matching import match

_LEAST_AREA = 0.005  # share of the picture below which a sticker weighs less
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
    dense_fine: float = 2.0
    dense_center: float = 2.0
    center: float = 2.0

    @property
    def by_name(self) -> Mapping[str, float]:
        """The factors, each under the name of its part of the loss."""
        return {name.rstrip("_"): factor for name, factor in vars(self).items()}

    def changed(self, factors: Mapping[str, float]) -> "LossWeights":
        """The same but for the factors given, by names that `by_name` has."""
        return LossWeights(*{**self.by_name, **factors}.values())


def dense_losses(
    logits: Tensor, boxes: Tensor, attention: Tensor, truth: DenseTargets
) -> Mapping[str, Tensor]:
    """What the encoder alone gets wrong, token by token.

    Args:
        logits, boxes: of `dense.DenseHeads`.
        attention: of `dense.name_attention`.
        truth: the targets.
    """
    # Background is three quarters of a scene; the stickers must not drown in it.
    weight = torch.ones(logits.shape[-1], device=logits.device)
    weight[-1] = 0.3
    targets = truth.coverage * weight
    covered = (truth.coverage[..., :-1].sum(-1) > 0.4).float()
    distance = 4 * (boxes - truth.token_boxes).abs().sum(-1)
    distance = distance + 1 - generalized_iou(corners(boxes), corners(truth.token_boxes))
    shown = truth.coverage[..., :-1]
    missed = -(shown * functional.logsigmoid(attention)).sum((1, 2, 3, 4))
    missed = missed / shown.sum().clamp(min=1e-6)
    strayed = -((1 - shown) * functional.logsigmoid(-attention)).mean((1, 2, 3, 4))
    return {
        "dense_class": -(targets * logits.log_softmax(-1)).sum() / targets.sum(),
        "dense_box": (distance * covered).sum() / covered.sum().clamp(min=1),
        "dense_attention": missed.mean() + 3 * strayed.mean(),
    }


def fine_losses(logits: Tensor, codes: Tensor, truth: DenseTargets) -> Mapping[str, Tensor]:
    """What the finest level of the neck alone gets wrong, cell by cell.

    Args:
        logits, codes: of `dense.FineHeads`.
        truth: the targets.
    """
    weight = torch.ones(logits.shape[1], device=logits.device)
    weight[-1] = 0.4
    error = (codes - truth.fine_codes).square().mean(1)
    inside = (truth.fine_labels < logits.shape[1] - 1).float()
    return {
        "dense_fine": functional.cross_entropy(logits, truth.fine_labels, weight),
        "dense_center": (error * inside).sum() / inside.sum().clamp(min=1),
    }


def center_loss(codes: Tensor, pairs: Pairs, shown: Tensor) -> Mapping[str, Tensor]:
    """How far the pixels of wanted stickers are from the code of their sticker's center.

    Args:
        codes: read from the pixel embeddings, ``[s, 12, m, m]``.
        pairs: the truth.
        shown: which of the pairs the codes are of, ``[s]``.
    """
    coverage, owner = pairs.target_masks[shown].max(1)
    truth = center_code(pairs.target_boxes[shown][..., :2])
    rows = torch.arange(len(owner), device=owner.device)[:, None, None].expand_as(owner)
    error = (codes.permute(0, 2, 3, 1) - truth[rows, owner]).square().mean(-1)
    inside = (coverage > _INSIDE).float()
    return {"center": (error * inside).sum() / inside.sum().clamp(min=1)}


def detection_losses(detections: Detections, pairs: Pairs) -> Mapping[str, Tensor]:
    """All losses of the pairs, over the decoder layers."""
    query, wanted = match(detections, pairs)
    layers = len(query)
    # The last layer is the answer: it weighs as much as all the others.
    weights = torch.full((layers,), 0.5 / max(1, layers - 1), device=query.device)
    weights[-1] = 0.5
    shown, targets = detections.shown, query.shape[-1]
    found = wanted.sum().clamp(min=1)
    row = torch.arange(len(shown), device=query.device)[:, None]
    layer = torch.arange(layers, device=query.device)[:, None, None]

    boxes = detections.boxes[layer, shown[row], query][:, wanted]
    truth = pairs.target_boxes[shown, :targets][wanted].expand_as(boxes)
    masks = detections.masks(query)[:, wanted].flatten(2)
    coverage = pairs.target_masks[shown, :targets][wanted].flatten(1).expand_as(masks)

    hit = torch.zeros_like(detections.logits[:, shown])
    hit.scatter_(2, query, wanted.float().expand_as(query))
    class_loss = functional.binary_cross_entropy_with_logits(
        detections.logits[:, shown], hit, reduction="none"
    )
    present = (pairs.presence[shown] == 1).float()[:, None]

    def averaged(each: Tensor) -> Tensor:
        """Sum over all but the layers, per wanted instance, weighed over the layers."""
        return (each.flatten(1).sum(1) * weights).sum() / found

    return {
        "class": averaged(class_loss * present),
        "box": averaged((boxes - truth).abs()),
        "giou": averaged(1 - generalized_iou(corners(boxes), corners(truth))),
        "mask": averaged(_mask_loss(masks, coverage)),
        "dice": averaged(_dice_loss(masks, coverage)),
        "presence": (_presence_loss(detections.presence, pairs.presence) * weights).sum(),
        "semantic": _semantic_loss(detections.semantic, pairs.semantic[shown]),
    }


def total(parts: Mapping[str, Tensor], weights: LossWeights, dense_weight: float) -> Tensor:
    """The weighted sum of the named parts, dense ones times `dense_weight` as well."""
    factors = {
        name: factor * (dense_weight if name.startswith("dense") else 1.0)
        for name, factor in weights.by_name.items()
    }
    return torch.stack([factors[name] * value for name, value in parts.items()]).sum()


def _presence_loss(logits: Tensor, presence: Tensor) -> Tensor:
    """Of each layer: ``[l, n]`` → ``[l]``."""
    known = (presence >= 0).float()
    truth = presence.clamp(min=0).expand_as(logits)
    loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (loss * known).sum(1) / known.sum().clamp(min=1)


def _semantic_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    flat, truth = logits.flatten(1), coverage.flatten(1)
    present = (truth.sum(1) > 0).float()
    cross_entropy = functional.binary_cross_entropy_with_logits(flat, truth, reduction="none").mean(
        1
    )
    dice = _dice_loss(flat, truth) * present
    return 4 * cross_entropy.mean() + dice.sum() / present.sum().clamp(min=1)


def _mask_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    # Averaged over the sticker's own area and as much again around it, not over the whole
    # picture, where small stickers would weigh nothing.
    loss = functional.binary_cross_entropy_with_logits(logits, coverage, reduction="none").sum(-1)
    return loss / (2 * coverage.sum(-1) + _LEAST_AREA * coverage.shape[-1])


def _dice_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    likelihood = logits.sigmoid()
    shared = (likelihood * coverage).sum(-1)
    # Squares in the denominator make soft targets reachable (Milletari et al., 2016).
    return 1 - (2 * shared + 1) / ((likelihood**2).sum(-1) + (coverage**2).sum(-1) + 1)
