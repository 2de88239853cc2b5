"""A model's grids, and instances on them: the share of each cell that the visible pixels fill.

Soft shares, not yes or no: what a mask of few cells can say at best about an outline.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from transformers import Sam3Config

from training.world.scenes import SceneInstance


@dataclass(frozen=True)
class Grids:
    """How finely a model sees, a side.

    Attributes:
        image: pixels of its input.
        tokens: tokens of the fusion level, which the detector looks at.
        masks: cells of its masks.
    """

    image: int
    tokens: int
    masks: int

    @classmethod
    def of(cls, config: Sam3Config) -> Self:
        """Those of any SAM 3."""
        backbone, scales = config.vision_config.backbone_config, config.vision_config.scale_factors
        patches = backbone.image_size // backbone.patch_size
        # The neck's levels go from fine to coarse; the last, half as fine as patches, is unused.
        return cls(backbone.image_size, round(patches * scales[-2]), round(patches * scales[0]))


def coverage(instance: SceneInstance, grid: int) -> Tensor:
    """Share of each grid cell that the instance fills, ``[grid, grid]``.

    Exact area averages: each pixel is shared out between the cells it straddles, rows and
    columns apart, and only inside the instance's box.
    """
    (x0, y0, x1, y1), (width, height) = instance.box, instance.frame
    rows = _sharing(y0, y1, height, grid)
    columns = _sharing(x0, x1, width, grid)
    return torch.from_numpy(rows @ instance.visible.astype(np.float32) @ columns.T)


def normalized_box(instance: SceneInstance) -> tuple[float, float, float, float]:
    """Its box as cx cy w h, as shares of the picture's sides."""
    (x0, y0, x1, y1), (width, height) = instance.box, instance.frame
    return (x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height


def _sharing(low: int, high: int, length: int, grid: int) -> np.ndarray:
    """``[grid, high - low]``: which share of each cell each pixel covers, along one axis."""
    cell = length / grid
    edges = np.arange(grid, dtype=np.float32)[:, None] * cell
    pixels = np.arange(low, high, dtype=np.float32)[None]
    overlap = np.minimum(edges + cell, pixels + 1) - np.maximum(edges, pixels)
    share: np.ndarray = np.clip(overlap, 0, None) / cell
    return share.astype(np.float32)
