import pytest

from services.stickers.phrases import matching_concepts
from services.stickers.vocabulary import Vocabulary


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
