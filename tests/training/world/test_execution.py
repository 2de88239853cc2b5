"""Plans executed on true masks."""

import numpy as np
import pytest

from limelight.values import ConceptQuery, Plan, SelectBy, Selection
from training.world.backgrounds import draw_background
from training.world.execution import execute
from training.world.phrases import PhraseBook
from training.world.scenes import Placement, Scene, compose
from training.world.vocabulary import Vocabulary

VOCABULARY = Vocabulary.load()
PHRASES = PhraseBook(VOCABULARY)


def _plan(*include: str, exclude: tuple[str, ...] = (), select: Selection | None = None) -> Plan:
    return Plan(tuple(map(ConceptQuery, include)), tuple(map(ConceptQuery, exclude)), select)


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Index 0: a small red apple top left; 1: a large green one bottom right; 2: a dog, middle."""
    stickers = (
        ("red apple", (0.2, 0.2), 0.2),
        ("green apple", (0.75, 0.75), 0.4),
        ("dog", (0.5, 0.45), 0.25),
    )
    placements = [Placement(VOCABULARY.by_name[n], at, side) for n, at, side in stickers]
    return compose(placements, draw_background(np.random.default_rng(1), (200, 200)))


@pytest.mark.parametrize(
    ("plan", "answer"),
    [
        (_plan("dog"), {2}),
        (_plan("apple"), {0, 1}),
        (_plan("apple", "dog"), {0, 1, 2}),
        (_plan("apple", exclude=("green apple",)), {0}),
        (_plan("elephant"), set()),
        (_plan("animal"), set()),
        (_plan(), set()),
        (_plan("apple", "dog", select=Selection(SelectBy.LEFTMOST)), {0}),
        (_plan("apple", "dog", select=Selection(SelectBy.RIGHTMOST, rank=2)), {2}),
        (_plan("apple", "dog", select=Selection(SelectBy.TOPMOST, count=2)), {0, 2}),
        (_plan("apple", "dog", select=Selection(SelectBy.BOTTOMMOST)), {1}),
        (_plan("apple", select=Selection(SelectBy.LARGEST)), {1}),
        (_plan("apple", select=Selection(SelectBy.SMALLEST)), {0}),
        (_plan("apple", "dog", select=Selection(SelectBy.NEAREST_CENTER)), {2}),
        (_plan("apple", select=Selection(SelectBy.LARGEST, rank=3)), set()),
    ],
)
def test_answers(scene: Scene, plan: Plan, answer: set[int]) -> None:
    assert execute(plan, scene, PHRASES) == answer
