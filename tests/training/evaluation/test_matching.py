"""Matching on hand-made masks: a figure must not be wrong silently."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from limelight.masks import encode_rle
from limelight.values import RLE
from training.evaluation.matching import compare, iou_matrix, matched, ranked_hits

SIZE = (40, 60)


def box(x0: int, y0: int, x1: int, y1: int) -> RLE:
    mask = np.zeros(SIZE, bool)
    mask[y0:y1, x0:x1] = True
    return encode_rle(mask)


LEFT, MIDDLE, RIGHT = box(0, 0, 10, 10), box(20, 0, 30, 10), box(40, 0, 50, 10)


def test_all_found_is_exact_in_any_order() -> None:
    for answered in itertools.permutations((LEFT, MIDDLE, RIGHT)):
        compared = compare(answered, [LEFT, MIDDLE, RIGHT], [])
        assert compared.exact
        assert (compared.hits, compared.strict_hits, compared.iou_sum) == (3, 3, 3.0)


def test_nothing_wanted_and_nothing_answered_is_exact() -> None:
    compared = compare([], [], [])
    assert compared.exact
    assert compared.f1 == 1.0


def test_nothing_answered_misses_what_is_wanted() -> None:
    compared = compare([], [LEFT, RIGHT], [])
    assert not compared.exact
    assert (compared.hits, compared.wanted, compared.answered, compared.f1) == (0, 2, 0, 0.0)


def test_a_mask_elsewhere_is_one_too_many() -> None:
    compared = compare([LEFT, MIDDLE], [LEFT], [])
    assert not compared.exact
    assert (compared.hits, compared.answered) == (1, 2)
    assert compared.f1 == pytest.approx(2 / 3)


def test_an_instance_found_twice_counts_once() -> None:
    compared = compare([LEFT, LEFT], [LEFT], [])
    assert (compared.hits, compared.answered, compared.excused) == (1, 2, 0)
    assert not compared.exact


def test_one_mask_over_two_instances_finds_neither_twice() -> None:
    both = box(0, 0, 20, 10)
    compared = compare([both], [box(0, 0, 10, 10), box(10, 0, 20, 10)], [])
    assert compared.hits <= 1
    assert not compared.exact


@pytest.mark.parametrize(
    ("height", "hits", "strict_hits"), [(5, 1, 0), (4, 0, 0), (7, 1, 0), (8, 1, 1)]
)
def test_thresholds_are_reached_at_their_value(height: int, hits: int, strict_hits: int) -> None:
    compared = compare([box(0, 0, 10, height)], [LEFT], [])
    assert (compared.hits, compared.strict_hits) == (hits, strict_hits)
    assert compared.iou_sum == pytest.approx(hits * height / 10)


def test_a_mask_on_a_dont_care_sticker_is_neither_right_nor_wrong() -> None:
    compared = compare([LEFT, RIGHT], [LEFT], [RIGHT])
    assert compared.exact
    assert (compared.answered, compared.excused, compared.wanted) == (1, 1, 1)


def test_leaving_a_dont_care_sticker_out_is_not_wrong_either() -> None:
    assert compare([LEFT], [LEFT], [RIGHT]).exact


def test_a_small_part_of_a_dont_care_sticker_is_excused() -> None:
    assert compare([box(40, 0, 44, 4)], [], [RIGHT]).exact


def test_a_mask_mostly_beside_a_dont_care_sticker_is_not_excused() -> None:
    compared = compare([box(30, 0, 44, 10)], [], [RIGHT])
    assert (compared.answered, compared.excused) == (1, 0)


def test_dont_care_never_excuses_what_matches_a_wanted_instance() -> None:
    compared = compare([LEFT], [LEFT], [box(0, 0, 10, 10)])
    assert (compared.hits, compared.answered, compared.excused) == (1, 1, 0)


def test_an_empty_mask_is_a_false_one() -> None:
    compared = compare([box(0, 0, 0, 0)], [], [RIGHT])
    assert (compared.answered, compared.excused) == (1, 0)


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        compare([encode_rle(np.ones((5, 5), bool))], [LEFT], [])


def test_matching_takes_more_pairs_before_better_ones() -> None:
    ious = np.array([[0.99, 0.5], [0.5, 0.0]])
    assert sorted(matched(ious, 0.5)) == [(0, 1), (1, 0)]


def test_matching_takes_the_better_of_two_for_one_instance() -> None:
    ious = np.array([[0.6], [0.9], [0.7]])
    assert matched(ious, 0.5) == [(1, 0)]


def test_the_best_score_takes_an_instance_first() -> None:
    rough, exact = box(0, 0, 10, 6), LEFT
    assert ranked_hits([rough, exact, RIGHT], [LEFT, RIGHT], []) == [True, False, True]
    assert ranked_hits([exact, rough], [LEFT], []) == [True, False]


def test_ranked_masks_on_dont_care_stickers_are_excused_but_where_they_hit() -> None:
    assert ranked_hits([LEFT, RIGHT, MIDDLE], [LEFT], [LEFT, RIGHT]) == [True, None, False]
    assert ranked_hits([RIGHT], [], []) == [False]
    assert ranked_hits([], [LEFT], []) == []


def test_ious_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((3, *SIZE)) < 0.4, rng.random((2, *SIZE)) < 0.7
    ious = iou_matrix([encode_rle(mask) for mask in a], [encode_rle(mask) for mask in b])
    for row, column in itertools.product(range(3), range(2)):
        expected = (a[row] & b[column]).sum() / (a[row] | b[column]).sum()
        assert ious[row, column] == pytest.approx(expected)


@given(
    arrays.arrays(
        np.float64,
        st.tuples(st.integers(0, 4), st.integers(0, 4)),
        elements=st.floats(0, 1),
    )
)
def test_matching_finds_as_many_pairs_as_any(ious: np.ndarray) -> None:
    rows, columns = ious.shape
    small, large = sorted((rows, columns))
    table = ious if rows <= columns else ious.T
    best = max(
        sum(table[row, column] >= 0.5 for row, column in enumerate(order))
        for order in itertools.permutations(range(large), small)
    )
    pairs = matched(ious, 0.5)
    assert len(pairs) == best
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == best
