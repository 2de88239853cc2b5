import numpy as np

from training.datasets.sources import WorldScenes
from training.world.scenes import random_scene
from training.world.splits import SHOWN


def test_world_scenes_are_the_worlds():
    source = WorldScenes()
    for seed in SHOWN[:3]:
        scene = source.scene(np.random.default_rng(seed), crowded=True)
        assert np.array_equal(scene.image, random_scene(np.random.default_rng(seed)).image)


def test_a_size_is_the_callers_before_the_sources():
    rng = np.random.default_rng(0)
    assert WorldScenes(size=(90, 60)).scene(rng).size == (90, 60)
    assert WorldScenes(size=(90, 60)).scene(rng, size=(70, 80)).size == (70, 80)
