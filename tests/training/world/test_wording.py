"""Wordings say what is meant: a plain reader, who does not share their code, understands them."""

import re

import numpy as np
import pytest

from limelight.values import SelectBy, Selection
from training.world.phrases import matching_concepts
from training.world.wording import (
    category_phrase,
    category_words,
    gibberish,
    noun_phrase,
    reference,
    request,
    typed,
    words,
)

ORDERS = {
    SelectBy.LEFTMOST: "left|leftmost|left-most",
    SelectBy.RIGHTMOST: "right|rightmost|right-most",
    SelectBy.TOPMOST: "top|topmost|highest|uppermost|up",
    SelectBy.BOTTOMMOST: "bottom|bottommost|lowest|lowermost|down",
    SelectBy.LARGEST: "largest|biggest",
    SelectBy.SMALLEST: "smallest|tiniest|littlest",
    SelectBy.NEAREST_CENTER: "centre|center|middle",
}
PLACES = {2: "second|2nd|number 2", 3: "third|3rd|number 3", 4: "fourth|4th|number 4"}
NUMBERS = {2: "two|2", 3: "three|3", 4: "four|4"}
EXCEPTION = (
    r"\b(except|exception|but|not|other than|apart|without|excluding|besides|save|minus|"
    r"leaving out|aside)\b"
)
SELECTIONS = [
    *(Selection(by) for by in ORDERS),
    *(
        Selection(by, **{shape: number})
        for by in list(ORDERS)[:-1]
        for shape in ("rank", "count")
        for number in (2, 3, 4)
    ),
]


def understood(text: str) -> Selection | None:
    """What `text` selects; None where it says nothing of the kind, an error where it says two."""
    text = text.lower()
    orders = [by for by, words in ORDERS.items() if re.search(rf"\b({words})\b", text)]
    if not orders:
        return None
    assert len(orders) == 1, text
    ranks = [place for place, words in PLACES.items() if re.search(rf"\b({words})\b", text)]
    rest = re.sub(r"number \d", "", text)
    counts = [number for number, words in NUMBERS.items() if re.search(rf"\b({words})\b", rest)]
    assert len(ranks) + len(counts) <= 1, text
    return Selection(orders[0], rank=(ranks or [1])[0], count=(counts or [1])[0])


@pytest.mark.parametrize("selection", SELECTIONS, ids=str)
def test_references_are_understood(selection: Selection) -> None:
    rng = np.random.default_rng(4)
    texts = {typed(request(reference("fox", "foxes", selection, rng), rng), rng) for _ in range(80)}
    assert len(texts) > 20
    for text in texts:
        assert understood(text) == selection, text
        assert "fox" in text.lower()
        assert not re.search(EXCEPTION, text.lower()), text


def test_requests_add_nothing_to_what_is_asked() -> None:
    rng = np.random.default_rng(5)
    for _ in range(600):
        phrase = noun_phrase("fox", "foxes", rng)
        text = typed(request(phrase, rng), rng)
        assert phrase in text.lower()
        assert understood(text) is None, text
        assert not re.search(EXCEPTION, text.lower()), text


@pytest.mark.parametrize("words", [*words("but"), *(f"{words} not" for words in words("all_that"))])
def test_exceptions_are_exceptions(words: str) -> None:
    assert re.search(EXCEPTION, words)


def test_nonsense_asks_for_no_sticker() -> None:
    for text in words("nonsense"):
        named = [word for word in re.findall("[a-z]+", text) if matching_concepts(word)]
        assert named in ([], ["book"]), text  # a flight is booked, not read


def test_gibberish_is_short_and_varied() -> None:
    rng = np.random.default_rng(6)
    texts = [gibberish(rng) for _ in range(200)]
    assert len(set(texts)) > 190
    assert all(re.fullmatch(r"[a-z]{2,8}( [a-z]{2,8}){0,2}|\d{1,4}", text) for text in texts)
    assert any(text.isdigit() for text in texts)
    assert any(" " in text for text in texts)


@pytest.mark.parametrize(
    ("category", "said", "never"),
    [
        ("animal", "every animal", "the animal"),
        ("food", "all the food", "every food"),
        ("person", "each person", "every people"),
        ("furniture", "any furniture", "all of the furniture"),
        ("accessory", "all accessories", "accessorys"),
        ("gadget", "every gadget", "the gadget"),
    ],
)
def test_categories_are_named_as_people_do(category: str, said: str, never: str) -> None:
    rng = np.random.default_rng(7)
    words = category_words(category)
    assert words is not None
    phrases = {category_phrase(words, rng) for _ in range(300)}
    assert said in phrases
    assert never not in phrases
    assert len(phrases) > 6


def test_places_are_no_kinds_of_thing() -> None:
    assert [category_words(name) for name in ("object", "indoor", "outdoor")] == [None] * 3
