"""The caller's arguments by type, before they become a request: an error says which, and what came.

Whole numbers may come as any number without a fraction (5.0, NumPy's); what lies in bounds is the
service's to judge. Each function takes the argument's name as the caller would write it, and raises
TypeError for a value of another kind, ValueError for one that no request can hold.
"""

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from limelight.values import Box, ConceptQuery, Exemplar, SelectBy, Selection

# A proto's int32. gRPC's deadlines hold not much more than these seconds: 31 years.
_MOST = 2**31 - 1
_MOST_SECONDS = 1e9
_SHOWN = 60


def whole(value: object, name: str) -> int:
    """A whole number of at least 1."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a whole number, not {shown(value)}")
    if isinstance(value, Integral):
        count = int(value)
    elif float(value).is_integer():
        count = int(float(value))
    else:
        raise ValueError(f"{name} must be a whole number, not {shown(value)}")
    if not 1 <= count <= _MOST:
        raise ValueError(f"{name} must be from 1 to {_MOST}, not {shown(value)}")
    return count


def whole_or_0(value: object, name: str) -> int:
    """The same, or 0, which stands in requests for what is unset."""
    return 0 if value is None else whole(value, name)


def number(value: object, name: str) -> float:
    """Any number."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} is out of range: {shown(value)}") from None


def number_or_none(value: object, name: str) -> float | None:
    """Any number, if there is one."""
    return None if value is None else number(value, name)


def seconds(value: object, name: str) -> float:
    """A length of time above 0; infinity stands for the longest there is."""
    length = number(value, name)
    if not length > 0:  # also for NaN
        raise ValueError(f"{name} must be above 0 seconds, not {shown(value)}")
    return min(length, _MOST_SECONDS)


def text(value: object, name: str) -> str:
    """Text that UTF-8 can hold."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be text, not {shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        half = f"U+{ord(value[exc.start]):04X}"
        raise ValueError(
            f"{name} holds {half}, half of a surrogate pair, which is not text"
        ) from None
    return value


def truth(value: object, name: str) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {shown(value)}")
    return bool(value)


def items(value: Any, name: str) -> list[Any]:
    """A list, or anything that can be gone through; None is an empty one."""
    if value is None:
        return []
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be a list, not {shown(value)}")
    return list(value)


def query(value: object, name: str) -> ConceptQuery:
    """A query whose parts are what they should be."""
    if not isinstance(value, ConceptQuery):
        raise TypeError(f"{name} must be a ConceptQuery, not {shown(value)}")
    return ConceptQuery(
        text(value.phrase, f"{name}.phrase"),
        tuple(
            _exemplar(item, f"{name}.exemplars[{index}]")
            for index, item in enumerate(items(value.exemplars, f"{name}.exemplars"))
        ),
    )


def selection(value: object, name: str) -> Selection:
    """A selection whose parts are what they should be."""
    if not isinstance(value, Selection):
        raise TypeError(f"{name} must be a Selection, not {shown(value)}")
    try:
        by = SelectBy(value.by)
    except ValueError:
        known = ", ".join(SelectBy)
        raise ValueError(f"{name}.by must be one of {known}, not {shown(value.by)}") from None
    return Selection(by, whole(value.rank, f"{name}.rank"), whole(value.count, f"{name}.count"))


def options(given: Iterable[str], known: Sequence[str], name: str) -> None:
    """Keyword arguments that a function has; a misspelled one must not be lost."""
    unknown = [option for option in given if option not in known]
    if unknown:
        raise TypeError(
            f"{name} has no argument {unknown[0]!r}; it has image, instruction, {', '.join(known)}"
        )


def shown(value: object) -> str:
    """What came instead, short enough for a message."""
    written = repr(value)
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…"


def _exemplar(value: object, name: str) -> Exemplar:
    if not isinstance(value, Exemplar):
        raise TypeError(f"{name} must be an Exemplar, not {shown(value)}")
    box = value.box
    if not isinstance(box, Box):
        raise TypeError(f"{name}.box must be a Box, not {shown(box)}")
    sides = (number(getattr(box, side), f"{name}.box.{side}") for side in ("x0", "y0", "x1", "y1"))
    return Exemplar(Box(*sides), truth(value.positive, f"{name}.positive"))
