"""`limelight.masks` against pycocotools, against plain numpy, and against bad input."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from limelight import masks, png
from limelight.paths import FieldPath
from limelight.values import RLE, Box
from services.errors import InvalidRequest

MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def blobs(height: int, width: int, seed: int = 0) -> masks.Mask:
    """A mask like those of things: ellipses with holes, some crossing the border."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.bool_)
    for index in range(8):
        cy, cx = rng.uniform(0, height), rng.uniform(0, width)
        ry, rx = rng.uniform(0.02, 0.3, 2) * (height, width)
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1 + 0.1 * np.sin(x / 5)
        mask = mask & ~inside if index % 3 == 2 else mask | inside
    return mask


def coco_rle(mask: masks.Mask) -> RLE:
    encoded = coco.encode(np.asfortranarray(mask.view(np.uint8)))
    return RLE(tuple(encoded["size"]), encoded["counts"])


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_run_lengths_are_pycocotools_byte_for_byte(mask: masks.Mask) -> None:
    rle = masks.encode_rle(mask)
    assert rle == coco_rle(mask)
    decoded = masks.decode_rle(rle)
    assert decoded.dtype == np.bool_
    assert decoded.flags.c_contiguous
    assert np.array_equal(decoded, mask)


@pytest.mark.parametrize(
    "mask",
    [
        blobs(1000, 1000),
        blobs(1600, 900, seed=1),
        blobs(7, 5000, seed=2),
        np.random.default_rng(0).random((400, 300)) < 0.5,
        np.zeros((3000, 2000), np.bool_),
        np.ones((3000, 2000), np.bool_),
        np.asfortranarray(blobs(300, 200)),
    ],
    ids=["square", "tall", "wide", "noise", "empty", "full", "fortran"],
)
def test_large_masks_are_pycocotools_byte_for_byte(mask: masks.Mask) -> None:
    rle = masks.encode_rle(mask)
    assert rle == coco_rle(mask)
    assert np.array_equal(masks.decode_rle(rle), mask)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 2**23), min_size=1, max_size=12))
def test_any_counts_are_written_as_pycocotools_writes_them(counts: list[int]) -> None:
    # Not above 2**23: pycocotools 2.0.11 sets aside six characters a count, and longer ones write
    # past the end of its buffer.
    counts = counts if any(counts) else [1]
    total = sum(counts)
    expected = coco.frPyObjects({"size": [total, 1], "counts": counts}, total, 1)["counts"]
    assert masks.from_counts((total, 1), counts).counts == expected


@settings(max_examples=200, deadline=None)
@given(MASKS)
def test_measures_agree_with_the_pixels(mask: masks.Mask) -> None:
    rle = masks.encode_rle(mask)
    y, x = np.nonzero(mask)
    assert masks.rle_area(rle) == len(x)
    if len(x) == 0:
        assert masks.rle_bbox(rle) == Box(0, 0, 0, 0)
        assert masks.centroid(rle) is None
        return
    assert masks.rle_bbox(rle) == Box(x.min(), y.min(), x.max() + 1, y.max() + 1)
    assert masks.centroid(rle) == pytest.approx((x.mean() + 0.5, y.mean() + 0.5))


def test_centroid_of_a_whole_image_is_its_middle() -> None:
    whole = masks.encode_rle(np.ones((30, 50), np.bool_))
    assert masks.centroid(whole) == (25.0, 15.0)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_set_operations_agree_with_the_pixels(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    drawn = data.draw(st.lists(hnp.arrays(np.bool_, shape), min_size=1, max_size=4))
    rles = [masks.encode_rle(mask) for mask in drawn]
    expected = [[int((a & b).sum()) for b in drawn] for a in drawn]
    assert masks.intersection_areas(rles, rles).tolist() == expected
    assert masks.intersection_area(rles[0], rles[-1]) == expected[0][-1]
    assert masks.union(rles) == masks.encode_rle(np.logical_or.reduce(drawn))
    overlap, either = int((drawn[0] & drawn[-1]).sum()), int((drawn[0] | drawn[-1]).sum())
    assert masks.rle_iou(rles[0], rles[-1]) == (overlap / either if either else 0.0)


def test_masks_of_different_sizes_do_not_mix() -> None:
    a, b = masks.encode_rle(np.ones((2, 3), bool)), masks.encode_rle(np.ones((3, 2), bool))
    with pytest.raises(ValueError, match="different sizes"):
        masks.intersection_area(a, b)
    with pytest.raises(ValueError, match="one size"):
        masks.union([a, b])


GOOD = masks.encode_rle(blobs(40, 30))


@pytest.mark.parametrize(
    "rle",
    [
        RLE((40, 30), b""),
        RLE((40, 30), GOOD.counts[:-1]),
        RLE((40, 30), GOOD.counts + b"1"),
        RLE((40, 31), GOOD.counts),
        RLE((0, 30), GOOD.counts),
        RLE((-40, -30), GOOD.counts),
        RLE((1 << 20, 1 << 20), GOOD.counts),
        RLE((40, 30), b"\xff" + GOOD.counts[1:]),
        RLE((40, 30), b" " + GOOD.counts[1:]),
        RLE((40, 30), b"oooooooooooooooo0"),
        RLE((40, 30), b"P"),
        RLE((2, 2), b"N6"),  # runs of -2 and 6
        RLE((40, 30), b"0" * 100_000),
        RLE((40, 30), b"oooooo0" * 50),
    ],
    ids=lambda rle: f"{rle.size}-{rle.counts[:12]!r}",
)
def test_bad_run_lengths_are_named_with_their_field(rle: RLE) -> None:
    with pytest.raises(InvalidRequest) as caught:
        masks.decode_rle(rle, field=FieldPath.parse("candidates[3].mask"))
    assert str(caught.value.field) == "candidates[3].mask"
    with pytest.raises(InvalidRequest):
        masks.validate_rle(rle)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.integers(1, 50), st.integers(1, 50))
