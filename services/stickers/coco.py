"""A COCO-style dataset as a source of scenes: fine-tuning on pictures of one's own.

Flow: instances JSON + folder of pictures -> `CocoScenes.load` -> `Scene`s for either trainer. All
that can be checked without opening a picture is checked when the dataset is loaded; every fault is
a `CocoError` that names the field.

The format is https://cocodataset.org/#format-data: ``images`` (id, width, height, file_name),
``categories`` (id, name, supercategory; here also ``plural``, where adding an "s" will not do) and
``annotations`` (image_id, category_id, segmentation, iscrowd), a segmentation being polygons or
run lengths, compressed or not.
"""

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import numpy as np
from pycocotools import mask as coco_mask

from services.codecs.images import decode
from services.codecs.masks import decode_rle, from_counts, rle_area, rle_bbox, validate_rle
from services.domain import RLE
from services.errors import ServiceError
from services.stickers.plurals import plain_plural
from services.stickers.scenes import Instance, Scene
from services.stickers.vocabulary import Concept, Vocabulary

_SUBJECTS = frozenset({"person", "animal"})  # supercategories, as COCO names them
_HELD_OUT = 10  # one picture in so many is for validation


class CocoError(ValueError):
    """A dataset that cannot be used.

    Attributes:
        field: where the fault is, in the annotations ("annotations[3].segmentation").
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class Part(StrEnum):
    """Which pictures of a dataset: validation has the tenth whose ids hash lowest."""

    ALL = "all"
    TRAINING = "training"
    VALIDATION = "validation"


@dataclass(frozen=True, slots=True)
class Outline:
    """One annotation: what it shows, where, and whether it stands for a crowd."""

    concept: Concept
    mask: RLE
    crowd: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the dataset, not yet read.

    Attributes:
        key: its id.
        field: where the annotations name it ("images[3]").
        file: its path.
        size: width and height in pixels, as annotated.
        outlines: at least one.
    """

    key: int | str
    field: str
    file: Path
    size: tuple[int, int]
    outlines: tuple[Outline, ...]


