"""A COCO-style dataset as a source of scenes: fine-tuning on your own images.

Flow: instances JSON + folder of images -> `CocoScenes.load` -> `Scene`s for either trainer. All of
it is judged when the dataset is loaded, the pictures by their headers: every fault that is found is
in one `CocoError`, by file, annotation and field, or left out and counted if the caller asks for
that.

The format is https://cocodataset.org/#format-data: ``images`` (id, width, height, file_name),
``categories`` (id, name, supercategory; here also ``plural``, where adding an "s" will not do) and
``annotations`` (image_id, category_id, segmentation, iscrowd), a segmentation being polygons or
run lengths, compressed or not.
"""

import sys
import zlib
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

import numpy as np

from limelight.masks import decode_rle, rle_area, rle_bbox
from services.codecs.images import decode
from services.errors import ServiceError
from training.datasets.coco_reader import AnnotatedImage, CocoError, CocoReader, Outline
from training.datasets.faults import DatasetFault, DatasetSummary
from training.world.scenes import Scene, SceneInstance
from training.world.vocabulary import Vocabulary

_HELD_OUT = 10  # every tenth image is for validation


class DatasetSplit(StrEnum):
    """Which images of a dataset: validation has the tenth whose ids hash lowest."""

    ALL = "all"
    TRAINING = "training"
    VALIDATION = "validation"


@dataclass(frozen=True)
class CocoScenes:
    """A `SceneSource` over annotated images.

    Attributes:
        vocabulary: the categories, in the order of the file.
        images: those that have annotations; others may be empty, or not annotated.
        source: the file of annotations.
        summary: what the whole dataset holds, whichever images of it these are.
        skip: whether an image that cannot be read any more is passed over.
    """

    vocabulary: Vocabulary
    images: tuple[AnnotatedImage, ...]
    source: Path
    summary: DatasetSummary
    skip: bool = False

    @classmethod
    def load(
        cls,
        annotations: Path,
        folder: Path,
        split: DatasetSplit = DatasetSplit.ALL,
        *,
        skip: bool = False,
    ) -> Self:
        """Read a dataset's annotations and its images' headers; the images stay on disk.

        Args:
            annotations: the instances JSON.
            folder: that ``file_name`` is relative to.
            split: which of its images.
            skip: leave out what is faulty. In an image that keeps other annotations, what a faulty
                one was of is neither wanted nor counted against.

        Raises:
            CocoError: it is broken, an image is missing or another than annotated, or the split has
                no images, or nothing but crowds.
        """
        reader = CocoReader(annotations, folder)
        images = reader.images(reader.content["images"])
        concepts = reader.concepts(reader.content["categories"])
        outlines = reader.outlines(reader.content["annotations"], images, concepts)
        if reader.faults and not (skip and reader.usable and outlines):
            raise CocoError(annotations, reader.faults)
        annotated = tuple(
            replace(image, outlines=tuple(outlines[key]))
            for key, image in images.items()
            if outlines.get(key)
        )
        shown = {o.concept.index for i in annotated for o in i.outlines if not o.crowd}
        summary = DatasetSummary(
            pictures=len(annotated),
            empty=len(images) - len(annotated),
            instances=sum(not o.crowd for image in annotated for o in image.outlines),
            crowds=reader.crowds,
            turned=sum(image.key in reader.turned for image in annotated),
            unused=len(concepts) - len(shown),
            dropped=tuple(reader.faults),
            orphans=reader.orphans,
        )
        vocabulary = Vocabulary(tuple(concepts.values()))
        return cls(vocabulary, annotated, annotations, summary, skip).only(split)

    def only(self, split: DatasetSplit) -> Self:
        """The images of one split.

        Raises:
            CocoError: there are none, or they show nothing but crowds.
        """
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
            raise self._useless(f"no image with annotations is left for {split}")
        # A few held-out images may show crowds only, by chance; nothing is learned from them.
        if split is not DatasetSplit.VALIDATION and not any(image.wanted for image in chosen):
            raise self._useless(
                f"nothing but crowds is annotated in the {len(chosen)} images for {split} "
                '("iscrowd": 1): crowds are not learned from'
            )
        return replace(self, images=chosen)

    def scene(
        self,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] | None = None,
        crowded: bool = False,
    ) -> Scene:
        """An image drawn at random, at its own size; see `SceneSource.scene`."""
        index = int(rng.integers(len(self.images)))
        for _ in range(len(self.images) - 1):
            try:
                return self.at(index)
            except CocoError as error:
                if not self.skip:
                    raise
                print(f"passed over: {error}", file=sys.stderr, flush=True)
            index = (index + 1) % len(self.images)
        return self.at(index)

    def at(self, index: int) -> Scene:
        """The image of that index.

        Crowds, and things without a visible pixel, are "don't care" instances.

        Raises:
            CocoError: its file cannot be read or has another size than the annotations say.
        """
        image = self.images[index]
        try:
            pixels = decode(image.file.read_bytes())
        except (OSError, ServiceError) as error:
            message = error.message if isinstance(error, ServiceError) else str(error)
            raise self._faulty(image, f"{image.file}: {message}") from error
        if (found := (pixels.shape[1], pixels.shape[0])) != image.size:
            raise self._faulty(
                image,
                f"annotated as {image.size[0]} x {image.size[1]} pixels, "
                f"but {image.file} has {found[0]} x {found[1]}",
            )
        return Scene(pixels, tuple(map(_instance, image.outlines)))

    def _faulty(self, image: AnnotatedImage, message: str) -> CocoError:
        whose = f"image {image.key}"
        return CocoError(
            self.source, [DatasetFault(image.field, whose, message, "picture unreadable")]
        )

    def _useless(self, message: str) -> CocoError:
        """Of what was left out it says how much: that may be why nothing is left."""
        if self.summary.dropped:
            message += f" ({self.summary})"
        return CocoError(self.source, [DatasetFault("images", "", message, "no use")])


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
