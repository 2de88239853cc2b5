"""Looks: what tells one of two equal things from the other, and what does not."""

import numpy as np
import pytest

from services.codecs.images import Rgb
from services.segmenter.video.looks import difference, looked, small_frame
from services.segmenter.video.motion import Placing

SIDE = 40
MASK = np.zeros((SIDE, SIDE), np.bool_)
MASK[10:30, 10:30] = True
WHOLE = Placing((0.5, 0.5), (0.5, 0.5), hidden=False)
HIDDEN = Placing((0.5, 0.5), (0.5, 0.5), hidden=True)


def frame(left: int = 200, right: int = 50, light: int = 0, shift: int = 0) -> Rgb:
    """Two halves of a square of 20 pixels in the middle of 40."""
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    pixels[10:30, 10 + shift : 20 + shift] = left + light
    pixels[10:30, 20 + shift : 30 + shift] = right + light
    return small_frame(pixels.transpose(2, 0, 1))


LOOK = looked(None, frame(), MASK, WHOLE)


@pytest.mark.parametrize(
    ("shape", "small"),
    [
        ((1, 1), (1, 1)),
        ((7, 3000), (7, 166)),
        ((240, 240), (240, 240)),
        ((1008, 1008), (168, 168)),
        ((1080, 1920), (180, 160)),
    ],
)
def test_a_frame_of_any_shape_becomes_a_small_one(
    shape: tuple[int, int], small: tuple[int, int]
) -> None:
    """Each cell is the mean of its pixels, and colors stay in their order."""
    image = np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8)
    found = small_frame(image)
    assert (found.shape, found.dtype) == ((*small, 3), np.uint8)
    down, across = shape[0] // small[0], shape[1] // small[1]
    cell = image[:, :down, :across].mean((1, 2))
    assert abs(found[0, 0].astype(float) - cell).max() <= 0.5


def test_the_same_thing_does_not_differ() -> None:
    assert difference(LOOK, frame(), MASK, WHOLE) == pytest.approx(0, abs=1e-6)


def test_light_and_a_pixel_beside_count_for_little() -> None:
    mirrored = difference(LOOK, frame(50, 200), MASK, WHOLE)
    lit = difference(LOOK, frame(light=40), MASK, WHOLE)
    shifted = difference(LOOK, frame(shift=1), np.roll(MASK, 1, 1), WHOLE)
    assert mirrored is not None
    assert lit is not None
    assert shifted is not None
    assert lit < 0.01
    assert shifted < 0.2 * mirrored


def test_little_that_is_seen_says_nothing() -> None:
    corner = np.zeros_like(MASK)
    corner[10:14, 10:14] = True
    assert difference(LOOK, frame(), corner, WHOLE) is None
    outside = Placing((1.4, 0.5), (0.5, 0.5), hidden=True)
    assert difference(LOOK, frame(), MASK, outside) is None


def test_a_look_follows_what_changes_slowly() -> None:
    look = LOOK
    for step in range(1, 31):
        look = looked(look, frame(200 - 2 * step, 50 + 2 * step), MASK, WHOLE)
    now = difference(look, frame(140, 110), MASK, WHOLE)
    then = difference(look, frame(), MASK, WHOLE)
    assert now is not None
    assert then is not None
    assert now < 0.5 * then


def test_what_hides_it_is_not_learned() -> None:
    assert looked(LOOK, frame(0, 0), MASK, HIDDEN) is LOOK
    assert looked(LOOK, frame(0, 250), MASK, WHOLE) is LOOK


def test_one_first_seen_in_part_is_known_by_that() -> None:
    half = MASK.copy()
    half[:, 20:] = False
    look = looked(None, frame(), half, HIDDEN)
    assert look.solid[:, 8:].sum() == 0
    assert difference(look, frame(), half, WHOLE) == pytest.approx(0, abs=1e-6)
