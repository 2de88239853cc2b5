"""The policy on masks that are drawn by hand: one rule a test."""

from dataclasses import replace
from typing import Any

import numpy as np

from services.segmenter.video.association import (
    Association,
    FrameTracking,
    associate,
    suppress_duplicates,
)
from services.segmenter.video.engine import Logits, TrackingPolicy
from services.segmenter.video.matching import FrameDetections, TrackRecord

POLICY = TrackingPolicy(fill_area=0)
SIDE = 20


def box(x0: int, y0: int, x1: int, y1: int, sure: float = 5) -> Logits:
    logits = np.full((SIDE, SIDE), -5, np.float32)
    logits[y0:y1, x0:x1] = sure
    return logits


HIDDEN = np.full((SIDE, SIDE), -5, np.float32)
LEFT, RIGHT = box(0, 0, 8, 8), box(10, 0, 18, 8)


def record(number: int, concept: int = 0, **more: int) -> TrackRecord:
    fields = {"first": 0, "seen": 0, "keep_alive": 30, **more}
    return TrackRecord(number, concept, 0.9, **fields)


def run(
    records: list[TrackRecord],
    tracks: list[Logits],
    detections: list[Any],
    policy: TrackingPolicy = POLICY,
    at: int = 5,
    **options: Any,
) -> Association:
    """Detections are (score, mask) or (score, mask, concept)."""
    rows = [(*d, 0)[:3] for d in detections]
    empty = np.zeros((0, SIDE, SIDE), np.float32)
    given = {"max_objects": 10, "patience": 100, "removal": True, **options}
    return associate(
        at,
        records,
        FrameDetections(
            np.stack([mask for _, mask, _ in rows]) if rows else empty,
            np.array([score for score, _, _ in rows], np.float32),
            np.array([concept for _, _, concept in rows], np.int64),
        ),
        FrameTracking(np.stack(tracks) if tracks else empty, np.full(len(tracks), 3.0, np.float32)),
        policy,
        **given,
    )


def test_detections_of_an_empty_session_become_objects_in_their_order() -> None:
    plan = run([], [], [(0.6, LEFT), (0.9, RIGHT)])
    assert [(n.detection, round(n.score, 2)) for n in plan.new] == [(0, 0.6), (1, 0.9)]


def test_beside_others_a_new_object_must_be_sure_and_elsewhere() -> None:
    plan = run([record(1)], [LEFT], [(0.9, LEFT), (0.69, RIGHT), (0.71, box(10, 10, 18, 18))])
    assert [n.detection for n in plan.new] == [2]


def test_concepts_are_matched_apart() -> None:
    plan = run([record(1, 0)], [LEFT], [(0.9, LEFT, 1)])
    assert [n.concept for n in plan.new] == [1]
    assert plan.records[0].unmatched == 1


def test_of_new_ones_beyond_the_cap_the_best_are_kept_and_the_others_told() -> None:
    found = [(0.8, LEFT), (0.95, RIGHT), (0.9, box(0, 10, 8, 18))]
    plan = run([record(1)], [box(10, 10, 18, 18)], found, max_objects=2)
    assert [n.detection for n in plan.new] == [1]
    assert plan.over_cap == 2
    assert not plan.removed


def test_at_the_cap_an_object_lost_for_long_makes_room() -> None:
    records = [record(1, seen=3), record(2, seen=1), record(3, seen=198)]
    tracks = [HIDDEN, HIDDEN, LEFT]
    options = {"max_objects": 3, "patience": 100, "at": 200}
    assert run(records, tracks, [(0.9, RIGHT)], **options).removed == {2}
    assert not run(records, tracks, [(0.9, LEFT)], **options).removed


def test_a_young_object_that_matches_nothing_is_removed() -> None:
    young = record(1, unmatched=7, first=2)
    plan = run([young], [LEFT], [(0.9, RIGHT)], at=10)
    assert plan.removed == plan.recalled == {1}
    assert not run([young], [LEFT], [(0.9, RIGHT)], at=10, removal=False).removed
    assert not run([young], [LEFT], [(0.9, RIGHT)], at=17).removed
    assert not run([young], [HIDDEN], [(0.9, RIGHT)], at=10).removed


def test_of_two_young_objects_on_one_detection_the_later_is_removed() -> None:
    records = [record(1, first=1), record(2, first=3)]
    for at in range(4, 12):
        plan = run(records, [LEFT, LEFT], [(0.9, LEFT)], at=at)
        records = list(plan.records)
        assert plan.removed == ({2} if at == 11 else set())


def test_prompted_objects_are_matched_with_nothing_and_stay() -> None:
    mine = record(1, concept=-1, first=2, unmatched=7)
    plan = run([mine], [LEFT], [(0.9, LEFT)], at=10)
    assert not plan.removed
    assert plan.records[0].unmatched == 7
    assert [n.detection for n in plan.new] == [0]


def test_of_two_that_cover_each_other_the_one_occluded_later_gives_way() -> None:
    records = [record(1, occluded=3), record(2, occluded=1), record(3)]
    plan = run(records, [LEFT, LEFT, RIGHT], [(0.9, LEFT), (0.9, RIGHT)])
    assert [bool((mask > 0).any()) for mask in plan.masks] == [False, True, True]
    assert [r.occluded for r in plan.records] == [5, 1, -1]
    other = run([records[0], replace(records[1], concept=1)], [LEFT, LEFT], [])
    assert (other.masks > 0).any((1, 2)).all()


def test_a_mask_that_others_cover_is_not_remembered() -> None:
    plan = run([record(1), record(2)], [box(0, 0, 8, 8, 2), box(0, 0, 8, 6, 9)], [])
    assert not (plan.memory_masks[0] > 0).any()
    assert (plan.masks[0] > 0).any()
    assert (plan.memory_masks[1] > 0).any()


def test_a_sure_detection_confirms_its_object_every_sixteen_frames() -> None:
    shifted = box(0, 0, 8, 7)
    for at, confirmed in ((15, False), (16, True)):
        plan = run([record(1)], [LEFT], [(0.9, shifted)], at=at)
        assert plan.confirmed.tolist() == [confirmed]
        assert (plan.masks[0] == (shifted if confirmed else LEFT)).all()
        assert (plan.memory_masks[0] == LEFT).all()
    policy = replace(POLICY, recondition_from_track=False)
    corrected = run([record(1)], [LEFT], [(0.9, shifted)], policy, at=16)
    assert (corrected.memory_masks[0] == (shifted > 0)).all()


def test_counts_of_an_object_do_not_grow_once_it_is_old() -> None:
    records = [record(1), record(2, first=1)]
    for at in range(2, 200):
        records = list(run(records, [LEFT, LEFT], [(0.9, LEFT)], at=at, removal=False).records)
    assert records[1].duplicates == ()


def test_duplicates_go_by_score() -> None:
    masks = np.stack([LEFT, box(0, 0, 8, 7), RIGHT])
    scores = np.array([0.7, 0.9, 0.8], np.float32)
    assert suppress_duplicates(scores, masks, 0.5).tolist() == [False, True, True]
    assert suppress_duplicates(scores, masks, 0).all()
