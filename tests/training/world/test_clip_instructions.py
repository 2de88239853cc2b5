import numpy as np
import pytest

from training.evaluation.second_clips import SecondClipWorld
from training.world.clip_instructions import ClipFamily, ClipInstruction, instruct
from training.world.clips import AnyClip, ClipWorld, scene_of
from training.world.execution import execute
from training.world.instructions import InstructionWriter
from training.world.vocabulary import Vocabulary

WRITER = InstructionWriter(Vocabulary.load())
Asked = list[tuple[AnyClip, ClipInstruction]]


@pytest.fixture(scope="module")
def asked() -> Asked:
    found: Asked = []
    clips: list[AnyClip] = [ClipWorld().clip(seed, size=(160, 120)) for seed in range(40)]
    clips += [
        SecondClipWorld().clip(seed, size=(160, 120)) for seed in range(30_000_000, 30_000_010)
    ]
    for clip in clips:
        for family in ClipFamily:
            written = instruct(clip, np.random.default_rng(clip.seed), family, WRITER)
            if written is not None:
                found.append((clip, written))
    return found


def of(asked: Asked, family: ClipFamily) -> Asked:
    chosen = [pair for pair in asked if pair[1].family is family]
    assert len(chosen) > 20
    return chosen


def test_phrases_mean_all_objects_of_their_concepts_also_late_ones(asked: Asked) -> None:
    late = 0
    for clip, written in of(asked, ClipFamily.PHRASE):
        kinds = {
            index
            for query in written.plan.include
            for index in WRITER.phrases.matching_concepts(query.phrase)
        }
        named = {o.id for o in clip.objects if WRITER.vocabulary.by_name[o.concept].index in kinds}
        assert written.targets == named
        late += bool(named - set(next(clip.frames([0])).masks))
    assert late > 2


def test_what_refers_is_decided_on_the_key_frame(asked: Asked) -> None:
    for clip, written in of(asked, ClipFamily.REFERENTIAL):
        scene, ids = scene_of(clip, written.key_frame)
        found = execute(written.plan, scene, WRITER.phrases)
        assert written.targets == {ids[index] for index in found}
        assert written.targets


def test_all_means_every_object(asked: Asked) -> None:
    for clip, written in of(asked, ClipFamily.ALL):
        assert written.targets == {member.id for member in clip.objects}


def test_the_absent_never_appears(asked: Asked) -> None:
    for clip, written in of(asked, ClipFamily.ABSENT):
        assert written.targets == frozenset()
        there = {WRITER.vocabulary.by_name[member.concept].index for member in clip.objects}
        for query in written.plan.include:
            assert not there & WRITER.phrases.matching_concepts(query.phrase)


def test_another_frame_can_be_the_key_frame() -> None:
    clip = ClipWorld().clip(2, size=(160, 120), frame_count=40)
    written = instruct(clip, np.random.default_rng(0), ClipFamily.PHRASE, WRITER, key_frame=30)
    assert written is not None
    assert written.key_frame == 30
