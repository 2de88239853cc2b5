import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.datasets.builders import write_coco
from training.datasets.coco import CocoScenes, DatasetSplit
from training.datasets.coco_reader import CocoError
from training.world.scenes import Scene, random_scene
from training.world.splits import SHOWN
from training.world.vocabulary import Vocabulary


def scenes(count: int) -> list[Scene]:
    return [random_scene(np.random.default_rng(s), size=(96, 120)) for s in SHOWN[:count]]


@pytest.fixture
def dataset(tmp_path: Path) -> tuple[Path, Path]:
    return write_coco(tmp_path, scenes(4))


def iou(one: np.ndarray, other: np.ndarray) -> float:
    return float((one & other).sum() / (one | other).sum())


def test_scenes_come_back_as_they_were_annotated(dataset: tuple[Path, Path]):
    source = CocoScenes.load(*dataset)
    compared = 0
    for index, drawn in enumerate(scenes(4)):
        read = source.at(index)
        assert np.array_equal(read.image, drawn.image)
        truth = [instance for instance in drawn.instances if instance.area]
        for own, annotated in zip(read.instances, truth, strict=True):
            assert own.concept.name == annotated.concept.name
            assert own.dont_care == annotated.dont_care
            assert own.frame == annotated.frame
            assert own.area == own.visible.sum() == own.mask.sum()
            x0, y0, x1, y1 = own.box
            assert own.visible.shape == (y1 - y0, x1 - x0)
            # Polygons fill holes and round corners; run lengths are exact.
            floor = 0.8 if compared % 3 == 0 else 1.0
            assert iou(own.mask, annotated.mask) >= floor
            compared += 1
    assert compared > 6


def test_categories_become_the_vocabulary(dataset: tuple[Path, Path]):
    concepts = CocoScenes.load(*dataset).vocabulary.concepts
    shipped = Vocabulary.load().concepts
    for concept, own in zip(concepts, shipped, strict=True):
        assert (concept.index, concept.name, concept.plural) == (own.index, own.name, own.plural)
        assert concept.category == own.category
        assert concept.subject == (own.category in {"person", "animal"})


def test_the_same_generator_draws_the_same_picture(dataset: tuple[Path, Path]):
    source = CocoScenes.load(*dataset)
    drawn = {s: source.scene(np.random.default_rng(s)).image.tobytes() for s in range(12)}
    assert len(set(drawn.values())) == 4
    for seed, image in drawn.items():
        assert source.scene(np.random.default_rng(seed)).image.tobytes() == image


def test_training_and_validation_share_out_the_pictures(tmp_path: Path):
    dataset = write_coco(tmp_path, [random_scene(np.random.default_rng(3), size=(64, 64))] * 25)
    files = {
        split: {p.file for p in CocoScenes.load(*dataset, split).images} for split in DatasetSplit
    }
    assert len(files[DatasetSplit.VALIDATION]) == 2
    assert files[DatasetSplit.TRAINING] | files[DatasetSplit.VALIDATION] == files[DatasetSplit.ALL]
    assert not files[DatasetSplit.TRAINING] & files[DatasetSplit.VALIDATION]


def test_a_single_picture_cannot_be_both(tmp_path: Path):
    dataset = write_coco(tmp_path, scenes(1))
    assert len(CocoScenes.load(*dataset, DatasetSplit.VALIDATION).images) == 1
    with pytest.raises(CocoError, match="training") as caught:
        CocoScenes.load(*dataset, DatasetSplit.TRAINING)
    assert caught.value.field == "images"


def test_pictures_without_annotations_are_left_out(dataset: tuple[Path, Path]):
    content = json.loads(dataset[0].read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 111]
    dataset[0].write_text(json.dumps(content))
    (picture,) = CocoScenes.load(*dataset).images
    assert picture.field == "images[1]"


