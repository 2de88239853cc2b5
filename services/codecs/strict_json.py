"""JSON as RFC 8259 defines it: what people hand in is read by it, what they get is written by it.

Python's `json` alone reads and writes NaN, forgets all but the last value of a key that an object
holds twice, reads 1e400 as infinity, and makes lone surrogates of their escapes, which no file can
hold.
"""

import functools
import json
import math
import re
from decimal import Decimal
from typing import Any, NoReturn

# Strict UTF-8 has no surrogates, so they can only come from escapes.
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SHOWN = 40
# Beyond it, not every whole number has a double.
_WHOLE_BELOW = 2**53


class JsonFault(ValueError):
    """Text that is not JSON, or a value that JSON cannot hold; the message is for a person."""


def loads(text: str, *, exact: bool = False, whole: bool = False, infinite: bool = False) -> Any:
    """The value that `text` holds.

    Args:
        text: one JSON value; a byte order mark before it is not a part of it.
        exact: refuse decimals with more digits than double precision keeps.
        whole: read 900.0 as 900, for files whose writers know one kind of number.
        infinite: read NaN, Infinity and 1e400, for a reader that says itself where they stand.

    Raises:
        JsonFault: it is not JSON, an object holds a key twice, a number is out of range, or a
            string holds half of a surrogate pair.
    """
    number = functools.partial(_decimal, exact=exact, whole=whole, infinite=infinite)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=float if infinite else _constant,
            parse_float=number,
            parse_int=_integer,
        )
    except json.JSONDecodeError as exc:
        line = f"line {exc.lineno}, " if "\n" in text else ""
        raise JsonFault(f"not valid JSON: {exc.msg} ({line}column {exc.colno})") from None
    except RecursionError:
        raise JsonFault("not valid JSON: nested too deep") from None
    except _TokenFault as exc:
        raise JsonFault(f"{exc}{_place(text, exc.token)}") from None
    if _SURROGATE_ESCAPE.search(text):
        _refuse_surrogates(value)
    return value


def dumps(value: Any, *, indent: int | None = None, ascii_only: bool = True) -> str:
    """`value` as JSON, compact unless indented; non-ASCII characters escaped, or as they are.

    Raises:
        JsonFault: a number is not finite, or a string holds half of a surrogate pair.
    """
    separators = (",", ":") if indent is None else None
    try:
        text = json.dumps(
            value,
            allow_nan=False,
            ensure_ascii=ascii_only,
            indent=indent,
            separators=separators,
        )
        text.encode()
    except UnicodeEncodeError:
        raise JsonFault("JSON cannot hold half of a surrogate pair") from None
    except ValueError:
        raise JsonFault("JSON cannot hold a number that is not finite") from None
    if ascii_only and _SURROGATE_ESCAPE.search(text):
        _refuse_surrogates(value)
    return text


def finite(value: Any) -> Any:
    """`value` with None for each number that is not finite: for logs, which must not fail."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise JsonFault(f"the key {_shown(json.dumps(key))} is given twice")
            seen.add(key)
    return values


class _TokenFault(ValueError):
    """A token of the text that JSON does not have."""

    def __init__(self, token: str, message: str) -> None:
        super().__init__(message)
        self.token = token


def _place(text: str, token: str) -> str:
    """Where the token stands in the text, outside strings."""
    for match in re.finditer(rf'"(?:[^"\\]|\\.)*"|(?<![\w.+-]){re.escape(token)}', text, re.S):
        if match[0] == token:
            before = text[: match.start()]
            column = len(before) - before.rfind("\n")
            line = f"line {before.count(chr(10)) + 1}, " if "\n" in text else ""
            return f" ({line}column {column})"
    return ""


def _constant(name: str) -> NoReturn:
    raise _TokenFault(name, f"{name} is not a JSON value")


def _decimal(text: str, exact: bool, whole: bool, infinite: bool) -> float:
    number = float(text)
    if infinite and not math.isfinite(number):
        return number
    if not math.isfinite(number):
        raise _TokenFault(text, f"the number {_shown(text)} is too large")
    if exact:
        try:
            kept = Decimal(text) == Decimal(repr(number))
        except ArithmeticError:  # an exponent that even Decimal does not hold
            kept = False
        if not kept:
            message = f"the number {_shown(text)} has more digits than double precision"
            raise _TokenFault(text, message)
    if whole and number.is_integer() and abs(number) < _WHOLE_BELOW:
        return int(number)
    return number


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python reads no more than some thousand digits
        raise _TokenFault(text, f"the number {_shown(text)} has too many digits") from None


def _refuse_surrogates(value: Any) -> None:
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as exc:
                code = ord(value[exc.start])
                raise JsonFault(
                    f"the escape \\u{code:04x} is half of a surrogate pair, which is not text"
                ) from None
        case dict():
            for key, inner in value.items():
                _refuse_surrogates(key)
                _refuse_surrogates(inner)
        case list() | tuple():
            for inner in value:
                _refuse_surrogates(inner)


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
