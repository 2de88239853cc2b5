"""docs/security.md names tests, settings and files that there are."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from services.gateway.settings import Settings

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
DEFENSES = PAGE.partition("\n## What is defended")[2].partition("\n## ")[0]


@cache
def names_in(path: Path) -> set[str]:
    """The names of the tests in a module."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    body = ast.parse(path.read_text("utf-8")).body
    return {node.name for node in body if isinstance(node, functions)}


NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_it_names_exists(path: str, name: str) -> None:
    assert name in names_in(ROOT / path)


def test_every_defense_has_a_test_that_shows_it() -> None:
    rows = [line for line in DEFENSES.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith(("| ---", "| threat "))]
    assert len(rows) > 15
    assert [row for row in rows if "`tests/" not in row] == []


def test_nothing_else_in_it_looks_like_a_test() -> None:
    """A name that the pattern above misses would be checked by nobody."""
    assert PAGE.count("::test_") == sum(PAGE.count(f"`{path}::{name}`") for path, name in NAMED), (
        "write a test as `tests/path.py::test_name`"
    )


def test_every_setting_that_it_names_exists() -> None:
    named = set(re.findall(r"LIMELIGHT_GATEWAY_([A-Z_]+)", PAGE))
    assert named
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_every_file_that_it_links_exists() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
