from dataclasses import replace

import pytest

from training.world.phrases import PhraseBook, matching_concepts
from training.world.vocabulary import Vocabulary


def names(phrase: str) -> set[str]:
    concepts = Vocabulary.load().concepts
    return {concepts[index].name for index in matching_concepts(phrase)}


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("dog", {"dog"}),
        ("dogs", {"dog"}),
        ("red apple", {"red apple"}),
        ("apple", {"red apple", "green apple"}),
        ("apples", {"red apple", "green apple"}),
        ("book", {"red book", "green book"}),
        ("ball", {"soccer ball"}),
        ("basketball", {"basketball"}),
        ("car", {"red car"}),
        ("cacti", {"cactus"}),
        ("fish", {"fish"}),
        ("The Red Apples.", {"red apple"}),
        ("  all   police officers ", {"police officer"}),
    ],
)
def test_names_plurals_and_head_nouns(phrase: str, expected: set[str]):
    assert names(phrase) == expected


@pytest.mark.parametrize(
    "phrase", ["animal", "vehicles", "food", "person", "people", "zebra", "red", "", "the"]
)
def test_categories_and_strangers_match_nothing(phrase: str):
    assert names(phrase) == set()


def test_every_concept_is_named_by_its_name_and_plural():
    for concept in Vocabulary.load().concepts:
        assert concept.index in matching_concepts(concept.name)
        assert concept.index in matching_concepts(concept.plural)


def test_a_head_noun_that_is_a_name_means_that_thing_alone():
    dog, banana, apple, *_ = (Vocabulary.load().by_name[n] for n in ("dog", "banana", "red apple"))
    concepts = (
        replace(dog, index=0),
        replace(banana, index=1, name="hot dog", plural="hot dogs"),
        replace(apple, index=2),
    )
    book = PhraseBook(Vocabulary(concepts))
    assert book.matching_concepts("dog") == book.matching_concepts("the dogs") == {0}
    assert book.matching_concepts("hot dogs") == {1}
    assert book.matching_concepts("apple") == {2}
