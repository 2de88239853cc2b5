"""Which query answers for which target: Hungarian matching after DETR (Carion et al., 2020).

Between `detection` and `losses`. The assignment itself is scipy's, on the CPU, whatever device
the model is on; nothing is differentiated through it.
"""

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn import functional

from training.segmenter.boxes import corners, generalized_iou
from training.segmenter.data import Pairs
from training.segmenter.detection import Detections

_STRIDE = 4  # of the mask grid: who fits whom shows on the coarse one as well


@torch.no_grad()
def match(detections: Detections, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """The best one-to-one matching of targets to queries, on every layer.

    Args:
        detections: of l decoder layers, masks of s shown pairs.
        pairs: the truth; no pair has more targets than the model has queries.

    Returns:
        The query of each target of the shown pairs, ``[l, s, t]`` with t the most targets that
        any of them has, and which targets are real, bool ``[s, t]``; the others' query is one
        that no target has.
    """
    counts = pairs.counts[detections.shown]
    each = counts.tolist()
    most = max(1, *each)
    costs = _costs(detections, pairs, most).cpu().numpy()
    matched = np.zeros((len(costs), len(each), most), np.int64)
    for layer, row in np.ndindex(*matched.shape[:2]):
        count = each[row]
        queries, targets = linear_sum_assignment(costs[layer, row, :, :count])
        free = np.setdiff1d(np.arange(costs.shape[2]), queries)
        matched[layer, row, targets] = queries
        matched[layer, row, count:] = free[: most - count]
    real = torch.arange(most, device=counts.device) < counts[:, None]
    return torch.from_numpy(matched).to(counts.device), real


def _costs(detections: Detections, pairs: Pairs, most: int) -> Tensor:
    """How badly each query fits each of the first `most` targets, ``[l, s, q, most]``."""
    shown = detections.shown
    logits, boxes = detections.logits[:, shown], detections.boxes[:, shown]
    target = pairs.target_boxes[shown, :most]
    distance = (boxes[:, :, :, None] - target[:, None]).abs().sum(-1)
    giou = generalized_iou(corners(boxes)[:, :, :, None], corners(target)[:, None])
    likelihood = detections.coarse_masks(_STRIDE).flatten(3).sigmoid()
    truth = functional.avg_pool2d(pairs.target_masks[shown, :most], _STRIDE).flatten(2)
    shared = torch.einsum("lsqp,stp->lsqt", likelihood, truth)
    areas = likelihood.sum(-1)[..., None] + truth.sum(-1)[:, None]
    dice = (2 * shared + 1) / (areas + 1)
    return 5 * distance - 2 * giou - 3 * dice - 2 * logits.sigmoid()[..., None]
