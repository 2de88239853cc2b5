"""Writes the table of values in the chart's README from the comments in values.yaml.

`make chart-files`. A comment that begins with `# --` describes the value below it, and goes on in
the comment lines that follow it.
"""

import json
import re
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "limelight"
README = CHART / "README.md"
_START, _END = "<!-- values: written by helm/values_table.py -->", "<!-- end of values -->"
_KEY = re.compile(r"^( *)([A-Za-z]+):")


def rows() -> list[tuple[str, str, str]]:
    """Path, default and description of every value that has a description."""
    text = (CHART / "values.yaml").read_text()
    defaults = yaml.safe_load(text)
    found: list[tuple[str, str, str]] = []
    path: list[tuple[int, str]] = []
    words: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            words = [stripped.removeprefix("# -- ")]
        elif stripped.startswith("#") and words:
            words.append(stripped.removeprefix("#").strip())
        elif key := _KEY.match(line):
            indent = len(key[1])
            path = [*[part for part in path if part[0] < indent], (indent, key[2])]
            if words:
                names = [name for _, name in path]
                found.append((".".join(names), _default(defaults, names), " ".join(words)))
            words = []
        elif not stripped:
            words = []
    return found


def _default(values: object, names: list[str]) -> str:
    for name in names:
        assert isinstance(values, dict)
        values = values[name]
    return json.dumps(values)


def table() -> str:
    """The table as Markdown."""
    lines = ["| value | default | |", "| --- | --- | --- |"]
    for path, default, text in rows():
        text = text.replace("|", "\\|")
        lines.append(f"| `{path}` | `{default}` | {text} |")
    return "\n".join(lines)


def readme() -> str:
    """The README with the table in its place."""
    before, _, rest = README.read_text().partition(_START)
    _, _, after = rest.partition(_END)
    return f"{before}{_START}\n{table()}\n{_END}{after}"


if __name__ == "__main__":
    README.write_text(readme())
