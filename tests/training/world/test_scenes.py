from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.world.backgrounds import WIDE, draw_background
from training.world.scenes import (
    Placement,
    compose,
    random_scene,
    random_size,
    save,
)
from training.world.splits import HELD_OUT, SHOWN, TRAINING, VALIDATION
from training.world.vocabulary import Vocabulary

NAMES = Vocabulary.load().by_name
GRAY = np.full((200, 300, 3), 128, np.uint8)


def place(name: str, x: float, y: float, longer_side: float) -> Placement:
    return Placement(NAMES[name], (x, y), longer_side)


def test_a_lone_sticker_is_seen_whole_and_where_it_was_put():
    scene = compose([place("soccer ball", 0.5, 0.25, 0.4)], GRAY)
    (ball,) = scene.instances
    assert ball.visible_fraction == 1.0
    assert ball.centroid == pytest.approx((150, 50), abs=1.5)
    # A disc of diameter 80.
    assert ball.area == pytest.approx(np.pi * 40**2, rel=0.04)
    assert not ball.dont_care
    assert (scene.image[~ball.mask] == 128).mean() > 0.98


def test_later_stickers_cover_earlier_ones():
    under, over = place("basketball", 0.5, 0.5, 0.5), place("soccer ball", 0.55, 0.5, 0.3)
    alone = compose([under], GRAY).instances[0]
    below, above = compose([under, over], GRAY).instances
    np.testing.assert_array_equal(below.mask, alone.mask & ~above.mask)
    assert below.visible_fraction == pytest.approx(below.area / alone.area)
    assert above.visible_fraction == 1.0


def test_hidden_and_tiny_stickers_are_dont_care():
    hidden = compose([place("key", 0.5, 0.5, 0.15), place("pizza", 0.5, 0.5, 0.8)], GRAY)
    assert [instance.dont_care for instance in hidden.instances] == [True, False]
    assert [instance.concept.name for instance in hidden.wanted] == ["pizza"]
    tiny = compose([place("soccer ball", 0.5, 0.5, 0.05)], GRAY).instances[0]
    assert tiny.visible_fraction == 1.0
    assert tiny.dont_care


def test_a_sticker_gone_from_sight_keeps_its_place_in_the_truth():
    outside, inside = compose(
        [place("bee", 2.0, 0.5, 0.3), place("cat", 0.5, 0.5, 0.3)], GRAY
    ).instances
    assert (outside.area, outside.box, outside.dont_care) == (0, (0, 0, 0, 0), True)
    assert not outside.mask.any()
    with pytest.raises(ValueError, match="bee"):
        _ = outside.centroid
    assert inside.area > 0


def test_a_sticker_over_the_edge_counts_only_what_is_inside():
    half = compose([place("soccer ball", 0.0, 0.5, 0.4)], GRAY).instances[0]
    assert half.visible_fraction == pytest.approx(0.5, abs=0.03)
    assert half.box[0] == 0


@pytest.mark.parametrize("seed", range(12))
def test_random_scenes_keep_to_the_worlds_rules(seed: int):
    scene = random_scene(np.random.default_rng(seed), size=(240, 170), backgrounds=WIDE)
    assert 1 <= len(scene.instances) <= 8
    assert 1 <= len({instance.concept.index for instance in scene.instances}) <= 5
    covered = np.zeros((170, 240), int)
    for instance in scene.instances:
        x0, y0, x1, y1 = instance.box
        assert instance.mask.sum() == instance.area == instance.mask[y0:y1, x0:x1].sum()
        few_seen = instance.visible_fraction < 0.4 or instance.area < 0.0015 * 240 * 170
        assert instance.dont_care == few_seen
        covered += instance.mask
    assert covered.max() == 1, "two instances claim a pixel"


def test_the_same_seed_gives_the_same_scene():
    first, again = (random_scene(np.random.default_rng(5), size=(200, 200)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)


def test_random_sizes_stay_in_bounds():
    rng = np.random.default_rng(0)
    sizes = np.array([random_size(rng) for _ in range(500)])
    assert sizes.min() >= 256
    assert sizes.max() <= 1600
    aspects = sizes[:, 0] / sizes[:, 1]
    assert aspects.min() >= 0.49
    assert aspects.max() <= 2.01


def test_scenes_can_be_restricted_to_some_concepts():
    scene = random_scene(
        np.random.default_rng(1), size=(200, 200), concepts=[NAMES["cat"], NAMES["dog"]]
    )
    assert {instance.concept.name for instance in scene.instances} <= {"cat", "dog"}


@pytest.mark.parametrize("kind", WIDE)
def test_every_background_fills_its_frame(kind: str):
    for seed in range(4):
        canvas = draw_background(np.random.default_rng(seed), (97, 61), [kind])
        assert canvas.shape == (61, 97, 3)
        assert canvas.dtype == np.uint8


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_saved_pictures_read_back(tmp_path: Path, suffix: str):
    scene = random_scene(np.random.default_rng(2), size=(180, 120))
    save(scene, tmp_path / f"scene.{suffix}", quality=95)
    with Image.open(tmp_path / f"scene.{suffix}") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(pixels - scene.image).mean() < (6 if suffix == "jpg" else 1e-9)


def test_splits_share_no_seed():
    splits = [TRAINING, VALIDATION, HELD_OUT, SHOWN]
    for index, one in enumerate(splits):
        for other in splits[index + 1 :]:
            assert one.stop <= other.start or other.stop <= one.start
