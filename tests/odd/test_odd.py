"""Every odd input of the corpus is treated right; `make odd` prints the same as a table."""

from pathlib import Path

import pytest

from tests.odd import areas
from tests.odd.case import Case

CASES = [
    pytest.param(case, id=f"{area}: {case.name}")
    for area, cases in areas().items()
    for case in cases
]


@pytest.mark.parametrize("case", CASES)
def test_an_odd_input_is_treated_right(case: Case, tmp_path: Path) -> None:
    assert case.see(tmp_path) == case.right
