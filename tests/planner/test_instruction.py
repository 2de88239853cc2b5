"""Instructions: one form for one meaning, and a phrase for the worst case."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import InvalidRequest
from services.planner.instruction import MAX_PHRASE_BYTES, as_phrase, normalized


def test_spellings_of_one_instruction_are_one() -> None:
    assert normalized("  the\tcafé\n", 100) == normalized("the cafe\u0301", 100) == "the café"


def test_the_limit_is_on_what_was_sent() -> None:
    assert normalized("x" * 10, 10) == "x" * 10
    with pytest.raises(InvalidRequest):
        normalized("x" * 11, 10)


@pytest.mark.parametrize("text", ["犬", "🐶", "?", "la perra"])
def test_any_script_is_an_instruction(text: str) -> None:
    assert normalized(text, 100) == text


@pytest.mark.parametrize(
    ("instruction", "phrase"),
    [
        ("Please segment the red apple.", "red apple"),
        ("dog", "dog"),
        ("Cut out all of the umbrellas!", "umbrellas"),
        ("show me", "show me"),
        ("...", "..."),
        ("the thing that would be the most useful in the rain", "thing that would be the most"),
        ("x" * 100, "x" * 30),
        ("日本語で書かれた指示です", "日本語で書かれた指示"),
    ],
)
def test_an_instruction_as_a_phrase(instruction: str, phrase: str) -> None:
    assert as_phrase(instruction) == phrase


@given(st.text(min_size=1, max_size=200))
def test_a_phrase_always_fits_and_is_never_blank(text: str) -> None:
    try:
        instruction = normalized(text, 1000)
    except InvalidRequest:
        return
    phrase = as_phrase(instruction)
    assert phrase.strip()
    assert len(phrase.encode()) <= MAX_PHRASE_BYTES
