"""A COCO-style dataset as a source of scenes: fine-tuning on your own images.

Flow: instances JSON + folder of images -> `CocoScenes.load` -> `Scene`s for either trainer. All
that can be checked without opening an image is checked when the dataset is loaded; every fault is
a `CocoError` that names the field.

The format is https://cocodataset.org/#format-data: ``images`` (id, width, height, file_name),
``categories`` (id, name, supercategory; here also ``plural``, where adding an "s" will not do) and
``annotations`` (image_id, category_id, segmentation, iscrowd), a segmentation being polygons or
run lengths, compressed or not.
"""

import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
from pycocotools import mask as coco_mask
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from limelight.masks import decode_rle, from_counts, rle_area, rle_bbox, validate_rle
from limelight.values import RLE
from services.codecs.images import decode
from services.errors import ServiceError
from training.world.plurals import plain_plural
from training.world.scenes import Scene, SceneInstance
from training.world.vocabulary import Concept, Vocabulary

_SUBJECTS = frozenset({"person", "animal"})  # supercategories, as COCO names them
_HELD_OUT = 10  # every tenth image is for validation


class CocoError(ValueError):
    """A dataset that cannot be used.

    Attributes:
        field: where the fault is, in the annotations ("annotations[3].segmentation").
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class DatasetSplit(StrEnum):
    """Which images of a dataset: validation has the tenth whose ids hash lowest."""

    ALL = "all"
    TRAINING = "training"
    VALIDATION = "validation"


def _known_key(value: object) -> int | str:
    if not isinstance(value, int | str):
        raise ValueError(f"{value!r} is neither a number nor a string")
    return value


def _phrase(value: str) -> str:
    if not (words := value.lower().split()):
        raise ValueError("empty")
    return " ".join(words)


_Key = Annotated[int | str, PlainValidator(_known_key)]
_Phrase = Annotated[str, AfterValidator(_phrase)]


class _Record(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class _Image(_Record):
    id: _Key
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    file_name: str = Field(min_length=1)


class _Category(_Record):
    id: _Key
    name: _Phrase
    supercategory: _Phrase | None = None
    plural: _Phrase | None = None


class _Annotation(_Record):
    image_id: _Key
    category_id: _Key
    segmentation: Any
    iscrowd: Annotated[bool, PlainValidator(bool)] = False


class _Dataset(_Record):
    images: list[_Image] = Field(min_length=1)
    categories: list[_Category] = Field(min_length=1)
    annotations: list[_Annotation] = Field(min_length=1)


# x and y in turn, of at least three corners.
_Polygon = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=6)]
_POLYGONS: TypeAdapter[list[_Polygon]] = TypeAdapter(Annotated[list[_Polygon], Field(min_length=1)])


@dataclass(frozen=True, slots=True)
class Outline:
    """One annotation: what it shows, where, and whether it stands for a crowd."""

    concept: Concept
    mask: RLE
    crowd: bool


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image of the dataset, not yet read; `size` is width and height in pixels, as annotated.

    `field` is where the annotations name it ("images[3]").
    """

    key: int | str
    field: str
    file: Path
    size: tuple[int, int]
    outlines: tuple[Outline, ...]


