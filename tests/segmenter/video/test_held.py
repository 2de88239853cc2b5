"""Answers held back: an id that was lent is given back, and nothing else is touched."""

import numpy as np
import pytest

from limelight.masks import encode_rle
from limelight.values import Box
from services.segmenter.video.held import HeldAnswers
from services.segmenter.video.results import MaskletFrame, MaskletInstance, Sighting

SIDE = 40
# What one box of 8 pixels' side covers, by its left edge.
Shown = dict[int, int]
NONE: frozenset[int] = frozenset()


def answer(
    index: int, shown: Shown, concepts: dict[int, int] | None = None, tracked: frozenset[int] = NONE
) -> MaskletFrame:
    """All detected but `tracked`."""
    instances = []
    for number, left in sorted(shown.items()):
        mask = np.zeros((SIDE, SIDE), np.bool_)
        mask[10:18, left : left + 8] = True
        instances.append(
            MaskletInstance(
                number,
                (concepts or {}).get(number, 0),
                "dog",
                0.9,
                0.9,
                1.0,
                Sighting.TRACKED if number in tracked else Sighting.DETECTED,
                Box(left, 10, left + 8, 18),
                encode_rle(mask),
                64,
            )
        )
    return MaskletFrame(index, SIDE, SIDE, tuple(instances))


def told(frames: list[MaskletFrame]) -> list[Shown]:
    return [{item.object_id: int(item.box.x0) for item in frame.instances} for frame in frames]


def after(
    shown: list[Shown], concepts: dict[int, int] | None = None, delay: int = 15
) -> list[Shown]:
    """What comes out for what goes in."""
    held = HeldAnswers([], delay, lending=True)
    frames = [
        ready
        for index, one in enumerate(shown)
        for ready in held.add(answer(index, one, concepts), frozenset())
    ]
    return told([*frames, *held.clear()])


# 1 stands still at 10 while 2 comes, is seen as one with it, and goes; that one was called 2.
MEETING = [{1: 10, 2: 20}, {1: 10, 2: 16}, {2: 10}, {2: 10}, {2: 11}, {1: 10, 2: 16}]
APART = [{1: 10, 2: 20}, {1: 10, 2: 16}, {1: 10}, {1: 10}, {1: 11}, {1: 10, 2: 16}]


def test_an_id_that_was_lent_is_given_back() -> None:
    assert after(MEETING) == APART


def test_one_whose_mask_was_tracked_elsewhere_takes_its_own_back() -> None:
    held = HeldAnswers([], 15, lending=True)
    for index, one in enumerate(MEETING):
        tracked = {1: 30, **one} if index in (2, 3, 4) else one
        held.add(answer(index, tracked, tracked=frozenset({1}) & {*tracked} - {*one}), NONE)
    gap = [{1: 10, 2: 30}, {1: 10, 2: 30}, {1: 11, 2: 30}]
    assert told(held.clear()) == [*MEETING[:2], *gap, MEETING[5]]


def test_one_that_bore_it_for_a_part_of_the_time_gives_that_back() -> None:
    shown = [{1: 10, 2: 20}, {2: 10}, {2: 10}, {2: 18}, {1: 11, 2: 18}]
    assert after(shown) == [shown[0], {1: 10}, {1: 10}, *shown[3:]]
    assert after(shown[::-1]) == [*shown[4:2:-1], {1: 10}, {1: 10}, shown[0]]


def test_who_jumps_where_nobody_else_was_keeps_its_id() -> None:
    shown = [{1: 10, 2: 20}, {1: 30, 2: 20}, {1: 30, 2: 20}, {1: 10, 2: 20}]
    assert after(shown) == shown


def test_one_that_was_shown_as_itself_stays() -> None:
    assert after(APART) == APART


def test_of_two_that_moved_on_each_keeps_its_own() -> None:
    shown = [{1: 10, 2: 20}, {1: 10, 2: 18}, {2: 17}, {2: 16}, {1: 10, 2: 15}]
    assert after(shown) == shown


def test_another_concept_bears_no_id_of_this() -> None:
    assert after(MEETING, {1: 0, 2: 1}) == MEETING


def test_a_frame_without_either_parts_two_that_are_given_back() -> None:
    assert after([*MEETING[:3], {}, *MEETING[4:]]) == [*APART[:3], {}, *APART[4:]]


def test_one_that_begins_and_ends_in_the_gap_is_left_alone() -> None:
    shown = [{1: 10}, {3: 10}, {3: 10}, {1: 10}]
    assert after(shown) == shown


def test_what_was_let_go_is_let_go() -> None:
    assert after(MEETING, delay=3) == MEETING


@pytest.mark.parametrize("delay", [0, 15])
def test_without_it_only_what_is_recalled_changes(delay: int) -> None:
    held = HeldAnswers([], delay, lending=False)
    frames = [
        ready
        for index, one in enumerate(MEETING)
        for ready in held.add(answer(index, one), frozenset({2}) if index == 5 else NONE)
    ]
    left = told([*frames, *held.clear()])
    recalled = [{i: x for i, x in one.items() if i != 2} for one in MEETING]
    assert left == (recalled if delay else [*MEETING[:5], recalled[5]])
