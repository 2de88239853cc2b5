"""Scores, suppression, and masks equal to a plain upsampling of the whole."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn.functional import interpolate

from limelight.masks import decode_rle, rle_bbox
from services.errors import Reason, TooLarge
from services.segmenter.engines import RawDetections
from services.segmenter.postprocessing import (
    Candidates,
    Suppression,
    check_room,
    draw,
    pick,
    upsample_onto,
)

NONE_GO = Suppression(1.0, "iou")


def squares(*spans: tuple[int, int], size: int = 16) -> np.ndarray:
    """Mask logits, each positive in the columns of its span."""
    masks = np.full((len(spans), size, size), -4.0, np.float32)
    for mask, (start, stop) in zip(masks, spans, strict=True):
        mask[:, start:stop] = 4
    return masks


def raw(logits: list[float], masks: np.ndarray, presence: float = 100.0) -> RawDetections:
    return RawDetections(np.array(logits, np.float32), np.float32(presence), None, masks)


def smooth(seed: int, height: int, width: int) -> np.ndarray:
    """Blobs of positive logits on a negative ground."""
    noise = torch.randn((1, 1, 5, 5), generator=torch.Generator().manual_seed(seed)) - 0.5
    return interpolate(noise, (height, width), mode="bicubic")[0, 0].numpy() * 3


def test_score_is_the_product_with_presence() -> None:
    picked = pick(raw([0.0, 2.0], squares((0, 4), (8, 12)), presence=0.0), 0.3, 10, 0.0, NONE_GO)
    assert picked.presence == pytest.approx(0.5)
    assert picked.scores.tolist() == pytest.approx([0.5 / (1 + np.exp(-2))])
    assert (picked.masks[0] > 0)[0].tolist() == [8 <= x < 12 for x in range(16)]


def test_best_first_and_no_more_than_asked() -> None:
    masks = squares((0, 2), (4, 6), (8, 10), (12, 14))
    picked = pick(raw([1.0, 3.0, 0.0, 2.0], masks), 0.0, 3, 0.0, NONE_GO)
    assert picked.scores.tolist() == sorted(picked.scores.tolist(), reverse=True)
    assert [int(np.flatnonzero(m[0] > 0)[0]) for m in picked.masks] == [4, 12, 0]


@pytest.mark.parametrize(
    ("suppression", "kept"),
    [
        (Suppression(0.6, "iou"), [(0, 10), (0, 4)]),
        (Suppression(0.6, "iom"), [(0, 10)]),
        (Suppression(0.3, "iou"), [(0, 10)]),
        (NONE_GO, [(0, 10), (1, 10), (0, 4)]),
    ],
)
def test_of_two_that_overlap_the_better_stays(suppression: Suppression, kept: list) -> None:
    masks = squares((0, 10), (1, 10), (0, 4))  # IoU 0.9 and 0.4, IoM 1
    picked = pick(raw([3.0, 2.0, 1.0], masks), 0.0, 10, 0.0, suppression)
    spans = [np.flatnonzero(mask[0] > 0) for mask in picked.masks]
    assert [(span[0], span[-1] + 1) for span in spans] == kept


def test_masks_are_compared_with_kept_ones_only() -> None:
    # The middle one overlaps both ends; once it is gone, the last one stays.
    masks = squares((0, 10), (4, 14), (8, 18), size=20)
    picked = pick(raw([3.0, 2.0, 1.0], masks), 0.0, 10, 0.0, Suppression(0.4, "iou"))
    assert [int(np.flatnonzero(mask[0] > 0)[0]) for mask in picked.masks] == [0, 8]
    none = pick(raw([], squares()), 0.0, 10, 0.0, Suppression(0.5, "iou"))
    assert none.scores.tolist() == []


def test_suppression_sees_shapes_where_boxes_would_agree() -> None:
    lower = np.tril(np.full((8, 8), 8.0, np.float32), -1) - 4
    masks = np.stack([lower, lower.T, lower])
    picked = pick(raw([3.0, 2.0, 1.0], masks), 0.0, 10, 0.0, Suppression(0.5, "iou"))
    assert [bool(mask[-1, 0] > 0) for mask in picked.masks] == [True, False]


def test_empty_masks_take_no_place() -> None:
    masks = squares((0, 0), (4, 6))
    picked = pick(raw([3.0, 1.0], masks), 0.0, 1, 0.0, NONE_GO)
    assert len(picked.masks) == 1
    assert (picked.masks[0] > 0).any()


def shares(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    """Boxes x0 y0 x1 y1, shares of the image, as exemplars are: center and size."""
    x0, y0, x1, y1 = np.array(boxes, np.float32).reshape(-1, 4).T
    return np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1)


def left_edges(picked: Candidates) -> list[int]:
    return [int(np.flatnonzero(mask[0] > 0)[0]) for mask in picked.masks]


def boxed_raw(*spans: tuple[int, int], size: int = 16) -> RawDetections:
    """Instances of full height in the columns of `spans`, better ones first."""
    boxes = np.array([[x0 / size, 0, x1 / size, 1] for x0, x1 in spans], np.float32)
    logits = np.arange(len(spans), 0, -1, np.float32)
    return RawDetections(logits, np.float32(100), boxes, squares(*spans, size=size))


@pytest.mark.parametrize(
    ("name", "negative", "kept"),
    [
        ("its own box", (0.0, 0.0, 0.25, 1.0), [8, 12]),
        ("a box half as far again", (0.0, 0.0, 0.375, 1.0), [8, 12]),
        ("a box of its upper six tenths", (0.0, 0.0, 0.25, 0.6), [8, 12]),
        ("a loose box around it", (0.0, 0.0, 0.49, 1.0), [8, 12]),
        ("a box around all, of which it is a quarter", (0.0, 0.0, 1.0, 1.0), [8, 12]),
        ("a box around the smaller two, of which neither is", (0.4, 0.0, 0.95, 1.0), [0, 8, 12]),
        ("a box on a small part of it", (0.1, 0.4, 0.15, 0.6), [0, 8, 12]),
        ("a box between them", (0.26, 0.0, 0.49, 1.0), [0, 8, 12]),
    ],
)
def test_what_a_negative_box_shows_is_left_out(name: str, negative: tuple, kept: list[int]) -> None:
    found = boxed_raw((0, 4), (8, 10), (12, 13))
    picked = pick(found, 0.0, 10, 0.0, NONE_GO, shares(negative), np.array([0]))
    assert left_edges(picked) == kept, name


def test_a_worse_mask_of_the_same_thing_does_not_take_its_place() -> None:
    # The second is the same thing, cut so far that the negative box alone would leave it.
    found = boxed_raw((0, 8), (0, 16))
    negative = shares((0.0, 0.0, 0.4, 1.0))
    overlap = Suppression(0.5, "iom")
    assert left_edges(pick(found, 0.0, 10, 0.0, overlap, negative, np.array([0]))) == []
    assert len(pick(found, 0.0, 10, 0.0, NONE_GO, negative, np.array([0])).masks) == 1


def test_what_is_left_out_takes_no_place_among_those_asked_for() -> None:
    found = boxed_raw((0, 4), (8, 12), (13, 16))
    picked = pick(found, 0.0, 2, 0.0, NONE_GO, shares((0.0, 0.0, 0.25, 1.0)), np.array([0]))
    assert left_edges(picked) == [8, 13]


def test_a_positive_box_that_fits_better_keeps_its_thing() -> None:
    found = boxed_raw((0, 8), (10, 16))
    boxes = shares((0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 0.3, 1.0))
    assert left_edges(pick(found, 0.0, 9, 0.0, NONE_GO, boxes, np.array([1, 0]))) == [0, 10]
    assert left_edges(pick(found, 0.0, 9, 0.0, NONE_GO, boxes[1:], np.array([0]))) == [10]


def test_the_model_s_own_boxes_count_where_its_masks_are_coarse() -> None:
    # One cell of the mask; the model knows that the thing is a quarter of it.
    masks = squares((0, 1), size=8)
    tiny = np.array([[0.0, 0.0, 0.03, 1.0]], np.float32)
    found = RawDetections(np.ones(1, np.float32), np.float32(100), tiny, masks)
    boxes, labels = shares((0.0, 0.0, 0.035, 1.0)), np.array([0])
    assert len(pick(found, 0.0, 9, 0.0, NONE_GO, boxes, labels).masks) == 0
    assert len(pick(found, 0.0, 9, 0.0, NONE_GO, boxes, np.array([1])).masks) == 1


def test_nothing_above_the_threshold() -> None:
    picked = pick(raw([-3.0], squares((0, 4))), 0.5, 10, 0.0, Suppression(0.6, "iou"))
    assert picked.scores.shape == (0,)
    assert draw(picked, 30, 40, 0.0, 1 << 20).detections == ()


@settings(deadline=None, max_examples=300)
@example(seed=0, low=(40, 40), high=(1, 1), band_bytes=0, threshold=0.7)
@given(
    seed=st.integers(0, 1000),
    low=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    high=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    band_bytes=st.integers(0, 5000),
    threshold=st.sampled_from([0.0, 0.7]),
)
def test_upsampling_in_bands_equals_upsampling_the_whole(
    seed: int, low: tuple[int, int], high: tuple[int, int], band_bytes: int, threshold: float
) -> None:
    logits = smooth(seed, *low)
    canvas = np.zeros(high, np.bool_)
    window = upsample_onto(canvas, logits, threshold, band_bytes)
    whole = interpolate(torch.from_numpy(logits)[None, None], high, mode="bilinear")[0, 0].numpy()
    differ = canvas != (whole > threshold)
    # The two round differently; only pixels that lie on the threshold itself may differ.
    assert (np.abs(whole[differ] - threshold) < 1e-4).all()
    outside = np.ones(high, np.bool_)
    outside[window] = False
    assert not canvas[outside].any()


def test_drawn_masks_are_exact_whatever_the_memory() -> None:
    masks = np.stack([smooth(seed, 24, 24) for seed in range(5)])
    candidates = Candidates(0.9, np.linspace(0.9, 0.5, 5, dtype=np.float32), masks)
    roomy = draw(candidates, 301, 203, 0.0, 1 << 30)
    assert draw(candidates, 301, 203, 0.0, 2 * 301 * 203) == roomy
    assert roomy.presence == 0.9
    for detection, logits in zip(roomy.detections, masks, strict=True):
        mask = decode_rle(detection.mask)
        whole = interpolate(torch.from_numpy(logits)[None, None], (301, 203), mode="bilinear")
        assert (mask == (whole[0, 0].numpy() > 0)).mean() > 0.9999
        assert detection.area == mask.sum()
        assert detection.box == rle_bbox(detection.mask)


def test_a_mask_too_small_to_hold_a_pixel_is_left_out() -> None:
    logits = np.full((1, 64, 64), -50.0, np.float32)
    logits[0, 5, 4] = 1
    candidates = Candidates(0.9, np.array([0.9], np.float32), logits)
    for side in (16, 1):
        assert draw(candidates, side, side, 0.0, 1 << 20).detections == ()


def test_an_image_whose_mask_cannot_fit_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(TooLarge) as caught:
        draw(Candidates(0.9, np.zeros(0, np.float32), squares()), 10**7, 10**7, 0.0, 1 << 30)
    assert caught.value.reason is Reason.MASKS_TOO_LARGE
    check_room(100, 100, 20_000)
    with pytest.raises(TooLarge):
        check_room(100, 100, 19_999)
