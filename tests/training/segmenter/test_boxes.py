import pytest
import torch

from training.segmenter.boxes import corners, generalized_iou


def test_corners_of_a_box():
    box = torch.tensor([0.5, 0.25, 0.2, 0.1])
    torch.testing.assert_close(corners(box), torch.tensor([0.4, 0.2, 0.6, 0.3]))


def test_giou_of_known_boxes():
    unit = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert generalized_iou(unit, unit).item() == pytest.approx(1.0)
    right_half = torch.tensor([0.5, 0.0, 1.0, 1.0])
    assert generalized_iou(unit, right_half).item() == pytest.approx(0.5)
    # Side by side with a gap of one: no overlap, a third of the hull is empty.
    beside = torch.tensor([2.0, 0.0, 3.0, 1.0])
    assert generalized_iou(unit, beside).item() == pytest.approx(-1 / 3)
