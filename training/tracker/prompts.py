"""Prompts from true masks: as imperfect as a detector's, or boxes and points."""

import torch
from torch import Tensor
from torch.nn import functional


def perturbed(coverage: Tensor, strength: Tensor) -> Tensor:
    """Masks whose outlines wander, as a detector's do.

    Args:
        coverage: ``[n, g, g]``, 0 to 1.
        strength: of each, 0 for the true mask, ``[n]``.

    Returns:
        0 or 1, ``[n, 1, g, g]``; the true mask where nothing would be left.
    """
    count, side = len(coverage), coverage.shape[-1]
    soft = functional.avg_pool2d(coverage[:, None], 5, 1, 2, count_include_pad=False)
    noise = torch.randn(count, 1, 10, 10).to(coverage.device)
    noise = functional.interpolate(noise, (side, side), mode="bicubic")
    shift = torch.randn(count, 1, 1, 1).to(coverage.device)
    amount = strength[:, None, None, None]
    wandering = torch.where(amount > 0, soft + amount * (noise + 0.5 * shift), coverage[:, None])
    mask = (wandering > 0.5).to(coverage.dtype)
    # Noise far from the object does not belong to it.
    near = functional.max_pool2d((coverage[:, None] > 0).to(coverage.dtype), 9, 1, 4)
    mask = mask * near
    true = (coverage[:, None] >= 0.5).to(coverage.dtype)
    return torch.where(mask.flatten(1).sum(1)[:, None, None, None] > 3, mask, true)


def box_points(coverage: Tensor, image: int) -> tuple[Tensor, Tensor]:
    """Boxes, a little off, as the two corner points that trackers take them for.

    Args:
        coverage: ``[n, g, g]``.
        image: side of the picture.

    Returns:
        Points in pixels, ``[n, 1, 2, 2]``, and their labels, ``[n, 1, 2]``.
    """
    side = coverage.shape[-1]
    inside = coverage >= 0.5
    lines = torch.arange(side, device=coverage.device, dtype=coverage.dtype)
    corners = []
    for axis in (1, 2):
        any_line = inside.any(axis)
        low = torch.where(any_line, lines, side).amin(1)
        high = torch.where(any_line, lines, -1).amax(1) + 1
        corners.append(torch.stack([low.minimum(high), high], -1))
    points = torch.stack(corners, -1) * (image / side)  # [n, 2, (x, y)]
    extent = (points[:, 1:] - points[:, :1]).abs()
    jitter = torch.randn(points.shape).to(points.device).clamp(-2, 2)
    points = points + 0.04 * extent * jitter
    labels = torch.tensor([2, 3], device=points.device).expand(len(points), 1, 2)
    return points[:, None].clamp(0, image), labels


def inner_points(coverage: Tensor, image: int) -> tuple[Tensor, Tensor]:
    """One point inside each object; returns as `box_points`, with one point each."""
    side = coverage.shape[-1]
    weights = coverage.flatten(1).square() + 1e-6
    cell = torch.multinomial(weights.cpu(), 1)[:, 0].to(coverage.device)
    points = torch.stack([cell % side, cell // side], -1).to(coverage.dtype) + 0.5
    labels = torch.ones(len(points), 1, 1, dtype=torch.int64, device=points.device)
    return (points * (image / side))[:, None, None], labels
