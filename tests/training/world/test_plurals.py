import pytest

from training.world.plurals import plain_plural


@pytest.mark.parametrize(
    ("name", "plural"),
    [
        ("dog", "dogs"),
        ("wine glass", "wine glasses"),
        ("bus", "buses"),
        ("toothbrush", "toothbrushes"),
        ("butterfly", "butterflies"),
        ("toy", "toys"),
        ("person", "people"),
        ("scissors", "scissors"),
        ("sheep", "sheep"),
        ("knife", "knives"),
    ],
)
def test_plain_plurals(name: str, plural: str):
    assert plain_plural(name) == plural