@dataclass(frozen=True)
class CocoScenes:
    """A `SceneSource` over annotated pictures.

    Attributes:
        vocabulary: the categories, in the order of the file.
        pictures: those that have annotations; whether others are empty or only not annotated,
            nobody can say.
    """

    vocabulary: Vocabulary
    pictures: tuple[Picture, ...]

    @classmethod
    def load(cls, annotations: Path, images: Path, part: Part = Part.ALL) -> Self:
        """Read a dataset's annotations; its pictures stay on disk.

        Args:
            annotations: the instances JSON.
            images: the folder that ``file_name`` is relative to.
            part: which of its pictures.

        Raises:
            CocoError: it is broken, a picture is missing, or the part has no pictures.
        """
        content = _content(annotations)
        concepts = _concepts(_records(content, "categories"))
        frames: dict[int | str, tuple[str, Mapping[str, Any]]] = {}
        for field, record in _records(content, "images"):
            key = _key(record, "id", field)
            if key in frames:
                raise CocoError(f"{field}.id", f"a second image {key!r}")
            frames[key] = field, record
        sizes = {key: _size(record, field) for key, (field, record) in frames.items()}
        outlines = _outlines(_records(content, "annotations"), sizes, concepts)
        pictures = tuple(
            Picture(key, field, _file(images, record, field), sizes[key], tuple(outlines[key]))
            for key, (field, record) in frames.items()
            if key in outlines
        )
        return cls(Vocabulary(tuple(concepts.values())), pictures).part(part)

    def part(self, part: Part) -> Self:
        """The same dataset, only a part of its pictures, in the same order.

        Raises:
            CocoError: none is left.
        """
        # By hash, so that a picture hardly ever changes sides when others are added.
        drawn = sorted(self.pictures, key=lambda p: (zlib.crc32(str(p.key).encode()), str(p.key)))
        held_out = {picture.key for picture in drawn[: max(1, len(drawn) // _HELD_OUT)]}
        chosen = tuple(
            picture
            for picture in self.pictures
            if part is Part.ALL or (picture.key in held_out) == (part is Part.VALIDATION)
        )
        if not chosen:
            raise CocoError("images", f"no picture with annotations is left for {part}")
        return replace(self, pictures=chosen)

    def scene(
        self,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] | None = None,
        crowded: bool = False,
    ) -> Scene:
        """A picture drawn at random, at its own size; see `SceneSource.scene`."""
        return self.at(int(rng.integers(len(self.pictures))))

    def at(self, index: int) -> Scene:
        """The picture of that index.

        Crowds, and things without a pixel of their own, are "don't care" instances.

        Raises:
            CocoError: its file cannot be read or has another size than the annotations say.
        """
        picture = self.pictures[index]
        with _named(picture.field):
            pixels = decode(picture.file.read_bytes())
        if (found := (pixels.shape[1], pixels.shape[0])) != picture.size:
            raise CocoError(
                picture.field,
                f"annotated as {picture.size[0]} x {picture.size[1]} pixels, "
                f"but {picture.file} has {found[0]} x {found[1]}",
            )
        return Scene(pixels, tuple(_instance(outline) for outline in picture.outlines))


def _content(annotations: Path) -> Mapping[str, Any]:
    with _named(str(annotations)):
        content = json.loads(annotations.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise CocoError(str(annotations), "not a JSON object")
    return content


def _records(content: Mapping[str, Any], name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The objects of one of the file's lists, each with where it stands."""
    records = content.get(name)
    if not isinstance(records, list) or not records:
        raise CocoError(name, "missing, empty, or not a list")
    for index, record in enumerate(records):
        field = f"{name}[{index}]"
        if not isinstance(record, dict):
            raise CocoError(field, "not a JSON object")
        yield field, record


def _concepts(categories: Iterator[tuple[str, Mapping[str, Any]]]) -> dict[int | str, Concept]:
    """Concepts by category id."""
    concepts: dict[int | str, Concept] = {}
    names: set[str] = set()
    for field, record in categories:
        name = _text(record, "name", field)
        key = _key(record, "id", field)
        if key in concepts or name in names:
            raise CocoError(field, f"a second category of id {key} or name {name!r}")
        names.add(name)
        category = _text(record, "supercategory", field) if "supercategory" in record else name
        concepts[key] = Concept(
            index=len(concepts),
            emoji="",
            name=name,
            plural=_text(record, "plural", field) if "plural" in record else plain_plural(name),
            category=category,
            subject=category in _SUBJECTS,
            price=None,
            perishable=False,
            hint=None,
        )
    return concepts


def _outlines(
    annotations: Iterator[tuple[str, Mapping[str, Any]]],
    sizes: Mapping[int | str, tuple[int, int]],
    concepts: Mapping[int | str, Concept],
) -> dict[int | str, list[Outline]]:
    """The annotations by image id, of the images that have any."""
    outlines: dict[int | str, list[Outline]] = {}
    for field, record in annotations:
        image, category = _key(record, "image_id", field), _key(record, "category_id", field)
        if image not in sizes:
            raise CocoError(f"{field}.image_id", f"there is no image {image!r}")
        if category not in concepts:
            raise CocoError(f"{field}.category_id", f"there is no category {category!r}")
        mask = _mask(record.get("segmentation"), sizes[image], f"{field}.segmentation")
        outline = Outline(concepts[category], mask, bool(record.get("iscrowd", 0)))
        outlines.setdefault(image, []).append(outline)
    return outlines


def _mask(segmentation: object, size: tuple[int, int], field: str) -> RLE:
    width, height = size
    if isinstance(segmentation, list):
        return _filled(segmentation, size, field)
    if not isinstance(segmentation, dict):
        raise CocoError(field, "neither polygons nor run lengths")
    if segmentation.get("size") != [height, width]:
        raise CocoError(
            f"{field}.size", f"{segmentation.get('size')} is not its image's [{height}, {width}]"
        )
    counts = segmentation.get("counts")
    with _named(f"{field}.counts"):
        if isinstance(counts, list):
            return from_counts((height, width), counts)
        rle = RLE((height, width), str(counts or "").encode())
        validate_rle(rle)
    return rle


def _filled(polygons: Sequence[object], size: tuple[int, int], field: str) -> RLE:
    for index, polygon in enumerate(polygons):
        numbers = isinstance(polygon, list) and all(
            isinstance(value, int | float) and math.isfinite(value) for value in polygon
        )
        if not numbers or not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise CocoError(f"{field}[{index}]", "not x and y in turn of at least three corners")
    if not polygons:
        raise CocoError(field, "no polygon")
    width, height = size
    merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    return RLE((height, width), merged["counts"])


def _instance(outline: Outline) -> Instance:
    height, width = outline.mask.size
    area, tight = rle_area(outline.mask), rle_bbox(outline.mask)
    x0, y0, x1, y1 = int(tight.x0), int(tight.y0), int(tight.x1), int(tight.y1)
    return Instance(
        concept=outline.concept,
        visible=decode_rle(outline.mask)[y0:y1, x0:x1].copy(),
        box=(x0, y0, x1, y1),
        frame=(width, height),
        area=area,
        visible_fraction=1.0 if area else 0.0,
        dont_care=outline.crowd or not area,
    )


def _file(images: Path, record: Mapping[str, Any], field: str) -> Path:
    name = record.get("file_name")
    if not isinstance(name, str) or not name:
        raise CocoError(f"{field}.file_name", "missing")
    if not (images / name).is_file():
        raise CocoError(f"{field}.file_name", f"there is no file {images / name}")
    return images / name


def _size(record: Mapping[str, Any], field: str) -> tuple[int, int]:
    width, height = record.get("width"), record.get("height")
    for name, side in (("width", width), ("height", height)):
        if not isinstance(side, int) or side < 1:
            raise CocoError(f"{field}.{name}", f"{side!r} is not a number of pixels")
    assert isinstance(width, int)
    assert isinstance(height, int)
    return width, height


def _key(record: Mapping[str, Any], name: str, field: str) -> int | str:
    key = record.get(name)
    if not isinstance(key, int | str):
        raise CocoError(f"{field}.{name}", f"{key!r} is neither a number nor a text")
    return key


def _text(record: Mapping[str, Any], name: str, field: str) -> str:
    text = record.get(name)
    if not isinstance(text, str) or not text.strip():
        raise CocoError(f"{field}.{name}", "not a text, or an empty one")
    return " ".join(text.lower().split())


@contextmanager
def _named(field: str) -> Iterator[None]:
    """Faults of files and codecs, as faults of the field."""
    try:
        yield
    except ServiceError as error:
        raise CocoError(field, error.message) from error
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise CocoError(field, str(error)) from error
