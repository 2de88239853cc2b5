"""Executing a plan on masks alone."""

import numpy as np
import pytest

from limelight.masks import encode_rle, rle_bbox
from limelight.values import ConceptQuery, ModelInfo, Plan, SelectBy, Selection
from services.domain import Detection, QueryResult, SegmentedImage, SegmentedInstance
from services.gateway.execution import excluded, found, selected

HEIGHT, WIDTH = 40, 60
DOG, CAT = ConceptQuery("dog"), ConceptQuery("cat")


def thing(x0: int, y0: int, x1: int, y1: int, score: float = 0.9) -> Detection:
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y0:y1, x0:x1] = True
    rle = encode_rle(mask)
    return Detection(score, rle_bbox(rle), rle, int(mask.sum()))


def image(*results: list[Detection]) -> SegmentedImage:
    model = ModelInfo("segmenter", "drawn", "1", "test")
    return SegmentedImage(
        WIDTH, HEIGHT, tuple(QueryResult(0.9, tuple(things)) for things in results), model
    )


def candidates(*things: Detection) -> list[SegmentedInstance]:
    """The things as one query's candidates, ids from 1, best scores first."""
    return found(Plan((DOG,)), image(list(things)))


def places(chosen: list[SegmentedInstance]) -> list[float]:
    return [item.box.x0 for item in chosen]


def test_candidates_are_numbered_by_score() -> None:
    items = found(Plan((DOG, CAT)), image([thing(0, 0, 5, 5, 0.6)], [thing(9, 0, 14, 5, 0.8)]))
    assert [(item.id, item.phrase, item.provenance.query) for item in items] == [
        (1, "cat", 1),
        (2, "dog", 0),
    ]


def test_the_same_thing_of_two_queries_is_there_once() -> None:
    plan = Plan((ConceptQuery("animal"), DOG))
    items = found(plan, image([thing(0, 0, 10, 10, 0.7)], [thing(0, 0, 10, 11, 0.9)]))
    assert [item.phrase for item in items] == ["dog"]
    # IoU 0.5: two things that overlap.
    assert len(found(plan, image([thing(0, 0, 10, 10)], [thing(0, 0, 10, 20)]))) == 2
    # Of one query, the segmenter has seen to it.
    assert len(candidates(thing(0, 0, 10, 10), thing(0, 0, 10, 11))) == 2


def test_exclusion_needs_more_than_half() -> None:
    plan = Plan((DOG,), (CAT,))
    things = [thing(0, 0, 10, 10), thing(20, 0, 30, 10), thing(40, 0, 50, 10)]
    answer = image(things, [thing(0, 0, 10, 5), thing(20, 0, 30, 6)])
    items = found(plan, answer)
    gone = excluded(plan, answer, items)
    assert {item.box.x0 for item in items if item.id in gone} == {20}
    assert excluded(Plan((DOG,)), image(things), items) == set()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (None, [0, 20, 45]),
        (Selection(SelectBy.LEFTMOST), [0]),
        (Selection(SelectBy.RIGHTMOST, rank=2), [20]),
        (Selection(SelectBy.LEFTMOST, rank=2, count=2), [20, 45]),
        (Selection(SelectBy.LARGEST), [45]),
        (Selection(SelectBy.SMALLEST, count=2), [0, 20]),
        (Selection(SelectBy.NEAREST_CENTER), [20]),
        (Selection(SelectBy.HIGHEST_SCORE), [0]),
        (Selection(SelectBy.LEFTMOST, rank=3, count=9), [45]),
        (Selection(SelectBy.LEFTMOST, rank=4), []),
    ],
)
def test_selections(selection: Selection | None, expected: list[int]) -> None:
    items = candidates(
        thing(0, 0, 6, 6, 0.9), thing(20, 10, 28, 20, 0.8), thing(45, 20, 60, 40, 0.7)
    )
    assert places(selected(selection, items, WIDTH, HEIGHT)) == expected


def test_ties_keep_the_better_score_and_then_the_lower_id() -> None:
    items = candidates(thing(9, 0, 12, 3, 0.5), thing(0, 9, 3, 12, 0.6), thing(20, 9, 23, 12, 0.6))
    chosen = selected(Selection(SelectBy.LARGEST, count=3), items, WIDTH, HEIGHT)
    assert places(chosen) == [0, 20, 9]


def test_the_center_is_exact_to_half_a_pixel() -> None:
    """The image is 60 wide: columns 29 and 30 are equally near, 28 is not as near as 30."""
    near, far = thing(30, 19, 31, 21, 0.6), thing(28, 19, 29, 21, 0.9)
    nearest = Selection(SelectBy.NEAREST_CENTER)
    assert places(selected(nearest, candidates(near, far), WIDTH, HEIGHT)) == [30]
    left, right = thing(29, 19, 30, 21, 0.6), thing(30, 19, 31, 21, 0.9)
    # Equally near, so that the better score decides.
    assert places(selected(nearest, candidates(left, right), WIDTH, HEIGHT)) == [30]


def test_nothing_gives_nothing() -> None:
    assert candidates() == []
    assert selected(Selection(SelectBy.LARGEST), [], WIDTH, HEIGHT) == []
    assert excluded(Plan((DOG,), (CAT,)), image([], [thing(0, 0, 5, 5)]), []) == set()
