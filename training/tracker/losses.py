"""The losses of masklets: focal and Dice of masks, their predicted IoU, and presence.

The parts and their weights are those of SAM 2 (Ravi et al., 2024, appendix D.2): focal and Dice 20
to 1, IoU by its distance, being there by cross-entropy. Where an object is not seen, only the last
counts. Of several masks the best is trained.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from training.tracker.tracking import FrameTrack

WEIGHTS = {"focal": 20.0, "dice": 1.0, "iou": 1.0, "score": 1.0}
LEAST_CELLS = 3.0  # of coverage from which an object counts as seen
_HIDDEN = 1.5  # how much more being hidden counts, which is rare


def tracking_losses(track: FrameTrack, coverage: Tensor) -> Mapping[str, Tensor]:
    """Of one frame.

    Args:
        track: the tracker's answer, n objects.
        coverage: the truth, ``[n, g, g]``, 0 to 1.

    Returns:
        Scalars: parts of the loss, and `mean_iou`, the IoU of the masks where there is something.
    """
    truth = coverage.flatten(1)
    cells = truth.sum(1)
    seen = (cells >= LEAST_CELLS).float()
    # Wrongly taken for seen, an object behind its like takes the other's place: ids swap.
    weight = seen + _HIDDEN * (cells == 0).float()
    logits = track.masks.flatten(2)
    target = truth[:, None].expand_as(logits)
    likelihood = logits.sigmoid()
    # Soft targets: the focal factor is the distance to them (Li et al., 2020).
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focal = ((likelihood - target).square() * entropy).mean(-1)
    shared = (likelihood * target).sum(-1)
    extent = likelihood.square().sum(-1) + target.square().sum(-1)
    dice = 1 - (2 * shared + 1) / (extent + 1)
    with torch.no_grad():
        inside, wanted = logits > 0, target >= 0.5
        both = (inside & wanted).sum(-1).float()
        iou = both / (inside | wanted).sum(-1).clamp(min=1)
        best = (WEIGHTS["focal"] * focal + WEIGHTS["dice"] * dice).argmin(-1)
    row = torch.arange(len(best), device=best.device)
    count = seen.sum().clamp(min=1)
    distance = (track.ious - iou).abs().mean(-1)
    score = functional.binary_cross_entropy_with_logits(track.scores, seen, reduction="none")
    return {
        "focal": (focal[row, best] * seen).sum() / count,
        "dice": (dice[row, best] * seen).sum() / count,
        "iou": (distance * seen).sum() / count,
        "score": (score * weight).sum() / weight.sum().clamp(min=1),
        "mean_iou": (iou[row, track.chosen] * seen).sum() / count,
    }


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum of the parts."""
    return torch.stack([WEIGHTS[name] * losses[name] for name in WEIGHTS]).sum()
