"""Pictures for prompts: no larger than need be, and nothing lost on the way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight.masks import encode_rle
from services.codecs.images import encode
from services.deadline import Deadline
from services.domain import Candidate
from services.errors import DeadlinePassed
from services.planner.settings import PlannerSettings
from services.planner.views import (
    MODEL_PIXELS,
    draw_views,
    shrunk_image,
    shrunk_mask,
    whole_picture,
)
from services.replica.decoding import ImageDecoder
from tests.planner.conftest import THREADS

DECODER = ImageDecoder(PlannerSettings(**THREADS))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.data())
def test_image_and_mask_shrink_alike_and_no_pixel_vanishes(
    height: int, width: int, factor: int, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, height - 1))
    column = data.draw(st.integers(0, width - 1))
    mask = np.zeros((height, width), np.bool_)
    mask[row, column] = True
    shrunk = shrunk_mask(mask, factor)
    assert shrunk_image(np.zeros((height, width, 3), np.uint8), factor).shape[:2] == shrunk.shape
    assert np.argwhere(shrunk).tolist() == [[row // factor, column // factor]]


def test_a_picture_keeps_all_pixels_that_a_model_sees() -> None:
    content = encode(np.full((3400, 3200, 3), 7, np.uint8), "jpeg")
    picture = whole_picture(content, DECODER, Deadline(), "k")
    assert picture.key == "k"
    assert picture.rgb.shape == (1700, 1600, 3)
    assert picture.rgb.shape[0] * picture.rgb.shape[1] >= MODEL_PIXELS
    small = whole_picture(encode(np.zeros((90, 80, 3), np.uint8)), DECODER, Deadline(), "k")
    assert small.rgb.shape == (90, 80, 3)


def test_pictures_are_named_by_what_they_show() -> None:
    content = encode(np.zeros((40, 40, 3), np.uint8))
    masks = [np.zeros((40, 40), np.bool_) for _ in range(2)]
    masks[0][5, 5] = masks[1][9:20, 9:20] = True

    def keys(content: bytes, *indices: int) -> list[str]:
        candidates = [Candidate(i, "dot", encode_rle(masks[i])) for i in indices]
        views = draw_views(content, candidates, DECODER, Deadline())
        return [views.overview.key, *(closeup.key for closeup in views.closeups)]

    assert keys(content, 0, 1) == keys(content, 0, 1)
    other = encode(np.ones((40, 40, 3), np.uint8))
    everything = [*keys(content, 0, 1), *keys(content, 1, 0), *keys(content, 0), *keys(other, 0)]
    assert len(set(everything)) == len(everything)


def test_drawing_ends_with_the_deadline() -> None:
    content = encode(np.zeros((40, 40, 3), np.uint8))
    candidate = Candidate(1, "all", encode_rle(np.ones((40, 40), np.bool_)))
    with pytest.raises(DeadlinePassed):
        draw_views(content, [candidate], DECODER, Deadline.after(0))
