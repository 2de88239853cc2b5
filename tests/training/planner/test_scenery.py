"""Training scenes: the same for the same seed, wide, and never empty."""

from collections import Counter

import numpy as np

from training.planner.scenery import PlannerScenes, training_size
from training.world.splits import TRAINING
from training.world.vocabulary import Vocabulary

SCENES = PlannerScenes(Vocabulary.load())


def test_the_same_generator_draws_the_same_scene() -> None:
    first, second, other = (
        SCENES.scene(np.random.default_rng(seed))
        for seed in (TRAINING[0], TRAINING[0], TRAINING[1])
    )
    assert np.array_equal(first.image, second.image)
    assert first.size != other.size or not np.array_equal(first.image, other.image)


def test_crowds_have_more_of_everything() -> None:
    sizes = {
        crowded: [
            len(SCENES.scene(np.random.default_rng(s), size=(96, 96), crowded=crowded).instances)
            for s in TRAINING[:40]
        ]
        for crowded in (False, True)
    }
    assert min(sizes[False]) >= 1
    assert np.mean(sizes[True]) > 1.6 * np.mean(sizes[False])


def test_people_and_animals_are_seen_more_than_by_chance() -> None:
    seen: Counter[bool] = Counter()
    for seed in TRAINING[:150]:
        scene = SCENES.scene(np.random.default_rng(seed), size=(64, 64))
        seen.update(instance.concept.subject for instance in scene.instances)
    by_chance = np.mean([concept.subject for concept in SCENES.vocabulary.concepts])
    assert seen[True] / seen.total() > 1.3 * by_chance


def test_sizes_are_small_enough_to_render_and_of_any_aspect() -> None:
    sizes = [training_size(np.random.default_rng(seed)) for seed in range(60)]
    assert all(256 <= side <= 600 for size in sizes for side in size)
    assert any(width > 1.4 * height for width, height in sizes)
    assert any(height > 1.4 * width for width, height in sizes)
