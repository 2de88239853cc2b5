"""Ids by motion: equal boxes that cross, hide and touch, with a tracker that mixes them up."""

from dataclasses import replace

import numpy as np

from services.codecs.images import Rgb
from services.segmenter.video.association import FrameTracking, associate
from services.segmenter.video.engine import Logits, TrackingPolicy
from services.segmenter.video.looks import small_frame
from services.segmenter.video.matching import FrameDetections, TrackRecord

POLICY = TrackingPolicy(fill_area=0, recondition_every=1, recondition_from_track=False)
FOLLOWING = replace(POLICY, follow_motion=True)
SIDE = 40
Shown = dict[int, Logits]
"""The masks of a frame by their ids."""


def box(x0: int, y0: int, x1: int, y1: int) -> Logits:
    logits = np.full((SIDE, SIDE), -5, np.float32)
    logits[y0:y1, x0:x1] = 5
    return logits


HIDDEN = np.full((SIDE, SIDE), -5, np.float32)


class Follower:
    """Frames one after the other, as a session takes them."""

    def __init__(self, policy: TrackingPolicy = FOLLOWING) -> None:
        self.policy = policy
        self.records: list[TrackRecord] = []
        self.at = 0
        self.ids = 0

    def frame(
        self,
        detections: list[Logits],
        tracked: dict[int, Logits] | None = None,
        pixels: Rgb | None = None,
    ) -> Shown:
        """What each id is shown with; `tracked` are the tracker's masks, by default none, `pixels`
        the frame, by default all gray.
        """
        gray = np.full((SIDE, SIDE, 3), 128, np.uint8)
        seen = small_frame((gray if pixels is None else pixels).transpose(2, 0, 1))
        masks = [(tracked or {}).get(r.object_id, HIDDEN) for r in self.records]
        empty = np.zeros((0, SIDE, SIDE), np.float32)
        plan = associate(
            self.at,
            self.records,
            FrameDetections(
                np.stack(detections) if detections else empty,
                np.full(len(detections), 0.9, np.float32),
                np.zeros(len(detections), np.int64),
            ),
            FrameTracking(
                np.stack(masks) if masks else empty, np.full(len(masks), 3.0, np.float32)
            ),
            self.policy,
            frame=seen if self.policy.follow_motion else None,
            max_objects=10,
            patience=100,
            removal=False,
        )
        shown = {
            record.object_id: mask
            for record, mask in zip(plan.records, plan.masks, strict=True)
            if (mask > 0).any()
        }
        self.records = list(plan.records)
        for new in plan.new:
            self.ids += 1
            shown[self.ids] = new.mask
            self.records.append(
                TrackRecord(
                    self.ids, 0, 0.9, self.at, self.at, 30, motion=new.motion, look=new.look
                )
            )
        self.at += 1
        self.plan = plan
        return shown


def crossing(at: int) -> tuple[Logits, Logits]:
    """Two equal boxes on one line, one to the right and one to the left; they meet at frame 7."""
    return box(2 + 2 * at, 10, 8 + 2 * at, 16), box(30 - 2 * at, 11, 36 - 2 * at, 17)


def ids_after_crossing(follower: Follower, gap: range) -> tuple[bool, bool]:
    """Whether ids 1 and 2 are on their own boxes at the end; in `gap` only the first box is seen,
    and both are tracked on it ever after."""
    shown: Shown = {}
    for at in range(15):
        right, left = crossing(at)
        seen = [right] if at in gap else [right, left]
        wrong = {1: right, 2: right} if at >= gap.start else {1: right, 2: left}
        shown = follower.frame(seen, wrong)
    right, left = crossing(14)
    return same(shown.get(1), right), same(shown.get(2), left)


def same(mask: Logits | None, other: Logits) -> bool:
    return mask is not None and bool(((mask > 0) == (other > 0)).all())


def test_look_alikes_keep_their_ids_when_they_cross() -> None:
    assert ids_after_crossing(Follower(), range(6, 9)) == (True, True)
    # By masks alone the hidden one never comes back to its own.
    assert ids_after_crossing(Follower(POLICY), range(6, 9)) != (True, True)


def turning(at: int) -> tuple[Logits, Logits]:
    """As `crossing`, but where both meet they turn and go back."""
    return crossing(at if at <= 7 else 14 - at)


def painted(*parts: tuple[Logits, tuple[int, int]]) -> Rgb:
    """A frame: each mask striped, `on` its left half and `off` its right."""
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    for mask, halves in parts:
        rows, columns = np.nonzero(mask > 0)
        middle = columns.mean()
        pixels[rows, columns] = np.where(columns < middle, *halves)[:, None]
    return pixels


