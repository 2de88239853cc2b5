"""Boxes as the model writes them and how well two of them agree; matching and losses use both."""

import torch
from torch import Tensor


def corners(boxes: Tensor) -> Tensor:
    """cx cy w h → x0 y0 x1 y1, both ``[..., 4]``."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([center - half, center + half], -1)


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU of boxes x0 y0 x1 y1 that broadcast against each other (Rezatofighi et al., 2019).

    1 where they are equal, 0 where they touch without a gap, toward -1 the further they are apart.
    """
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
