"""Paths are written as a caller would write them, and read back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limelight.paths import FieldPath

names = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
paths = st.tuples(names, st.lists(names | st.integers(0, 99), max_size=5)).map(
    lambda parts: FieldPath((parts[0], *parts[1]))
)


def test_it_is_written_with_dots_and_brackets() -> None:
    path = FieldPath() / "task" / "queries" / 2 / "exemplars" / 0 / "box"
    assert str(path) == "task.queries[2].exemplars[0].box"
    assert str(FieldPath()) == ""


@given(paths)
def test_round_trip(path: FieldPath) -> None:
    assert FieldPath.parse(str(path)) == path


@pytest.mark.parametrize("text", [".a", "a.", "a..b", "a[", "a[x]", "a[1", "a b", "1a", "a[-1]"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a field path"):
        FieldPath.parse(text)


@given(paths, paths)
def test_what_is_below_a_prefix(prefix: FieldPath, rest: FieldPath) -> None:
    assert (prefix / rest).below(prefix) == rest
    assert FieldPath(("task",)).below(FieldPath(("task", "image"))) is None