Edit = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda c: c["images"][2].update(file_name="none.png"), "images[2].file_name"),
        (lambda c: c["images"][2].update(file_name=7), "images[2].file_name"),
        (lambda c: c["images"][1].update(width=0), "images[1].width"),
        (lambda c: c["images"][1].pop("id"), "images[1].id"),
        (lambda c: c["images"][1].update(id=100), "images[1].id"),
        (lambda c: c.update(images=[]), "images"),
        (lambda c: c["annotations"][1].update(category_id=5), "annotations[1].category_id"),
        (lambda c: c["annotations"][1].update(category_id=[]), "annotations[1].category_id"),
        (lambda c: c["annotations"][1].update(image_id=5), "annotations[1].image_id"),
        (lambda c: c["annotations"][0].update(segmentation=[]), "annotations[0].segmentation"),
        (lambda c: c["annotations"][0].pop("segmentation"), "annotations[0].segmentation"),
        (
            lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5]]),
            "annotations[0].segmentation[0]",
        ),
        (
            lambda c: c["annotations"][1]["segmentation"].update(size=[96, 120]),
            "annotations[1].segmentation.size",
        ),
        (
            lambda c: c["annotations"][1]["segmentation"].update(counts="0"),
            "annotations[1].segmentation.counts",
        ),
        (
            lambda c: c["annotations"][2]["segmentation"].update(counts=[5, 7]),
            "annotations[2].segmentation.counts",
        ),
        (lambda c: c["categories"][3].update(name=" "), "categories[3].name"),
        (lambda c: c["categories"][3].update(name="Girl"), "categories[3]"),
        (lambda c: c["categories"].append("zebra"), "categories[48]"),
    ],
)
def test_what_is_broken_is_named(dataset: tuple[Path, Path], edit: Edit, field: str):
    content = json.loads(dataset[0].read_text())
    edit(content)
    dataset[0].write_text(json.dumps(content))
    with pytest.raises(CocoError) as caught:
        CocoScenes.load(*dataset)
    assert caught.value.field == field


def test_annotations_that_are_no_json(tmp_path: Path):
    (tmp_path / "instances.json").write_text("{")
    with pytest.raises(CocoError, match=r"instances\.json"):
        CocoScenes.load(tmp_path / "instances.json", tmp_path)
    with pytest.raises(CocoError, match=r"none\.json"):
        CocoScenes.load(tmp_path / "none.json", tmp_path)


def test_a_picture_of_another_size_is_named_when_it_is_drawn(dataset: tuple[Path, Path]):
    source = CocoScenes.load(*dataset)
    Image.new("RGB", (120, 96)).save(dataset[1] / "0002.png")
    with pytest.raises(CocoError, match="96 x 120 pixels") as caught:
        source.at(2)
    assert caught.value.field == "images[2]"


def test_a_picture_that_is_none_is_named_when_it_is_drawn(dataset: tuple[Path, Path]):
    source = CocoScenes.load(*dataset)
    (dataset[1] / "0003.png").write_bytes(b"no picture")
    with pytest.raises(
        CocoError, match=r"instances\.json: images\[3\].*0003\.png: the image"
    ) as caught:
        source.at(3)
    assert caught.value.field == "images[3]"


def test_what_is_left_out_is_not_taught_as_absent(dataset: tuple[Path, Path]):
    """Its category is there, nobody knows where: neither wanted nor counted against."""
    content = json.loads(dataset[0].read_text())
    kept, broken = content["annotations"][:2]
    assert kept["image_id"] == broken["image_id"]
    broken["segmentation"] = [[1, 1, 2, 2, 1e12, 3]]
    content["annotations"] = [kept, broken]
    dataset[0].write_text(json.dumps(content))
    source = CocoScenes.load(*dataset, skip=True)
    first, second = source.at(0).instances
    assert not first.dont_care
    assert second.dont_care
    assert second.area == 0
    assert second.concept.index != first.concept.index


def test_crowds_only_are_refused_for_training(tmp_path: Path):
    dataset = write_coco(tmp_path, [random_scene(np.random.default_rng(3), size=(64, 64))] * 25)
    content = json.loads(dataset[0].read_text())
    held_out = {p.key for p in CocoScenes.load(*dataset, DatasetSplit.VALIDATION).images}
    for annotation in content["annotations"]:
        annotation["iscrowd"] = int(annotation["image_id"] not in held_out)
    dataset[0].write_text(json.dumps(content))
    source = CocoScenes.load(*dataset)
    assert source.only(DatasetSplit.VALIDATION).images
    with pytest.raises(CocoError, match="nothing but crowds is annotated in the 23 images for tr"):
        source.only(DatasetSplit.TRAINING)


def test_a_picture_damaged_later_is_passed_over_if_asked(
    dataset: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
):
    strict, lenient = (CocoScenes.load(*dataset, skip=skip) for skip in (False, True))
    for name in ("0000.png", "0001.png", "0002.png"):
        (dataset[1] / name).write_bytes(b"no picture")
    left = strict.at(3).image.tobytes()
    with pytest.raises(CocoError, match=r"000[012]\.png"):
        [strict.scene(np.random.default_rng(seed)) for seed in range(12)]
    assert {lenient.scene(np.random.default_rng(s)).image.tobytes() for s in range(12)} == {left}
    assert "passed over: " in capsys.readouterr().err
    (dataset[1] / "0003.png").write_bytes(b"no picture")
    with pytest.raises(CocoError):
        lenient.scene(np.random.default_rng(0))
