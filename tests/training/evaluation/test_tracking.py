"""The figures of tracking against TrackEval's, and against cases counted by hand.

The expectations marked TrackEval are what `trackeval` 1.3.0 from PyPI gives: `HOTA`, `Identity` and
`CLEAR` with their defaults on the ids and IoUs of `random_frames`, and after
`MOTSChallenge.get_preprocessed_seq_data` on the masks of `random_masks`, the union of the "don't
care" masks being its ignore region. Rounded to nine digits.
"""

from collections.abc import Sequence

import numpy as np
import pytest

from tests.training.evaluation.tracked import random_frames, random_masks
from training.evaluation.association import clear, hota, identities
from training.evaluation.pairing import PairedFrame, mask_ious, pair, pair_clip
from training.evaluation.tracking import (
    TrackingScore,
    answered_right,
    figures,
    reentries,
    score,
)
from training.world.clips import ClipWorld

# HOTA, DetA, AssA, IDF1 and identity switches of the seeds 0 to 7.
TRACKEVAL = (
    (0.307061472, 0.36208422, 0.262310522, 0.310559006, 32),
    (0.27257031, 0.294267133, 0.255724284, 0.282608696, 5),
    (0.45112295, 0.432924182, 0.478152839, 0.520547945, 6),
    (0.476886858, 0.421742827, 0.558163228, 0.517241379, 10),
    (0.317815965, 0.374507158, 0.275768613, 0.379310345, 20),
    (0.264369625, 0.365901166, 0.195932626, 0.322580645, 13),
    (0.28354142, 0.327719115, 0.250977308, 0.310679612, 16),
    (0.402587022, 0.424493831, 0.38436069, 0.510067114, 16),
)
# The same of those eight as the sequences of one data set.
TRACKEVAL_TOGETHER = (0.341418192, 0.371407675, 0.32032874, 0.383297645, 118)
# The same of masks with ignore regions, and how many answers are left, of the seeds 0 to 2.
TRACKEVAL_MASKS = (
    (0.267696265, 0.227467266, 0.322859292, 0.307692308, 1, 29),
    (0.266517066, 0.230959972, 0.308614327, 0.188679245, 2, 32),
    (0.159735206, 0.158079801, 0.17916131, 0.150943396, 2, 30),
)


def row(scores: Sequence[TrackingScore]) -> list[float]:
    found = figures(scores)
    switches = found.switches * found.clips
    return [found.hota, found.det_a, found.ass_a, found.idf1, switches]


def frame(
    shown: dict[int, int], seen: Sequence[int] = (), extra: Sequence[int] = ()
) -> PairedFrame:
    """Each object (key) found exactly by an answer, by none where its id is negative."""
    answers = np.array([id for id in shown.values() if id >= 0] + list(extra), np.int64)
    truth = np.array(list(shown), np.int64)
    ious = np.array([[float(id == a) for a in answers] for id in shown.values()])
    ious = ious.reshape(len(truth), len(answers))
    return PairedFrame(truth, answers, ious, frozenset(shown) | frozenset(seen))


@pytest.mark.parametrize("seed", range(8))
def test_trackevals_results_are_reproduced(seed: int) -> None:
    assert row([score(random_frames(seed))]) == pytest.approx(TRACKEVAL[seed], abs=1e-8)


def test_clips_add_up_as_trackevals_sequences_do() -> None:
    scores = [score(random_frames(seed)) for seed in range(8)]
    assert row(scores) == pytest.approx(TRACKEVAL_TOGETHER, abs=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_dont_care_is_ignored_as_by_trackeval(seed: int) -> None:
    frames = [pair(*masks) for masks in random_masks(seed)]
    scored = score(frames)
    assert scored.excused > 0
    assert [*row([scored]), scored.answered] == pytest.approx(TRACKEVAL_MASKS[seed], abs=1e-8)


def test_a_perfect_tracker_has_ones() -> None:
    frames = [frame({1: 4, 2: 9}), frame({1: 4}), frame({}), frame({1: 4, 2: 9})]
    found = figures([score(frames)])
    ones = found.hota, found.idf1, found.mean_iou, found.cgf1
    assert ones == pytest.approx((1, 1, 1, 1))
    assert found.switches == 0


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([frame({1: -1})], (0.0, 0.0, 0.0)),
        ([frame({}, extra=[3])], (0.0, 0.0, 0.0)),
        ([frame({})], (0.0, 1.0, 0.0)),
    ],
)
def test_clips_without_truth_or_answers_are_counted(
    frames: list[PairedFrame], expected: tuple[float, float, float]
) -> None:
    found = figures([score(frames)])
    assert (found.hota, found.idf1, found.mean_iou) == expected


def test_two_tracks_that_swap_lose_association_and_keep_detection() -> None:
    before, after = [frame({1: 1, 2: 2})] * 6, [frame({1: 2, 2: 1})] * 6
    scored = score([*before, *after])
    # Of 12 masks each way, 6 in common: 6 / 18.
    assert scored.hota.ass_a == pytest.approx(np.full(19, 1 / 3))
    assert scored.hota.det_a == pytest.approx(np.ones(19))
    assert (scored.switches, scored.identities.idf1) == (2, 0.5)


def test_mean_iou_counts_what_was_missed() -> None:
    there, half = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    half[:2] = True
    frames = [pair({1: there}, {5: half}), pair({1: there}, {}), pair({1: there}, {5: there})]
    assert figures([score(frames)]).mean_iou == pytest.approx((0.5 + 0 + 1) / 3)


