"""One rule for what text is valid."""

import pytest

from limelight.text import text_fault


@pytest.mark.parametrize("text", ["a dog", "狗", "🐕", "the\n\tdog", "👨‍👩‍👧", "ĳ", "x" * 40])
def test_what_people_write_is_valid(text: str) -> None:
    assert text_fault(text, 40) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        ("\u200b", "has no visible character"),
        ("dog\x00", "contains U+0000, which is not printable text"),
        ("\ud800", "contains U+D800, which is not printable text"),
        ("\ue000", "contains U+E000, which is not printable text"),
        ("x" * 41, "has 41 characters; the limit is 40"),
    ],
)
def test_what_is_wrong_is_said(text: str, fault: str) -> None:
    assert text_fault(text, 40) == fault
