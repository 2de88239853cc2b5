import importlib

import pytest
import torch

from services.segmenter.operators import install_roi_align, roi_align


def test_roi_align_of_a_ramp_is_the_mean_of_the_ramp():
    # On f(x, y) = x + 10 y bilinear sampling is exact, so each bin is f at the bin's center.
    ys, xs = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    pooled = roi_align((xs + 10 * ys)[None, None], [torch.tensor([[1.0, 2.0, 5.0, 4.0]])], 2)
    expected = torch.tensor([[2 + 25.0, 4 + 25.0], [2 + 35.0, 4 + 35.0]])
    torch.testing.assert_close(pooled[0, 0], expected)


def test_roi_align_by_hand_on_one_bin():
    # One bin of 1 x 1 at (0.5, 0.5): one sample at its center (1, 1), the cell's own value.
    features = torch.arange(9.0).view(1, 1, 3, 3)
    pooled = roi_align(features, [torch.tensor([[0.5, 0.5, 1.5, 1.5]])], 1)
    assert pooled.item() == 4.0
    # Not aligned, a box below one cell is widened to one; aligned, it is shifted by half.
    small = roi_align(features, [torch.tensor([[0.5, 0.5, 0.6, 0.6]])], 1)
    assert small.item() == 4.0
    aligned = roi_align(features, [torch.tensor([[0.5, 0.5, 1.5, 1.5]])], 1, aligned=True)
    assert aligned.item() == pytest.approx(2.0)


def test_roi_align_counts_samples_far_outside_as_zero():
    features = torch.ones(1, 1, 4, 4)
    pooled = roi_align(features, [torch.tensor([[-8.0, 0.0, 8.0, 4.0]])], (1, 1))
    # Of sixteen columns of samples those at -0.5 … 3.5 and the rim up to 4 count.
    assert pooled.item() == pytest.approx(5 / 16)


def test_roi_align_keeps_the_order_of_images_and_passes_gradients():
    features = torch.stack([torch.zeros(2, 4, 4), torch.ones(2, 4, 4)]).requires_grad_()
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    pooled = roi_align(features, [box, box.repeat(2, 1)], 3)
    assert pooled.shape == (3, 2, 3, 3)
    assert pooled.detach().mean((1, 2, 3)).tolist() == [0.0, 1.0, 1.0]
    pooled.sum().backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_roi_align_wants_one_tensor_of_boxes_an_image():
    with pytest.raises(ValueError, match="1 box tensors for a batch of 2"):
        roi_align(torch.zeros(2, 1, 4, 4), [torch.zeros(1, 4)], 2)
    assert roi_align(torch.zeros(1, 3, 4, 4), [torch.zeros(0, 4)], 2).shape == (0, 3, 2, 2)


def test_installing_lets_sam3_pool_exemplars():
    install_roi_align()
    install_roi_align()
    sam3 = importlib.import_module("transformers.models.sam3.modeling_sam3")
    pooled = sam3.torchvision.ops.roi_align(torch.ones(1, 2, 4, 4), [torch.ones(1, 4)], 3)
    assert pooled.shape == (1, 2, 3, 3)