def test_random_counts_never_raise_anything_else(counts: bytes, height: int, width: int) -> None:
    shifted = bytes(48 + byte % 64 for byte in counts)
    for candidate in (counts, shifted):
        try:
            decoded = masks.decode_rle(RLE((height, width), candidate))
        except InvalidRequest:
            continue
        assert decoded.shape == (height, width)
        expected = coco.decode({"size": [height, width], "counts": candidate})
        assert np.array_equal(decoded, expected.astype(np.bool_))


def test_empty_runs_of_other_encoders_are_read() -> None:
    rle = masks.from_counts((4, 2), [1, 2, 0, 2, 3, 0])
    assert masks.rle_area(rle) == 4
    assert np.flatnonzero(masks.decode_rle(rle).T.ravel()).tolist() == [1, 2, 3, 4]
    assert masks.union([rle]) == masks.from_counts((4, 2), [1, 4, 3])


def test_only_a_plane_of_pixels_is_a_mask() -> None:
    for shape in ((0, 4), (4, 0), (4,), (1, 4, 4)):
        with pytest.raises(ValueError, match="a mask is"):
            masks.encode_rle(np.zeros(shape, np.bool_))


@settings(max_examples=50, deadline=None)
@given(MASKS)
def test_png_round_trip(mask: masks.Mask) -> None:
    assert np.array_equal(png.decode_mask(png.encode_mask(mask)), mask)


def test_a_png_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        png.decode_mask(b"nothing", field=FieldPath.parse("mask.png"))
    assert str(caught.value.field) == "mask.png"


def shoelace(polygon: masks.Polygon) -> float:
    return (
        sum(
            x0 * y1 - x1 * y0
            for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True)
        )
        / 2
    )


def filled(polygons: list[masks.Polygon], shape: tuple[int, int]) -> masks.Mask:
    """Even-odd filling at pixel centers: a pixel is in if an odd number of edges is to its left."""
    crossings = np.zeros((shape[0], shape[1] + 1), np.int64)
    for polygon in polygons:
        for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            if x0 == x1:
                crossings[int(min(y0, y1)) : int(max(y0, y1)), int(x0)] += 1
    return np.cumsum(crossings, axis=1)[:, :-1] % 2 == 1


@settings(max_examples=300, deadline=None)
@given(MASKS)
def test_polygons_give_back_the_mask(mask: masks.Mask) -> None:
    polygons = masks.to_polygons(mask)
    assert np.array_equal(filled(polygons, mask.shape), mask)
    assert masks.vertex_count(masks.encode_rle(mask)) == sum(map(len, polygons))
    assert sum(shoelace(polygon) for polygon in polygons) == mask.sum()
    for polygon in polygons:
        assert len(set(polygon)) >= 4
        for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            assert (x0 == x1) != (y0 == y1)  # each edge is straight and has a length


def test_polygons_of_a_ring_wind_both_ways() -> None:
    ring = np.ones((5, 5), np.bool_)
    ring[2, 2] = False
    outer, hole = masks.to_polygons(ring)
    assert outer == [(0.0, 0.0), (5.0, 0.0), (5.0, 5.0), (0.0, 5.0)]
    assert shoelace(outer) == 25
    assert shoelace(hole) == -1


def test_pixels_that_touch_at_a_corner_are_apart() -> None:
    for mask in (np.eye(3, dtype=np.bool_), np.eye(3, dtype=np.bool_)[::-1]):
        polygons = masks.to_polygons(mask)
        assert [shoelace(polygon) for polygon in polygons] == [1, 1, 1]


def test_polygons_of_a_large_mask() -> None:
    mask = blobs(1000, 800)
    assert np.array_equal(filled(masks.to_polygons(mask), mask.shape), mask)
    assert masks.to_polygons(np.zeros((10, 10), np.bool_)) == []
    assert math.isclose(sum(shoelace(p) for p in masks.to_polygons(mask)), mask.sum())
