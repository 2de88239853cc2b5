import numpy as np
import pytest

from training.world.sprites import SpriteSheet
from training.world.vocabulary import Vocabulary


@pytest.mark.parametrize("longer_side", [11.0, 60.0, 300.0])
def test_every_sprite_has_the_asked_size(longer_side: float):
    sheet = SpriteSheet.load()
    for concept in Vocabulary.load().concepts:
        sprite = sheet.pose(concept.index, longer_side)
        assert abs(max(sprite.size) - longer_side) <= 2
        assert sprite.alpha.max() > 0.9


def test_a_mirrored_sprite_is_the_mirror_image():
    plain = SpriteSheet.load().pose(0, 80)
    mirrored = SpriteSheet.load().pose(0, 80, mirrored=True)
    np.testing.assert_array_equal(plain.alpha[:, ::-1], mirrored.alpha)


def test_color_is_premultiplied():
    sprite = SpriteSheet.load().pose(20, 70, degrees=17)
    assert (sprite.color <= 255 * sprite.alpha[..., None] + 1).all()


def test_no_two_sprites_are_alike():
    sheet = SpriteSheet.load()
    seen = {sheet.pose(c.index, 64).color.tobytes() for c in Vocabulary.load().concepts}
    assert len(seen) == 48
