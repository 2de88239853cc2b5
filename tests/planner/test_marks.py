"""Review pictures: outlines and tags where the masks are, everything else untouched or dimmed."""

import numpy as np
import pytest

from services.planner.marks import numbered_overview, zoom_window, zoomed_candidate


def _image(height: int = 120, width: int = 160) -> np.ndarray:
    return np.full((height, width, 3), 200, np.uint8)


def _square(top: int, left: int, side: int, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_the_overview_outlines_and_tags_each_mask() -> None:
    image, masks = _image(), [_square(10, 10, 40), _square(60, 100, 40)]
    marked = numbered_overview(image, masks)
    assert marked.shape == image.shape
    assert marked.dtype == np.uint8
    assert (image == 200).all(), "the caller's image is left alone"
    changed = (marked != image).any(axis=2)
    for mask in masks:
        top, left = np.argwhere(mask).min(axis=0)
        assert changed[top, left : left + 40].all(), "outlined along its edge"
        assert changed[top + 20, left + 20], "tagged at its center"
    assert not changed[~(masks[0] | masks[1])].any(), "nothing outside of the masks"
    assert tuple(marked[10, 10]) != tuple(marked[60, 100]), "neighbors differ in color"


def test_a_tag_lies_on_its_mask_even_when_the_centroid_does_not() -> None:
    ring = _square(10, 10, 80) & ~_square(14, 14, 72)
    changed = (numbered_overview(_image(), [ring]) != 200).any(axis=2)
    assert not changed[30:70, 30:70].any()


def test_empty_masks_and_no_masks_are_fine() -> None:
    image = _image()
    assert (numbered_overview(image, []) == image).all()
    assert (numbered_overview(image, [np.zeros((120, 160), bool)]) == image).all()


def test_the_zoom_shows_the_candidate_bright_and_the_rest_dim() -> None:
    image, mask = _image(), _square(40, 60, 40)
    view = zoomed_candidate(image, mask)
    rows, columns = zoom_window(mask)
    assert view.shape == (rows.stop - rows.start, columns.stop - columns.start, 3)
    assert rows.start == 30
    assert columns.stop == 110
    inside = mask[rows, columns]
    assert (view[inside] == 200).all()
    assert (view[0, 0] < 100).all()
    assert (view[~inside] != 200).any(axis=1).all()


def test_the_zoom_stays_inside_the_image() -> None:
    mask = _square(0, 120, 40)
    assert zoom_window(mask) == (slice(0, 50), slice(110, 160))
    assert zoomed_candidate(_image(), mask).shape == (50, 50, 3)


def test_a_single_pixel_can_be_zoomed() -> None:
    assert zoomed_candidate(_image(), _square(5, 5, 1)).shape == (5, 5, 3)


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        numbered_overview(_image(), [np.zeros((5, 5), bool)])
    with pytest.raises(ValueError, match="empty"):
        zoomed_candidate(_image(), np.zeros((120, 160), bool))
