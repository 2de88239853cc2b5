from dataclasses import replace

import numpy as np
import pytest

from tests.training.segmenter.parts import BOOK, SAMPLER
from training.segmenter.sampling import PhraseSampler
from training.world.scenes import Placement, Scene, compose
from training.world.vocabulary import Vocabulary
from training.world.wording import words

NAMES = BOOK.vocabulary.by_name


def scene_of(*names: str) -> Scene:
    placements = [
        Placement(NAMES[name], ((number + 0.5) / len(names), 0.5), 0.3)
        for number, name in enumerate(names)
    ]
    return compose(placements, np.zeros((100, 100 * len(names), 3), np.uint8))


def drawn(sampler: PhraseSampler, scene: Scene, count: int = 400) -> list[str]:
    return sampler.phrases(np.random.default_rng(0), scene, count)


def test_a_third_of_the_phrases_is_absent():
    scene = scene_of("red apple", "dog")
    phrases = drawn(SAMPLER, scene)
    there = {NAMES["red apple"].index, NAMES["dog"].index}
    absent = [p for p in phrases if not BOOK.matching_concepts(p) & there]
    # A head noun drawn for an absent look-alike ("apple" of "green apple") is there after all.
    assert 0.27 < len(absent) / len(phrases) < 0.37


def test_names_plurals_head_nouns_and_look_alikes_are_asked():
    phrases = set(drawn(SAMPLER, scene_of("red apple")))
    assert {"red apple", "red apples", "apple", "apples"} <= phrases
    assert {"green apple", "balloon"} <= phrases
    assert phrases & set(words("unknown"))
    assert any(phrase.startswith(("the ", "a ", "all ")) for phrase in phrases)


def test_unknown_words_match_nothing():
    assert not [word for word in words("unknown") if BOOK.matching_concepts(word)]


def test_look_alikes_are_mutual_and_not_oneself():
    for concept in BOOK.vocabulary.concepts:
        alike = {c.index for c in SAMPLER.look_alikes[concept.index]}
        assert concept.index not in alike
        for other in alike:
            assert concept.index in {c.index for c in SAMPLER.look_alikes[other]}
    assert {name for group in words("look_alikes") for name in group} <= set(NAMES)


def test_of_a_dataset_names_and_plurals_only():
    sampler = PhraseSampler.of_dataset(BOOK.vocabulary)
    phrases = drawn(sampler, scene_of("red apple", "dog"))
    forms = {form for c in BOOK.vocabulary.concepts for form in (c.name, c.plural)}
    assert set(phrases) <= forms
    # Most that is absent is of the present categories: food and animals.
    categories = [
        c.category
        for phrase in phrases
        for c in BOOK.vocabulary.concepts
        if phrase in (c.name, c.plural) and c.name not in ("red apple", "dog")
    ]
    assert sum(c in ("food", "animal") for c in categories) / len(categories) > 0.6


@pytest.mark.parametrize("present", [("dog",), ("dog", "cat")])
def test_where_everything_is_there_nothing_is_asked_as_absent(present: tuple[str, ...]):
    concepts = tuple(replace(NAMES[name], index=i) for i, name in enumerate(present))
    placements = [Placement(NAMES[name], (0.3, 0.5), 0.3) for name in present]
    drawing = compose(placements, np.zeros((100, 100, 3), np.uint8))
    instances = tuple(
        replace(x, concept=c) for x, c in zip(drawing.instances, concepts, strict=True)
    )
    sampler = PhraseSampler.of_dataset(Vocabulary(concepts))
    for phrase in drawn(sampler, replace(drawing, instances=instances), 60):
        assert sampler.book.matching_concepts(phrase)