@pytest.mark.parametrize(
    ("after", "gap", "expected"),
    [(7, 3, (1, 1)), (8, 3, (1, 0)), (-1, 3, (1, 0)), (8, 2, (0, 0))],
)
def test_a_return_is_recovered_where_the_id_is_the_old_one(
    after: int, gap: int, expected: tuple[int, int]
) -> None:
    frames = [*[frame({1: 7})] * 4, *[frame({})] * gap, *[frame({1: after})] * 4]
    assert reentries(frames, clear(frames), unseen=3) == expected


def test_a_hidden_object_with_a_visible_pixel_is_not_gone() -> None:
    frames = [frame({1: 7}), *[frame({}, seen=[1])] * 5, frame({1: 8})]
    assert reentries(frames, clear(frames)) == (0, 0)


def test_a_return_after_frames_that_showed_too_little_still_counts() -> None:
    frames = [frame({1: 7}), *[frame({})] * 4, frame({}, seen=[1]), frame({1: 7})]
    assert reentries(frames, clear(frames)) == (1, 1)


def test_presence_is_cgf1_by_hand() -> None:
    # Right twice, once with one answer too many; lost, false and empty once each.
    frames = [
        frame({1: 1}),
        frame({1: 1}, extra=[2]),
        frame({1: -1}),
        frame({}, extra=[2]),
        frame({}),
    ]
    found = figures([score(frames)])
    assert found.positive_f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found.correlation == pytest.approx((2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5)
    assert found.cgf1 == pytest.approx(found.positive_f1 * found.correlation)


def test_frames_of_dont_care_objects_say_nothing_about_presence() -> None:
    sure = [frame({1: 1}), frame({})]
    unsure = [frame({}, seen=[1]), frame({}, seen=[1], extra=[4])]
    assert figures([score([*sure, *unsure])]).correlation == pytest.approx(1)


def test_an_answer_that_a_wanted_object_takes_is_not_excused() -> None:
    wanted, little = np.zeros((2, 10, 10), bool)
    wanted[:, :4], little[:, 4:] = True, True
    both = wanted | (little & (np.arange(10) < 8))
    paired = pair({1: wanted, 2: little}, {1: both, 2: little, 3: little}, {2})
    # IoU 0.5: it is the wanted one's, although half of it lies on the other.
    assert paired.answers.tolist() == [1]
    assert paired.excused == 2
    assert paired.seen == {1, 2}


def test_empty_masks_are_neither_wanted_nor_answers() -> None:
    empty = np.zeros((3, 3), bool)
    paired = pair({1: empty}, {1: empty})
    assert (len(paired.truth), len(paired.answers), paired.seen) == (0, 0, frozenset())


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        pair({1: np.ones((2, 2), bool)}, {1: np.ones((2, 3), bool)})
    with pytest.raises(ValueError, match="size"):
        pair({1: np.ones((2, 2), bool)}, {1: np.ones((2, 3), bool)}, {1})


def test_no_clip_has_no_figures() -> None:
    with pytest.raises(ValueError, match="no clip"):
        figures([])


def test_ious_are_exact() -> None:
    rng = np.random.default_rng(0)
    masks = rng.random((5, 13, 17)) < 0.4
    ious = mask_ious(list(masks[:3]), list(masks[3:]))
    for a in range(3):
        for b in range(2):
            both, any_ = masks[a] & masks[3 + b], masks[a] | masks[3 + b]
            assert ious[a, b] == pytest.approx(both.sum() / any_.sum(), abs=1e-15)


def test_counts_of_a_clip_are_whole() -> None:
    frames = random_frames(3)
    wanted = sum(len(f.truth) for f in frames)
    counts, ids = hota(frames), identities(frames)
    np.testing.assert_array_equal(counts.hits + counts.missed, np.full(19, wanted))
    assert ids.hits + ids.missed == wanted


def test_an_answer_is_right_whatever_its_ids_if_it_shows_what_was_asked_for() -> None:
    assert answered_right([frame({1: 3})] * 3 + [frame({1: 4})] * 3)
    assert answered_right([frame({1: 3})] * 3 + [frame({1: -1})] * 3)
    assert not answered_right([frame({1: 3})] * 3 + [frame({1: -1})] * 4)
    assert not answered_right([frame({1: 3, 2: -1})] * 5)
    assert not answered_right([frame({1: 3}, extra=[8])] * 5)
    assert answered_right([frame({})] * 3)
    assert not answered_right([frame({})] * 3 + [frame({}, extra=[1])])


def test_answers_to_a_clip_are_compared_to_the_objects_asked_for() -> None:
    clip = ClipWorld().clip(7, size=(120, 90), frame_count=12)
    frames = list(clip.frames())
    (one, *others) = frames[0].wanted
    assert others
    truth = [{9: f.masks[one]} if one in f.masks else {} for f in frames]
    found = figures([score(pair_clip(clip, {one}, truth))])
    assert (found.idf1, found.mean_iou) == (1, 1)
    everything = [dict(f.masks) for f in frames]
    assert figures([score(pair_clip(clip, {one}, everything))]).idf1 < 1
    with pytest.raises(ValueError, match="zip"):
        pair_clip(clip, {one}, truth[:-1])
