"""`make odd`: tries every odd input and prints a table; exits 1 if one is not treated right."""

import argparse
import sys
import tempfile
import textwrap
from pathlib import Path

from tests.odd import areas
from tests.odd.case import Case

_WIDTHS = (46, 46, 46)


def main() -> int:
    """Print input, right and seen of each case, and how many of them hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.odd", description=__doc__)
    parser.add_argument("area", nargs="*", help="areas to try; all of them unless given")
    wanted = parser.parse_args().area
    found = areas()
    if unknown := sorted(set(wanted) - found.keys()):
        parser.error(f"no area {', '.join(unknown)}; there are {', '.join(found)}")
    tried = wrong = 0
    print(_row("input", "what is right", "what was seen", " "))
    for area in wanted or found:
        print(f"\n{area}")
        for case in found[area]:
            seen = tried_in_a_new_folder(case)
            holds = seen == case.right
            tried, wrong = tried + 1, wrong + (not holds)
            print(_row(case.name, case.right, "the same" if holds else seen, " " if holds else "✗"))
    print(f"\n{tried - wrong} of {tried} hold")
    return 1 if wrong else 0


def tried_in_a_new_folder(case: Case) -> str:
    """What is seen of `case`; an exception that its `see` lets through is seen as one."""
    with tempfile.TemporaryDirectory(prefix="odd-") as folder:
        try:
            return case.see(Path(folder))
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def _row(name: str, right: str, seen: str, mark: str) -> str:
    columns = [
        textwrap.wrap(text, width, break_long_words=True) or [""]
        for text, width in zip((name, right, seen), _WIDTHS, strict=True)
    ]
    lines = []
    for at in range(max(map(len, columns))):
        cells = [
            (column[at] if at < len(column) else "").ljust(width)
            for column, width in zip(columns, _WIDTHS, strict=True)
        ]
        lines.append(f"{mark if at == 0 else ' '} {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