@dataclass(frozen=True)
class CocoScenes:
    """A `SceneSource` over annotated images.

    Attributes:
        vocabulary: the categories, in the order of the file.
        images: those that have annotations; others may be empty, or not annotated.
    """

    vocabulary: Vocabulary
    images: tuple[AnnotatedImage, ...]

    @classmethod
    def load(cls, annotations: Path, folder: Path, split: DatasetSplit = DatasetSplit.ALL) -> Self:
        """Read a dataset's annotations; its images stay on disk.

        Args:
            annotations: the instances JSON.
            folder: that ``file_name`` is relative to.
            split: which of its images.

        Raises:
            CocoError: it is broken, an image is missing, or the split has no images.
        """
        content = _read(annotations)
        concepts = _concepts(content.categories)
        records: dict[int | str, tuple[str, _Image]] = {}
        for index, image in enumerate(content.images):
            if image.id in records:
                raise CocoError(f"images[{index}].id", f"a second image {image.id!r}")
            if not (folder / image.file_name).is_file():
                where = f"images[{index}].file_name"
                raise CocoError(where, f"there is no file {folder / image.file_name}")
            records[image.id] = f"images[{index}]", image
        outlines: dict[int | str, list[Outline]] = {}
        for index, annotation in enumerate(content.annotations):
            field, key = f"annotations[{index}]", annotation.image_id
            if key not in records:
                raise CocoError(f"{field}.image_id", f"there is no image {key!r}")
            if annotation.category_id not in concepts:
                category = annotation.category_id
                raise CocoError(f"{field}.category_id", f"there is no category {category!r}")
            size = records[key][1].width, records[key][1].height
            mask = _mask(annotation.segmentation, size, f"{field}.segmentation")
            outline = Outline(concepts[annotation.category_id], mask, annotation.iscrowd)
            outlines.setdefault(key, []).append(outline)
        images = tuple(
            AnnotatedImage(
                key,
                field,
                folder / image.file_name,
                (image.width, image.height),
                tuple(outlines[key]),
            )
            for key, (field, image) in records.items()
            if key in outlines
        )
        return cls(Vocabulary(tuple(concepts.values())), images)._only(split)

    def scene(
        self,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] | None = None,
        crowded: bool = False,
    ) -> Scene:
        """An image drawn at random, at its own size; see `SceneSource.scene`."""
        return self.at(int(rng.integers(len(self.images))))

    def at(self, index: int) -> Scene:
        """The image of that index.

        Crowds, and things without a visible pixel, are "don't care" instances.

        Raises:
            CocoError: its file cannot be read or has another size than the annotations say.
        """
        image = self.images[index]
        with _named(image.field):
            pixels = decode(image.file.read_bytes())
        if (found := (pixels.shape[1], pixels.shape[0])) != image.size:
            raise CocoError(
                image.field,
                f"annotated as {image.size[0]} x {image.size[1]} pixels, "
                f"but {image.file} has {found[0]} x {found[1]}",
            )
        return Scene(pixels, tuple(map(_instance, image.outlines)))

    def _only(self, split: DatasetSplit) -> Self:
        # By hash, so that an image hardly ever changes sides when others are added.
        drawn = sorted(self.images, key=lambda p: (zlib.crc32(str(p.key).encode()), str(p.key)))
        held_out = {image.key for image in drawn[: max(1, len(drawn) // _HELD_OUT)]}
        chosen = tuple(
            image
            for image in self.images
            if split is DatasetSplit.ALL
            or (image.key in held_out) == (split is DatasetSplit.VALIDATION)
        )
        if not chosen:
            raise CocoError("images", f"no image with annotations is left for {split}")
        return replace(self, images=chosen)


def _read(annotations: Path) -> _Dataset:
    with _named(str(annotations)):
        content = json.loads(annotations.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise CocoError(str(annotations), "not a JSON object")
    with _valid():
        return _Dataset.model_validate(content)


def _concepts(categories: Sequence[_Category]) -> dict[int | str, Concept]:
    """Concepts by category id."""
    concepts: dict[int | str, Concept] = {}
    names: set[str] = set()
    for index, record in enumerate(categories):
        if record.id in concepts or record.name in names:
            message = f"a second category of id {record.id} or name {record.name!r}"
            raise CocoError(f"categories[{index}]", message)
        names.add(record.name)
        category = record.supercategory or record.name
        concepts[record.id] = Concept(
            index=len(concepts),
            emoji="",
            name=record.name,
            plural=record.plural or plain_plural(record.name),
            category=category,
            subject=category in _SUBJECTS,
            price=None,
            perishable=False,
            hint=None,
        )
    return concepts


def _mask(segmentation: object, size: tuple[int, int], field: str) -> RLE:
    width, height = size
    if isinstance(segmentation, list):
        with _valid(field):
            polygons = _POLYGONS.validate_python(segmentation, strict=True)
        for index, polygon in enumerate(polygons):
            if len(polygon) % 2:
                raise CocoError(f"{field}[{index}]", "not x and y in turn")
        merged = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
        return RLE((height, width), merged["counts"])
    if not isinstance(segmentation, dict):
        raise CocoError(field, "neither polygons nor run lengths")
    if (found := segmentation.get("size")) != [height, width]:
        raise CocoError(f"{field}.size", f"{found} is not its image's [{height}, {width}]")
    counts = segmentation.get("counts")
    with _named(f"{field}.counts"):
        if isinstance(counts, list):
            return from_counts((height, width), counts)
        rle = RLE((height, width), str(counts or "").encode())
        validate_rle(rle)
    return rle


def _instance(outline: Outline) -> SceneInstance:
    height, width = outline.mask.size
    area, tight = rle_area(outline.mask), rle_bbox(outline.mask)
    x0, y0, x1, y1 = int(tight.x0), int(tight.y0), int(tight.x1), int(tight.y1)
    return SceneInstance(
        concept=outline.concept,
        visible=decode_rle(outline.mask)[y0:y1, x0:x1].copy(),
        box=(x0, y0, x1, y1),
        frame=(width, height),
        area=area,
        visible_fraction=1.0 if area else 0.0,
        dont_care=outline.crowd or not area,
    )


@contextmanager
def _valid(within: str = "") -> Iterator[None]:
    """The first fault that pydantic finds, by where it is; `within` stands for the outer name."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        path = "".join(f"[{x}]" if isinstance(x, int) else f".{x}" for x in first["loc"])
        raise CocoError((within + path).removeprefix("."), first["msg"]) from error


@contextmanager
def _named(field: str) -> Iterator[None]:
    """Faults of files and codecs, as faults of the field."""
    try:
        yield
    except ServiceError as error:
        raise CocoError(field, error.message) from error
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise CocoError(field, str(error)) from error
