"""Connected areas, held against scipy's; holes and specks as SAM 3 takes them."""

import numpy as np
import pytest
from scipy import ndimage

from services.segmenter.video.components import component_areas, fill_and_clean


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.6, 0.8])
def test_areas_are_those_of_scipy(share: float) -> None:
    masks = np.random.default_rng(0).random((5, 37, 41)) < share
    areas = component_areas(masks)
    for mask, area in zip(masks, areas, strict=True):
        labels, _ = ndimage.label(mask, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())
        assert (area == np.where(mask, sizes[labels], 0)).all()


def test_areas_of_two_masks_do_not_join() -> None:
    masks = np.ones((2, 3, 4), np.bool_)
    assert (component_areas(masks) == 12).all()


def test_small_holes_are_filled_and_small_specks_removed() -> None:
    logits = np.full((1, 20, 20), -5, np.float32)
    logits[0, 2:12, 2:12] = 5
    logits[0, 5:7, 5:7] = -5
    logits[0, 16:18, 16:18] = 5
    cleaned = fill_and_clean(logits, 4)
    assert cleaned[0, 5:7, 5:7] == pytest.approx(0.1)
    assert cleaned[0, 16:18, 16:18] == pytest.approx(-0.1)
    untouched = np.ones((20, 20), np.bool_)
    untouched[5:7, 5:7] = untouched[16:18, 16:18] = False
    assert (cleaned[0][untouched] == logits[0][untouched]).all()
    assert (fill_and_clean(logits, 3) == logits).all()


def test_a_tiny_object_is_no_speck() -> None:
    logits = np.full((1, 20, 20), -5, np.float32)
    logits[0, 4:6, 4:6] = 5
    assert (fill_and_clean(logits, 16) == logits).all()


def test_no_masks_are_no_trouble() -> None:
    assert fill_and_clean(np.zeros((0, 1, 1), np.float32), 16).shape == (0, 1, 1)
