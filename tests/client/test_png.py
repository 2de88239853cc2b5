"""PNGs that other libraries read, and masks from PNGs that others write."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from limelight import png
from limelight.faults import InvalidRequest
from limelight.paths import FieldPath

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(
        arrays.arrays(np.uint8, sizes),
        sizes.flatmap(lambda size: arrays.arrays(np.uint8, (*size, 3))),
        sizes.flatmap(lambda size: arrays.arrays(np.uint8, (*size, 4))),
    )
)
def test_pillow_reads_the_pixels_that_were_written(pixels: np.ndarray) -> None:
    picture = Image.open(io.BytesIO(png.encode_pixels(pixels)))
    assert picture.mode == {2: "L", 3: "RGB", 4: "RGBA"}.get(
        pixels.ndim if pixels.ndim == 2 else pixels.shape[2]
    )
    assert np.array_equal(np.asarray(picture), pixels)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.bool_, sizes))
def test_pillow_reads_the_mask_that_was_written(mask: np.ndarray) -> None:
    data = png.encode_mask(mask)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))).astype(bool), mask)
    assert np.array_equal(png.decode_mask(data), mask)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.uint8, st.tuples(st.integers(2, 60), st.integers(2, 60))), st.booleans())
def test_masks_that_pillow_wrote_are_read(pixels: np.ndarray, smooth: bool) -> None:
    """Pillow chooses among all five filters, most of them for smooth pictures."""
    if smooth:
        pixels = np.cumsum(pixels // 16, axis=1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    assert np.array_equal(png.decode_mask(buffer.getvalue()), pixels >= 128)


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((2, 2), np.float32), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2), np.uint8)],
    ids=["floats", "two channels", "no pixels"],
)
def test_what_no_picture_is_made_of(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="an image array"):
        png.encode_pixels(pixels)


def _spoiled() -> list[bytes]:
    good = png.encode_mask(np.eye(9, dtype=bool))
    rgb = png.encode_pixels(np.zeros((3, 3, 3), np.uint8))
    return [b"", b"nothing", good[:-20], good[:40] + b"!" + good[41:], rgb, good[:8]]


@pytest.mark.parametrize("data", _spoiled(), ids=range(len(_spoiled())))
def test_other_files_are_refused_at_their_field(data: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        png.decode_mask(data, field=FieldPath(("mask", "png")))
    assert str(caught.value.field) == "mask.png"
