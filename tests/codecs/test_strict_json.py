"""JSON that is read and written strictly: what another reader would see differently is refused."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.codecs.strict_json import JsonFault, dumps, finite, loads

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner)
    ),
    max_leaves=6,
)


@given(VALUES, st.booleans())
def test_what_is_written_is_read(value: Any, ascii_only: bool) -> None:
    text = dumps(value, ascii_only=ascii_only)
    assert loads(text, exact=True) == value == json.loads(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("NaN", "NaN is not a JSON value (column 1)"),
        ('{"a": "NaN", "b": [1, NaN]}', "NaN is not a JSON value (column 23)"),
        ('{"a": "\\"NaN",\n "b": -Infinity}', "-Infinity is not a JSON value (line 2, column 7)"),
        ("[Infinity]", "Infinity is not a JSON value (column 2)"),
        ('["1e400", 1e400]', "the number 1e400 is too large (column 11)"),
        ("-1e999", "the number -1e999 is too large"),
        ("[" + "9" * 5000 + "]", "has too many digits (column 2)"),
        ('{"a": 1, "a": 1}', 'the key "a" is given twice'),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', 'the key "b" is given twice'),
        (r'{"a": 1, "\u0061": 2}', 'the key "a" is given twice'),
        (r'["\ud800"]', r"the escape \ud800 is half of a surrogate pair"),
        (r'{"\uDFFF": 1}', r"the escape \udfff is half of a surrogate pair"),
        (r'{"a": {"b": ["\udc00\ud800"]}}', "is half of a surrogate pair"),
        ("[" * 100_000, "nested too deep"),
        ("{'a': 1}", "not valid JSON"),
        ("[1,]", "not valid JSON"),
        ("01", "not valid JSON"),
        ("+1", "not valid JSON"),
        (".5", "not valid JSON"),
        ("1.", "not valid JSON"),
        ("0x10", "not valid JSON"),
        ("١", "not valid JSON"),
        ('"a\tb"', "not valid JSON"),
        ("// a\n1", "not valid JSON"),
        ("True", "not valid JSON"),
        ("\ufeff1", "not valid JSON"),
        ("", "not valid JSON"),
        ("1 2", "not valid JSON"),
        ("[1,\n 2\n 3]", "(line 3, column 2)"),
    ],
)
def test_what_is_not_json_is_refused(text: str, says: str) -> None:
    with pytest.raises(JsonFault) as caught:
        loads(text)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d\ude00"', "😀"),
        (r'"\\ud800"', "\\ud800"),
        ('"\u2028"', "\u2028"),
        ("1E2", 100.0),
        ("-0", 0),
        ('{"a":1,"A":2}', {"a": 1, "A": 2}),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        ("0.10000000000000000001", 0.1),
    ],
)
def test_what_is_json_is_read(text: str, value: Any) -> None:
    assert loads(text) == value


@pytest.mark.parametrize(
    "text", ["0.10000000000000000001", "1e-400", "9007199254740993.0", "1e-99999999999999999999"]
)
def test_digits_that_would_be_lost_are_refused_where_they_count(text: str) -> None:
    loads(text)
    with pytest.raises(JsonFault, match="more digits than double precision"):
        loads(text, exact=True)


@pytest.mark.parametrize("text", ["0.1", "1.0", "1.50", "1e22", "5e-324", "0.30000000000000004"])
def test_digits_that_are_kept_are_not(text: str) -> None:
    assert loads(text, exact=True) == float(text)


@pytest.mark.parametrize(
    "value",
    [math.nan, [math.inf], {"a": -math.inf}, "\ud800", {"\udc00": 1}, [["a\udfff"]]],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_json_cannot_hold_is_not_written(value: Any, ascii_only: bool) -> None:
    with pytest.raises(JsonFault):
        dumps(value, ascii_only=ascii_only)


def test_logs_have_gaps_for_what_is_not_finite() -> None:
    value = {"a": [math.nan, 1.5, (math.inf,)], "b": {"c": -math.inf, "d": "NaN", "e": 1}}
    expected = {"a": [None, 1.5, [None]], "b": {"c": None, "d": "NaN", "e": 1}}
    assert finite(value) == expected


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("900.0", 900),
        ("9e2", 900),
        ("-0.0", 0),
        ('{"id": 0.0, "size": [900.0, 1.5]}', {"id": 0, "size": [900, 1.5]}),
        ("1e300", 1e300),
        ("1.5", 1.5),
    ],
)
def test_a_whole_number_is_one_however_it_is_written_where_that_is_asked(
    text: str, value: Any
) -> None:
    assert repr(loads(text, whole=True)) == repr(value)
    assert loads(text) == value


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
def test_what_is_not_finite_may_be_read_to_be_named(text: str) -> None:
    (value,) = loads(f"[{text}]", infinite=True)
    assert not math.isfinite(value)
    with pytest.raises(JsonFault):
        loads(f"[{text}]")
