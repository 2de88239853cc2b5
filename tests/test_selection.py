"""The order of selections."""

import pytest

from limelight.values import SelectBy
from services.selection import rank_key


def key(by: SelectBy, position: tuple[float, float] = (2.0, 3.0)) -> float:
    return rank_key(by, position=position, area=7, score=0.5, width=10, height=6)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        (SelectBy.LEFTMOST, 2),
        (SelectBy.RIGHTMOST, -2),
        (SelectBy.TOPMOST, 3),
        (SelectBy.BOTTOMMOST, -3),
        (SelectBy.LARGEST, -7),
        (SelectBy.SMALLEST, 7),
        (SelectBy.NEAREST_CENTER, 3),
        (SelectBy.HIGHEST_SCORE, -0.5),
    ],
)
def test_the_key_of_each_order(by: SelectBy, expected: float) -> None:
    assert key(by) == expected


def test_the_center_is_that_of_pixel_centers() -> None:
    """A mask over the whole image has its centroid there."""
    assert key(SelectBy.NEAREST_CENTER, (5.0, 3.0)) == 0
