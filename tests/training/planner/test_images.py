"""Pictures: targets lie where the stickers are, in whatever grid the image processor makes."""

import numpy as np
import pytest

from tests.training.planner.tiny import preprocessor
from training.planner.config import MAX_SOFT_TOKENS
from training.planner.images import (
    labeled_image,
    plain_image,
    scene_labels,
    scene_presence,
)
from training.world.scenes import Placement, Scene, compose
from training.world.vocabulary import Vocabulary

CONCEPTS = Vocabulary.load()


def _scene() -> Scene:
    """A pizza that a house all but hides, and a dog."""
    stickers = (("pizza", (0.7, 0.5), 0.3), ("house", (0.7, 0.5), 0.36), ("dog", (0.2, 0.5), 0.3))
    placements = [Placement(CONCEPTS.by_name[n], at, side) for n, at, side in stickers]
    return compose(placements, np.full((200, 300, 3), 90, np.uint8))


def test_soft_tokens_are_labeled_with_what_they_show() -> None:
    labels = np.full((256, 256), -1)
    labels[:64, 192:] = 7  # the top right corner
    image = np.zeros((256, 256, 3), np.uint8)
    image[:64, 192:] = 255
    picture = labeled_image(preprocessor(), image, labels, np.zeros(48, np.float32))
    side = round(picture.soft**0.5)
    assert side**2 == picture.soft <= MAX_SOFT_TOKENS
    shown = picture.coverage[:, 7].reshape(side, side)
    # Two and three quarter soft tokens of eleven lie in a quarter of the side.
    assert side == 11
    assert (shown[:2, 9:] == 1).all()
    assert not shown[3:].any()
    assert not shown[:, :8].any()
    assert (shown > 0).sum() == 9
    assert shown.sum() == pytest.approx((64 / 256 * side) ** 2, rel=0.05)
    assert picture.coverage.sum() == shown.sum()
    # The patches of the wholly covered soft tokens are the bright ones.
    bright = picture.patches.mean(axis=1) > 0.9
    places = {(int(x), int(y)) for x, y in picture.positions[bright] // preprocessor().pooling}
    assert places >= {(9, 0), (10, 0), (9, 1), (10, 1)}
    assert all(x >= 8 and y <= 2 for x, y in places)


@pytest.mark.parametrize("size", [(256, 512), (512, 256), (300, 280)])
def test_any_aspect_fits_the_budget(size: tuple[int, int]) -> None:
    image = np.zeros((*size, 3), np.uint8)
    picture = plain_image(preprocessor(), image)
    assert MAX_SOFT_TOKENS // 2 < picture.soft <= MAX_SOFT_TOKENS
    assert picture.used == picture.soft * preprocessor().pooling ** 2
    assert picture.coverage.shape == (picture.soft, 0)


def test_hidden_things_are_neither_there_nor_absent() -> None:
    scene = _scene()
    assert scene.instances[0].dont_care
    present = scene_presence(scene, 48)
    known = {CONCEPTS.concepts[i].name: float(v) for i, v in enumerate(present) if v}
    assert known == {"pizza": -1.0, "house": 1.0, "dog": 1.0}


def test_labels_show_what_lies_on_top() -> None:
    scene = _scene()
    labels = scene_labels(scene)
    for instance in scene.instances:
        assert (labels[instance.mask] == instance.concept.index).all()
    assert (labels == -1).sum() == labels.size - sum(one.area for one in scene.instances)
