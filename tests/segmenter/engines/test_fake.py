"""The fake finds colors exactly, and nothing else."""

import numpy as np

from services.segmenter.engines import Pair, RawDetections, create
from services.segmenter.preprocessing import to_model_input
from services.segmenter.settings import SegmenterSettings

RED, BLUE = (255, 0, 0), (0, 0, 255)
NO_BOXES = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def detect(pixels: np.ndarray, phrase: str, exemplars=NO_BOXES) -> RawDetections:
    engine = create(SegmenterSettings(engine="fake"))
    (image,) = engine.encode_images([to_model_input(pixels, engine.describe().image_size)])
    (text,) = engine.encode_texts([phrase])
    return engine.detect([Pair(image, text, *exemplars)])[0]


def picture() -> np.ndarray:
    pixels = np.full((60, 80, 3), 255, np.uint8)
    pixels[5:25, 5:15] = RED
    pixels[40:55, 10:50] = RED
    pixels[5:25, 60:75] = BLUE
    return pixels


def test_connected_areas_of_a_color_largest_first() -> None:
    found = detect(picture(), "the red things")
    assert (found.masks > 0).sum((1, 2)).tolist() == [600, 200]
    np.testing.assert_allclose(found.boxes[1], [5 / 80, 5 / 60, 15 / 80, 25 / 60])
    assert found.presence > 0
    assert (np.diff(found.logits) < 0).all()


def test_an_absent_color_and_a_phrase_without_one() -> None:
    for phrase in ("green", "dog"):
        found = detect(picture(), phrase)
        assert found.masks.shape == (0, 60, 80)
        assert found.presence < 0


def test_a_positive_exemplar_shows_the_color_and_a_negative_one_nothing() -> None:
    like_blue = np.array([[67 / 80, 15 / 60, 10 / 80, 10 / 60]], np.float32)
    found = detect(picture(), "visual", (like_blue, np.array([1])))
    assert (found.masks > 0).sum((1, 2)).tolist() == [300]
    not_small = np.array([[10 / 80, 15 / 60, 4 / 80, 4 / 60]], np.float32)
    found = detect(picture(), "red", (not_small, np.array([0])))
    assert (found.masks > 0).sum((1, 2)).tolist() == [600, 200]


def test_areas_that_join_below_are_one() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[5:30, 5:10] = pixels[5:30, 30:35] = pixels[25:30, 5:35] = RED
    pixels[5:20, 15:25] = RED
    assert sorted((detect(pixels, "red").masks > 0).sum((1, 2)).tolist()) == [150, 350]
