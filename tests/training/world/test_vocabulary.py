from training.world.vocabulary import Vocabulary


def test_has_the_48_concepts_in_order():
    vocabulary = Vocabulary.load()
    assert len(vocabulary.concepts) == 48
    assert [concept.index for concept in vocabulary.concepts] == list(range(48))
    assert len(vocabulary.by_name) == 48


def test_reads_every_column():
    umbrella = Vocabulary.load().by_name["umbrella"]
    assert umbrella.plural == "umbrellas"
    assert umbrella.category == "object"
    assert umbrella.hint == "a thing that protects from the rain"
    assert (umbrella.price, umbrella.subject, umbrella.perishable) == (15.0, False, False)


def test_empty_columns_are_none_or_false():
    cow = Vocabulary.load().by_name["cow"]
    assert (cow.price, cow.hint, cow.perishable, cow.subject) == (None, None, False, True)


def test_categories_cover_all_concepts_once():
    vocabulary = Vocabulary.load()
    members = [concept for group in vocabulary.by_category.values() for concept in group]
    assert sorted(concept.index for concept in members) == list(range(48))
    assert {"dog", "bee"} <= {concept.name for concept in vocabulary.by_category["animal"]}
