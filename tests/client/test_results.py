"""Answers: masks in every format agree, JSON is what other tools read, files are written."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from limelight.results import Segmentation, segmentation_from_proto
from limelight.tasks import Want
from tests.client.stand_in import SIZE, answer, mask, mask_message


def segmentation(**want: object) -> Segmentation:
    return segmentation_from_proto(
        answer(Want(phrases=["red apple"], **want).task(b"x"), "id-1")  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", ["rle", "png", "polygons"])
def test_json_holds_masks_that_pycocotools_reads(kind: str) -> None:
    values = json.loads(json.dumps(segmentation(mask_format=kind).to_dict()))
    assert values["plan"]["select"] == {"by": "leftmost", "rank": 2, "count": 2}
    assert values["plan"]["include"] == [{"phrase": "red apple"}]
    assert values["request_id"] == "id-1"
    for number, instance in enumerate(values["instances"]):
        assert instance["box"] == [0, 0, SIZE[1], SIZE[0]]
        np.testing.assert_array_equal(coco.decode(instance["mask"]), mask(number))


def test_polygons_with_touching_corners_fill_exactly() -> None:
    checkers = np.indices(SIZE).sum(0) % 2 == 0
    task = Want(phrases=["x"], mask_format="polygons").task(b"x")
    result = answer(task, "id")

    result.instances[0].mask.CopyFrom(mask_message(checkers, task.mask_format))
    np.testing.assert_array_equal(segmentation_from_proto(result).instances[0].mask, checkers)


def test_crop_is_transparent_outside() -> None:
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    cut = segmentation().instances[0].crop(image)
    assert cut.shape == (*SIZE, 4)
    np.testing.assert_array_equal(cut[..., 3] == 255, mask(0))
    np.testing.assert_array_equal(cut[..., :3], image)


def test_masks_and_renderings_are_saved(tmp_path: Path) -> None:
    found = segmentation(renders=["overlay"])
    paths = found.save_masks(tmp_path / "masks")
    assert [path.name for path in paths] == ["001-red-apple.png", "002-red-apple.png"]
    np.testing.assert_array_equal(np.asarray(Image.open(paths[1])) > 0, mask(1))
    assert found.rendering("overlay").save(tmp_path / "o.png").read_bytes() == b"picture"
    with pytest.raises(KeyError):
        found.rendering("cutout")