def test_look_alikes_that_turn_back_are_known_by_what_differs() -> None:
    """Where they go tells nothing then, but one is the other mirrored."""
    for mirrored in (True, False):
        follower = Follower()
        shown: Shown = {}
        for at in range(15):
            right, left = turning(at)
            pixels = painted((left, (20, 230) if mirrored else (230, 20)), (right, (230, 20)))
            shown = follower.frame([right] if 6 <= at <= 8 else [right, left], None, pixels)
        right, left = turning(14)
        kept = same(shown.get(1), right) and same(shown.get(2), left)
        assert kept == mirrored


def test_a_mask_on_anothers_detection_is_not_shown_and_not_remembered() -> None:
    follower = Follower()
    right, left = crossing(0)
    follower.frame([right, left])
    shown = follower.frame([right], {1: right, 2: right})
    assert set(shown) == {1}
    assert not (follower.plan.memory_masks[1] > 0).any()
    assert follower.records[1].unmatched == 0


def test_what_the_detector_misses_is_shown_where_it_is_tracked() -> None:
    follower = Follower()
    right, left = crossing(0)
    follower.frame([right, left])
    shown = follower.frame([right], {1: right, 2: left})
    assert same(shown[2], left)
    assert follower.records[1].unmatched == 1


def test_one_that_was_lost_is_found_where_it_must_be_and_confirmed() -> None:
    policy = replace(FOLLOWING, recondition_every=16)
    follower = Follower(policy)
    for at in range(10):
        follower.frame([crossing(at)[0]], {1: crossing(at)[0]})
    follower.frame([])
    shown = follower.frame([crossing(11)[0]])
    assert same(shown.get(1), crossing(11)[0])
    assert follower.plan.confirmed.tolist() == [True]
    assert not follower.plan.new


def test_one_that_was_long_away_is_found_only_where_it_is_tracked() -> None:
    """Who comes in where nobody is expected, long after, may be somebody else."""
    there, elsewhere = box(5, 5, 15, 15), box(25, 25, 35, 35)
    for tracked, ids in (({}, {2}), ({1: elsewhere}, {1})):
        follower = Follower()
        follower.frame([there])
        for _ in range(FOLLOWING.motion_frames + 1):
            follower.frame([])
        assert set(follower.frame([elsewhere], tracked)) == ids


def test_what_covers_it_of_another_concept_hides_no_mask() -> None:
    follower = Follower()
    follower.records = [TrackRecord(1, 0, 1.0, 0, 0, 30), TrackRecord(2, 1, 1.0, 0, 0, 30)]
    dog = box(5, 5, 15, 15)
    assert set(follower.frame([dog], {1: dog, 2: dog})) == {1, 2}


def test_a_new_one_where_another_was_wrongly_tracked_is_taken_up() -> None:
    follower = Follower()
    for at in range(8):
        follower.frame([box(2 + 2 * at, 5, 12 + 2 * at, 15)])
    first, second = box(18, 5, 28, 15), box(5, 25, 15, 35)
    assert set(follower.frame([first, second], {1: second})) == {1, 2}


def test_a_detection_of_two_is_shared() -> None:
    follower = Follower()
    still = box(10, 10, 20, 20)
    for at in range(6):
        follower.frame([still, box(36 - 3 * at, 10, 46 - 3 * at, 20)])
    for _ in range(3):
        shown = follower.frame([box(10, 10, 28, 20)], {1: still, 2: HIDDEN})
    assert set(shown) == {1, 2}
    one, two = shown[1] > 0, shown[2] > 0
    assert not (one & two).any()
    assert (one | two).sum() == 180
    assert one[:, 10:17].sum() == 70
    assert two[:, 21:28].sum() == 70
    assert not any(record.duplicates for record in follower.records)


def test_prompted_objects_stay_out_of_it() -> None:
    follower = Follower()
    follower.records = [TrackRecord(7, -1, 1.0, 0, 0, 30)]
    shown = follower.frame([box(5, 5, 15, 15)], {7: box(5, 5, 15, 15)})
    assert set(shown) == {7, 1}
    assert follower.records[0].motion is None


def test_concepts_are_matched_apart() -> None:
    follower = Follower()
    follower.records = [TrackRecord(7, 1, 1.0, 0, 0, 30)]
    follower.ids = 7
    assert set(follower.frame([box(5, 5, 15, 15)], {7: box(5, 5, 15, 15)})) == {7, 8}
