"""Region pooling in plain torch, for machines without torchvision.

transformers' SAM 3 calls ``torchvision.ops.roi_align`` for exemplar boxes; the CPU wheel of
torchvision cannot be imported beside the CPU wheel of torch. The trainers and the segmenter's
engine call `install_roi_align` once before the first exemplar.
"""

import importlib
import importlib.util
import types
from collections.abc import Sequence

import torch
from torch import Tensor


def roi_align(
    features: Tensor,
    boxes: Sequence[Tensor],
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = -1,
    aligned: bool = False,
) -> Tensor:
    """Average bilinear samples of each bin of each box, as ``torchvision.ops.roi_align`` does.

    After He et al., "Mask R-CNN" (2017), section 3; defaults are torchvision's. Differentiable
    in the features.

    Args:
        features: float ``[b, c, h, w]``.
        boxes: one ``[n_i, 4]`` tensor of x0 y0 x1 y1 an image, in the input's coordinates.
        output_size: bins, height and width.
        spatial_scale: from the boxes' coordinates to the features'.
        sampling_ratio: samples a bin and side; -1 takes as many as the bin is cells long.
        aligned: shift by half a cell and allow boxes below one cell.

    Returns:
        ``[sum n_i, c, *output_size]``.

    Raises:
        ValueError: the number of box tensors is not the batch size.
    """
    if len(boxes) != features.shape[0]:
        raise ValueError(f"{len(boxes)} box tensors for a batch of {features.shape[0]}")
    size = (output_size, output_size) if isinstance(output_size, int) else output_size
    pooled = [
        _pooled(image, box * spatial_scale - 0.5 * aligned, size, sampling_ratio, aligned)
        for image, image_boxes in zip(features, boxes, strict=True)
        for box in image_boxes
    ]
    return torch.stack(pooled) if pooled else features.new_zeros((0, features.shape[1], *size))


def install_roi_align() -> None:
    """Give transformers' SAM 3 our `roi_align`, where there is no torchvision. Idempotent."""
    # By its full name: the package's lazy loader hides the module where torchvision is missing.
    modeling_sam3 = importlib.import_module("transformers.models.sam3.modeling_sam3")
    if hasattr(modeling_sam3, "torchvision") or importlib.util.find_spec("torchvision"):
        return
    operators = types.SimpleNamespace(roi_align=roi_align)
    vars(modeling_sam3)["torchvision"] = types.SimpleNamespace(ops=operators)


def _pooled(
    image: Tensor, box: Tensor, size: tuple[int, int], sampling_ratio: int, aligned: bool
) -> Tensor:
    x0, y0, x1, y1 = box.tolist()
    extent = (y1 - y0, x1 - x0)
    if not aligned:
        extent = (max(extent[0], 1.0), max(extent[1], 1.0))
    rows = _sampling_matrix(y0, extent[0], size[0], image.shape[1], sampling_ratio)
    columns = _sampling_matrix(x0, extent[1], size[1], image.shape[2], sampling_ratio)
    return rows.to(image) @ image @ columns.to(image).T


def _sampling_matrix(start: float, extent: float, bins: int, cells: int, ratio: int) -> Tensor:
    """Weights ``[bins, cells]`` of the cells along one axis; bilinear sampling is separable.

    Samples more than one cell outside count as zero, those at the rim as the rim, as in
    torchvision's kernel.
    """
    step = extent / bins
    samples = ratio if ratio > 0 else max(1, -int(-step // 1))
    offsets = (torch.arange(samples, dtype=torch.float64) + 0.5) / samples
    at = start + (torch.arange(bins, dtype=torch.float64)[:, None] + offsets) * step
    inside = (at >= -1.0) & (at <= cells)
    at = at.clamp(0, cells - 1)
    low = at.floor().long().clamp(max=cells - 1)
    high = (low + 1).clamp(max=cells - 1)
    share = at - low
    weights = torch.zeros(bins, cells, dtype=torch.float64)
    weights.scatter_add_(1, low, (1 - share) * inside)
    weights.scatter_add_(1, high, share * inside)
    return weights / samples
