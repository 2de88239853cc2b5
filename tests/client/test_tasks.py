"""Arguments become the request they say, or an error before anything is sent."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from limelight import Box, ConceptQuery, Exemplar, Render, SelectBy, Selection
from limelight.tasks import Want, image_bytes
from limelight.v1 import limelight_pb2, media_pb2, plan_pb2, review_pb2

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_files_and_bytes_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "any.bin"
    path.write_bytes(b"\x00not an image")
    for image in (path, str(path), b"\x00not an image", bytearray(b"\x00not an image")):
        assert image_bytes(image) == b"\x00not an image"


def test_arrays_are_sent_exactly() -> None:
    np.testing.assert_array_equal(decoded(image_bytes(PIXELS)), PIXELS)
    np.testing.assert_array_equal(decoded(image_bytes(PIXELS[..., 0])), PIXELS[..., 0])
    flipped = PIXELS[::-1, ::2]
    np.testing.assert_array_equal(decoded(image_bytes(flipped)), flipped)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_pil_images_of_every_mode_are_sent(mode: str) -> None:
    image = Image.fromarray(PIXELS).convert(mode if mode != "LA" else "L").convert(mode)
    sent = Image.open(io.BytesIO(image_bytes(image)))
    assert sent.size == (9, 6)
    np.testing.assert_array_equal(np.asarray(sent.convert("RGB")), np.asarray(image.convert("RGB")))


def test_an_orientation_that_pil_did_not_apply_is_applied_once() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(buffer, "JPEG", exif=exif)
    image = Image.open(io.BytesIO(buffer.getvalue()))
    sent = Image.open(io.BytesIO(image_bytes(image)))
    assert not sent.getexif()
    upright = ImageOps.exif_transpose(image)
    np.testing.assert_array_equal(np.asarray(sent), np.asarray(upright))
    np.testing.assert_array_equal(decoded(image_bytes(upright)), np.asarray(upright))


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_pil_images_without_a_certain_look_are_refused_by_name(mode: str) -> None:
    with pytest.raises(ValueError, match=f"of mode {mode} .*convert it"):
        image_bytes(Image.new(mode, (9, 6)))


@pytest.mark.parametrize(
    "image", [PIXELS.astype(np.float32), PIXELS[None], np.zeros((4, 4, 2), np.uint8)]
)
def test_arrays_that_are_no_images(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="array must be"):
        image_bytes(image)


def test_an_image_of_no_known_type() -> None:
    with pytest.raises(TypeError, match="not int"):
        image_bytes(3)  # type: ignore[arg-type]


def test_queries_keep_their_boxes_and_order() -> None:
    refined = ConceptQuery("cup", (Exemplar(Box(1, 2, 3, 4), positive=False),))
    task = Want(
        phrases=["dog"],
        queries=[refined],
        exclude=["cat"],
        select=Selection(SelectBy.LARGEST, 2, 3),
        score_threshold=0.0,
        max_instances=7,
        mask_format="png",
        review=False,
    ).task(b"x")
    assert [query.phrase for query in task.queries.include] == ["dog", "cup"]
    assert task.queries.include[1].exemplars[0].negative
    assert task.queries.include[1].exemplars[0].box == media_pb2.Box(x0=1, y0=2, x1=3, y1=4)
    assert [query.phrase for query in task.queries.exclude] == ["cat"]
    assert task.queries.select == plan_pb2.Selection(by=plan_pb2.SELECT_BY_LARGEST, rank=2, count=3)
    assert task.HasField("score_threshold")
    assert task.score_threshold == 0.0
    assert (task.max_instances, task.mask_format) == (7, media_pb2.MASK_FORMAT_PNG)
    assert task.review == review_pb2.REVIEW_MODE_NEVER


def test_damaged_images_are_accepted_only_where_it_is_said() -> None:
    plain = Want(instruction="x", renders=[Render("background", background=b"beach")]).task(b"x")
    assert not plain.image.accept_damaged
    assert not plain.renders[0].background_image.accept_damaged
    behind = Render("background", background=b"beach", accept_damaged=True)
    task = Want(instruction="x", renders=[behind], accept_damaged=True).task(b"x")
    assert task.image.accept_damaged
    assert task.renders[0].background_image.accept_damaged


def test_an_unset_threshold_stays_unset() -> None:
    assert not Want(instruction="x").task(b"x").HasField("score_threshold")


def test_renders() -> None:
    renders = [
        "overlay",
        Render("cutout", "webp"),
        Render("background", background="#102030"),
        Render("background", "jpeg", background=b"beach"),
    ]
    specs = Want(instruction="x", renders=renders).task(b"x").renders  # type: ignore[arg-type]
    assert specs[0].kind == limelight_pb2.RENDER_KIND_OVERLAY
    assert specs[0].format == limelight_pb2.IMAGE_FORMAT_PNG
    assert specs[1].format == limelight_pb2.IMAGE_FORMAT_WEBP
    assert specs[2].background_color == "#102030"
    assert specs[3].background_image.content == b"beach"


@pytest.mark.parametrize(
    ("want", "fault"),
    [
        ({}, TypeError),
        ({"instruction": "x", "phrases": ["y"]}, TypeError),
        ({"instruction": "x", "exclude": ["y"]}, TypeError),
        ({"phrases": "dog"}, TypeError),
        ({"instruction": "x", "mask_format": "jpeg"}, ValueError),
        ({"instruction": "x", "mask_format": "unspecified"}, ValueError),
        ({"instruction": "x", "renders": ["sketch"]}, ValueError),
    ],
)
def test_arguments_that_make_no_request(want: dict[str, Any], fault: type[Exception]) -> None:
    with pytest.raises(fault):
        Want(**want).task(b"x")
