"""Text files as editors and tools of all kinds write them."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.codecs.text_files import EncodingFault, decoded, numbered_lines

ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff\0")))
def test_text_is_read_in_every_encoding_that_says_what_it_is(text: str) -> None:
    for encoding, mark in ENCODINGS.items():
        assert decoded(mark + text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        (b"\xe9", 1, "line 1, byte 1: 0xE9 is not UTF-8"),
        ("ä\r\nö\rü é".encode() + b" \xfc", 3, "line 3, byte 7: 0xFC is not UTF-8"),
        (codecs.BOM_UTF8 + b"ab\xff", 1, "line 1, byte 6: 0xFF is not UTF-8"),
        (codecs.BOM_UTF8 + b"a\nb\xff", 2, "line 2, byte 2: 0xFF is not UTF-8"),
        (b"a\n\xf0\x9f\x98", 2, "line 2, byte 1: 0xF0 is not UTF-8"),
        (b"\xc0\xaf", 1, "0xC0 is not UTF-8"),
        (b"\xed\xa0\x80", 1, "0xED is not UTF-8"),
        (codecs.BOM_UTF16_LE + "a\nb".encode("utf-16-le") + b"\x00\xd8", 2, "is not UTF-16"),
        (codecs.BOM_UTF16_BE + b"\x00a\x00", 1, "is not UTF-16"),
        (codecs.BOM_UTF32_LE + b"\xff\xff\xff\xff", 1, "is not UTF-32"),
        ("ab".encode("utf-16-le"), 1, "UTF-16 without a byte order mark"),
        ("ab".encode("utf-16-be"), 1, "UTF-16 without a byte order mark"),
        ("ab".encode("utf-32-be"), 1, "UTF-16 without a byte order mark"),
        ("größer".encode("latin-1"), 1, "byte 3: 0xF6 is not UTF-8"),
        ("größer".encode("cp1252"), 1, "byte 3: 0xF6 is not UTF-8"),
        ("größer".encode("mac-roman"), 1, "byte 3: 0x9A is not UTF-8"),
        ("日本".encode("shift-jis"), 1, "byte 1: 0x93 is not UTF-8"),
        ("日本".encode("euc-jp"), 1, "byte 1: 0xC6 is not UTF-8"),
        ("привет".encode("koi8-r"), 1, "byte 1: 0xD0 is not UTF-8"),
    ],
)
def test_anything_else_is_named_by_line_and_byte(content: bytes, line: int, says: str) -> None:
    with pytest.raises(EncodingFault) as caught:
        decoded(content)
    assert says in str(caught.value)
    assert caught.value.line == line
    assert str(caught.value) == f"line {line}, {caught.value.fault}"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", [(1, "a")]),
        ("a\n", [(1, "a")]),
        ("a\r\nb\rc\nd", [(1, "a"), (2, "b"), (3, "c"), (4, "d")]),
        ("\n\r\n \t\n\ra", [(5, "a")]),
        ("a\u2028b\x85c\x0bd\x1ce\n", [(1, "a\u2028b\x85c\x0bd\x1ce")]),
        ("a\n\ufeffb\n\ufeff\n", [(1, "a"), (2, "b")]),
        (" a \n", [(1, " a ")]),
    ],
)
def test_lines_are_numbered_as_an_editor_does(text: str, lines: list[tuple[int, str]]) -> None:
    assert list(numbered_lines(text)) == lines


def test_a_very_long_line_is_read_quickly() -> None:
    text = "x" * 20_000_000 + "\ny"
    assert [number for number, _ in numbered_lines(text)] == [1, 2]
