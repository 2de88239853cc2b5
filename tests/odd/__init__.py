"""Odd inputs as real users have them, each made by code: `make odd` prints what becomes of them.

A module of this package covers one area and has `cases() -> list[Case]`; being here is all it takes
to be part of the corpus. `test_odd` runs every case, `python -m tests.odd` prints the table.
"""

import importlib
import pkgutil

from tests.odd.case import Case

_NOT_AREAS = frozenset({"__main__", "case", "test_odd"})


def areas() -> dict[str, list[Case]]:
    """The cases of each area, by the name of its module, in alphabetical order.

    Raises:
        ValueError: two cases have the same name.
    """
    found: dict[str, list[Case]] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
        if module not in _NOT_AREAS:
            found[module] = importlib.import_module(f"{__name__}.{module}").cases()
    names = [case.name for cases in found.values() for case in cases]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"more than one case is named {', '.join(twice)}")
    return found
