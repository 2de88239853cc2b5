"""`services.codecs.videos.cuts`: cuts are found, and motion, light and noise are not cuts."""

from itertools import pairwise

import numpy as np
from PIL import Image

from services.codecs.videos.cuts import CUT_THRESHOLD, SceneSignature, cut_score, is_cut
from tests.codecs.videos.clips import picture


def scene(seed: int) -> np.ndarray:
    """A picture of large patches of color, with room to pan."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (9, 16, 3), np.uint8))
    return np.asarray(patches.resize((480, 270), Image.Resampling.BICUBIC))


def signature(pixels: np.ndarray) -> SceneSignature:
    return SceneSignature.of(np.ascontiguousarray(pixels))


def test_other_scenes_are_cuts() -> None:
    scenes = [signature(scene(seed)[:180, :320]) for seed in range(12)]
    assert all(is_cut(a, b) for a, b in pairwise(scenes))


def test_a_clip_has_its_cuts_where_it_was_cut() -> None:
    frames = [
        signature(scene(part)[:180, 3 * step : 320 + 3 * step])
        for part in range(4)
        for step in range(15)
    ]
    found = [at for at in range(1, len(frames)) if is_cut(frames[at - 1], frames[at])]
    assert found == [15, 30, 45]


def test_motion_noise_and_light_are_not_cuts() -> None:
    rng = np.random.default_rng(1)
    here = scene(0)
    still = signature(here)
    noisy = np.clip(here + rng.normal(0, 12, here.shape), 0, 255).astype(np.uint8)
    assert not is_cut(still, signature(noisy))
    assert not is_cut(still, signature((here * 0.85).astype(np.uint8)))
    assert not is_cut(signature(here[:, :320]), signature(here[:, 8:328]))
    assert not is_cut(signature(picture(1)), signature(picture(2)))


def test_red_next_to_red_is_no_change() -> None:
    # Hues of 0.5 % above and below red.
    above = signature(np.full((40, 40, 3), (220, 12, 8), np.uint8))
    below = signature(np.full((40, 40, 3), (220, 8, 12), np.uint8))
    assert cut_score(above, below) < 2


def test_the_scale_is_the_published_one() -> None:
    # Black to white changes brightness by 255, and nothing else: a third of it in the mean.
    black = signature(np.zeros((20, 20, 3), np.uint8))
    white = signature(np.full((20, 20, 3), 255, np.uint8))
    assert cut_score(black, white) == 85.0
    assert CUT_THRESHOLD == 27.0
    # Red to green: two thirds of pi of 180 for a circle.
    red = signature(np.full((20, 20, 3), (255, 0, 0), np.uint8))
    green = signature(np.full((20, 20, 3), (0, 255, 0), np.uint8))
    assert abs(cut_score(red, green) - 20.0) < 0.5
