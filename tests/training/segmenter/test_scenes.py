import numpy as np

from tests.training.segmenter.parts import BOOK, SAMPLER
from training.datasets.sources import SceneSource
from training.segmenter.sampling import PhraseSampler
from training.segmenter.scenes import SegmenterScenes
from training.world.splits import SHOWN

SOURCE = SegmenterScenes(SAMPLER)


def test_the_same_seed_gives_the_same_scene():
    one, again = (SOURCE.scene(np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(one.image, again.image)
    assert [x.box for x in one.instances] == [x.box for x in again.instances]


def test_scenes_are_small_and_of_the_world():
    for seed in SHOWN[:30]:
        scene = SOURCE.scene(np.random.default_rng(seed))
        assert 240 <= min(scene.size) <= max(scene.size) <= 480
        assert 1 <= len(scene.instances) <= 8
        assert {x.concept for x in scene.instances} <= set(SOURCE.vocabulary.concepts)
    assert SOURCE.vocabulary is BOOK.vocabulary


def test_a_crowded_scene_holds_two_scenes_stickers():
    crowds, plain = (
        [len(SOURCE.scene(np.random.default_rng(s), crowded=c).instances) for s in SHOWN[:40]]
        for c in (True, False)
    )
    assert max(crowds) > 8
    assert 1.6 < sum(crowds) / sum(plain) < 2.4


def test_a_wished_size_is_kept():
    assert SOURCE.scene(np.random.default_rng(0), size=(100, 140)).size == (100, 140)


def test_look_alikes_meet_more_often_than_by_chance():
    def met(source: SceneSource) -> int:
        count = 0
        for seed in SHOWN[:200]:
            scene = source.scene(np.random.default_rng(seed), size=(64, 64))
            present = {x.concept.index for x in scene.instances}
            alike = {c.index for i in present for c in SAMPLER.look_alikes[i]}
            count += bool(present & alike)
        return count

    by_chance = SegmenterScenes(PhraseSampler(BOOK, groups=()))
    assert met(SOURCE) > 1.4 * met(by_chance)
