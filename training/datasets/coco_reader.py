"""The strict reader of a COCO-style dataset: records with their types, ids, files and outlines.

Flow: instances JSON -> `CocoReader` -> images with headers that agree, concepts, outlines, and
every fault that was found on the way -> `training.datasets.coco.CocoScenes`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limelight.masks import encode_rle
from limelight.values import RLE
from services.codecs import strict_json
from services.codecs.images import ImageHeader
from services.codecs.text_files import decoded
from training.datasets.faults import DatasetError, DatasetFault
from training.datasets.outlines import MaskFault, read_mask
from training.datasets.pictures import SIZE_FAULTS, PictureFault, inside, judge, size_fault
from training.world.plurals import plain_plural
from training.world.vocabulary import Concept

_SUBJECTS = frozenset({"person", "animal"})  # supercategories, as COCO names them

Key = int | str
"""An id. COCO's are numbers; strings are as good."""


class CocoError(DatasetError):
    """A COCO-style dataset that cannot be used."""


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

    key: Key
    field: str
    file: Path
    size: tuple[int, int]
    outlines: tuple[Outline, ...]

    @property
    def wanted(self) -> bool:
        """Whether it shows anything but crowds."""
        return any(not outline.crowd for outline in self.outlines)


class CocoReader:
    """Reads the parts of one dataset, in order, and collects what is wrong with them.

    Args:
        annotations: the instances JSON.
        folder: of its images.

    Attributes:
        content: the three lists of records, as they are.
        faults: found so far.
        usable: whether a dataset is left without them.
        turned: the images that Exif turns or mirrors.
        crowds: how many outlines are of crowds.
        orphans: annotations of images that cannot be used.

    Raises:
        CocoError: there is no such file, or it is not of this form.
    """

    def __init__(self, annotations: Path, folder: Path) -> None:
        self._annotations = annotations
        self._folder = folder
        self.content = self._content()
        self.faults: list[DatasetFault] = []
        self.usable = True
        self.turned: set[Key] = set()
        self.crowds = 0
        self.orphans = 0
        # Images that cannot be used. Of those whose size is known, outlines are judged.
        self._lost: dict[Key, AnnotatedImage | None] = {}

    def _content(self) -> Mapping[str, Sequence[Any]]:
        try:
            # Some tools write every number as a decimal, ids and sizes too. What is not finite is
            # refused by its record, not by the file.
            text = decoded(self._annotations.read_bytes())
            content = strict_json.loads(text, whole=True, infinite=True)
        except (OSError, ValueError) as error:
            raise self._broken("", str(error)) from error
        if not isinstance(content, dict):
            raise self._broken("", "not a JSON object")
        for name in ("images", "categories", "annotations"):
            if not isinstance(content.get(name), list) or not content[name]:
                raise self._broken(name, "not a list, or an empty one")
        return content

    def _broken(self, name: str, message: str) -> CocoError:
        fault = DatasetFault(name, "", message, "no dataset")
        return CocoError(self._annotations, [fault])

    def _fault(self, field: str, whose: str, message: str, kind: str) -> None:
        self.faults.append(DatasetFault(field, whose, message, kind))

    def images(self, records: Sequence[Any]) -> dict[Key, AnnotatedImage]:
        """The images that can be used, by id, without outlines."""
        read: dict[Key, AnnotatedImage] = {}
        named: set[Key] = set()
        for index, record in enumerate(records):
            image = self._image(f"images[{index}]", record, named)
            if image is not None:
                read[image.key] = image
        headers = judge([image.file for image in read.values()])
        for key, image in list(read.items()):
            found: ImageHeader | PictureFault | None = headers[image.file]
            if isinstance(found, ImageHeader):
                if found.exif_orientation != 1:
                    self.turned.add(key)
                found = size_fault(found, image.size)
            if found is not None:
                del read[key]
                self._lost[key] = None if found.kind in SIZE_FAULTS else image
                missing = found.kind == "picture missing"
                where = f"{image.field}.file_name" if missing else image.field
                self._fault(where, _whose("image", key, image.file.name), found.message, found.kind)
        self._lost |= dict.fromkeys(named - read.keys() - self._lost.keys())
        return read

    def _image(self, field: str, record: Any, named: set[Key]) -> AnnotatedImage | None:
        if not isinstance(record, dict):
            self._fault(field, "", "not a JSON object", "image of another form")
            return None
        key: Any = record.get("id")
        name: Any = record.get("file_name")
        whose = _whose("image", key, name)
        kind = "image of another form"
        faults = len(self.faults)
        if (message := _key_fault(key)) is not None:
            self._fault(f"{field}.id", whose, message, kind)
        elif key in named:
            self._fault(f"{field}.id", whose, f"a second image {key!r}", "second image of one id")
            return None
        else:
            named.add(key)
        for side in ("width", "height"):
            if type(record.get(side)) is not int or record[side] < 1:
                message = f"{record.get(side)!r} is not a whole number above 0"
                self._fault(f"{field}.{side}", whose, message, kind)
        path = None
        if not isinstance(name, str) or not name.strip():
            self._fault(f"{field}.file_name", whose, f"{name!r} is not a file's name", kind)
        elif (path := inside(self._folder, name)) is None:
            message = f"{name!r} leads out of {self._folder}"
            self._fault(f"{field}.file_name", whose, message, "image out of its folder")
        if path is None or len(self.faults) > faults:
            return None
        return AnnotatedImage(key, field, path, (record["width"], record["height"]), ())

    def concepts(self, records: Sequence[Any]) -> dict[Key, Concept]:
        """Concepts by category id; a fault here leaves no vocabulary to learn."""
        concepts: dict[Key, Concept] = {}
        names: dict[str, Key] = {}
        faults = len(self.faults)
        for index, record in enumerate(records):
            concept = self._concept(f"categories[{index}]", record, len(concepts), concepts, names)
            if concept is not None:
                concepts[record["id"]] = concept
                names[concept.name] = record["id"]
        if len(self.faults) > faults:
            self.usable = False
        return concepts

    def _concept(
        self,
        field: str,
        record: Any,
        index: int,
        concepts: Mapping[Key, Concept],
        names: Mapping[str, Key],
    ) -> Concept | None:
        kind = "category of another form"
        if not isinstance(record, dict):
            self._fault(field, "", "not a JSON object", kind)
            return None
        key = record.get("id")
        whose = _whose("category", key)
        faults = len(self.faults)
        if (message := _key_fault(key)) is not None:
            self._fault(f"{field}.id", whose, message, kind)
        phrases: dict[str, str | None] = {}
        for part in ("name", "supercategory", "plural"):
            value = record.get(part)
            if part != "name" and value is None:
                phrases[part] = None
            elif not isinstance(value, str) or not value.split():
                self._fault(f"{field}.{part}", whose, f"{value!r} is not a name", kind)
            else:
                phrases[part] = " ".join(value.lower().split())
        if len(self.faults) > faults:
            return None
        name = str(phrases["name"])
        if key in concepts or name in names:
            message = f"a second category of id {key} or name {name!r}"
            self._fault(field, whose, message, "second category of one id or name")
            return None
        category = phrases["supercategory"] or name
        return Concept(
            index=index,
            emoji="",
            name=name,
            plural=phrases["plural"] or plain_plural(name),
            category=category,
            subject=category in _SUBJECTS,
            price=None,
            perishable=False,
            hint=None,
        )

    def outlines(
        self,
        records: Sequence[Any],
        images: Mapping[Key, AnnotatedImage],
        concepts: Mapping[Key, Concept],
    ) -> dict[Key, list[Outline]]:
        """The outlines of each image that can be used; images without a sound one have none."""
        outlines: dict[Key, list[Outline]] = {}
        left_out: dict[Key, list[Outline]] = {}
        named: set[Key] = set()
        for index, record in enumerate(records):
            outline = self._outline(f"annotations[{index}]", record, images, concepts, named)
            if not isinstance(record, dict):
                continue
            key: Any = record.get("image_id")
            if outline is not None:
                outlines.setdefault(key, []).append(outline)
                self.crowds += outline.crowd
            elif _known(key, self._lost):
                self.orphans += 1
            elif _known(key, images) and _known(record.get("category_id"), concepts):
                # It is in the picture all the same: not to be taught as absent.
                unknown = _empty(images[key].size)
                concept = concepts[record["category_id"]]
                left_out.setdefault(key, []).append(Outline(concept, unknown, True))
        for key, own in outlines.items():
            own += left_out.get(key, [])
        return outlines

    def _outline(
        self,
        field: str,
        record: Any,
        images: Mapping[Key, AnnotatedImage],
        concepts: Mapping[Key, Concept],
        named: set[Key],
    ) -> Outline | None:
        kind = "annotation of another form"
        if not isinstance(record, dict):
            self._fault(field, "", "not a JSON object", kind)
            return None
        whose = _whose("annotation", record.get("id"))
        faults = len(self.faults)
        if "id" in record:
            if (message := _key_fault(record["id"])) is not None:
                self._fault(f"{field}.id", whose, message, kind)
            elif record["id"] in named:
                message = f"a second annotation {record['id']!r}"
                self._fault(f"{field}.id", whose, message, "second annotation of one id")
            else:
                named.add(record["id"])
        lost = _known(record.get("image_id"), self._lost)
        for part, there in (("image", images), ("category", concepts)):
            key: Any = record.get(f"{part}_id")
            if (message := _key_fault(key)) is not None:
                self._fault(f"{field}.{part}_id", whose, message, kind)
            elif key not in there and not (part == "image" and lost):
                message = f"there is no {part} {key!r}{_alike(key, there)}"
                unknown = f"annotation of an unknown {part}"
                self._fault(f"{field}.{part}_id", whose, message, unknown)
        crowd = record.get("iscrowd", 0)
        if not isinstance(crowd, bool) and (type(crowd) is not int or crowd not in (0, 1)):
            self._fault(f"{field}.iscrowd", whose, f"{crowd!r} is neither 0 nor 1", kind)
        image = None
        if lost or _known(record.get("image_id"), images):
            image = images.get(record["image_id"]) or self._lost[record["image_id"]]
        mask = None
        if image is not None:
            found = read_mask(record.get("segmentation"), image.size)
            if isinstance(found, MaskFault):
                self._fault(f"{field}.segmentation{found.part}", whose, found.message, found.kind)
            else:
                mask = found
        if mask is None or lost or len(self.faults) > faults:
            return None
        return Outline(concepts[record["category_id"]], mask, bool(crowd))


def _whose(what: str, key: object, name: object = None) -> str:
    """What a record is called in a message; nothing if it has no id."""
    known = _key_fault(key) is None
    named = [f"{what} {key}"] if known else []
    return ", ".join([*named, *([name] if isinstance(name, str) else [])])


def _key_fault(value: object) -> str | None:
    """Why a value is not an id. Neither is a boolean, which Python takes for a number."""
    if type(value) is int or (isinstance(value, str) and value):
        return None
    return f"{value!r} is neither a whole number nor a string"


def _known(key: object, there: Any) -> bool:
    return _key_fault(key) is None and key in there


def _alike(key: Key, there: Mapping[Key, object]) -> str:
    """Where the id is there as a string instead of a number, or the other way round."""
    same = next((known for known in there if str(known) == str(key)), None)
    return "" if same is None else f", only {same!r}: a number is not a string"


def _empty(size: tuple[int, int]) -> RLE:
    return encode_rle(np.zeros(size[::-1], np.bool_))
