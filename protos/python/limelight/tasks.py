"""The caller's arguments made into a request: the first step of a call."""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, Union

import numpy as np

from limelight import png
from limelight.convert.enums import IMAGE_FORMAT, MASK_FORMAT, RENDER_KIND, REVIEW_MODE
from limelight.convert.plans import query_to_proto, selection_to_proto
from limelight.v1 import limelight_pb2, media_pb2
from limelight.values import (
    ConceptQuery,
    ImageFormat,
    MaskFormat,
    RenderKind,
    ReviewMode,
    Selection,
)

if TYPE_CHECKING:  # the client works without Pillow; who has a PIL image has Pillow
    from PIL.Image import Image

ImageLike: TypeAlias = Union[str, PathLike[str], bytes, bytearray, memoryview, "Image", np.ndarray]
MaskFormatName: TypeAlias = MaskFormat | Literal["rle", "png", "polygons", "none"]
RenderKindName: TypeAlias = RenderKind | Literal["overlay", "spotlight", "cutout", "background"]
ImageFormatName: TypeAlias = ImageFormat | Literal["png", "jpeg", "webp"]

# What PNG holds without loss; any other mode (CMYK, float) is made RGB first.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


@dataclass(frozen=True, slots=True)
class Render:
    """A picture to be made from the answer.

    Attributes:
        kind: "overlay" (colored masks on the image), "spotlight" (the rest dimmed), "cutout" (on
            transparency) or "background" (on another background).
        format: of the file; a cut-out cannot be "jpeg".
        background: for "background": a color "#rrggbb", or a picture. None: white.
    """

    kind: RenderKindName
    format: ImageFormatName = "png"
    background: ImageLike | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """What is asked of one image; the arguments of `Client.segment` beside the image."""

    instruction: str | None = None
    phrases: Sequence[str] | None = None
    queries: Sequence[ConceptQuery] | None = None
    exclude: Sequence[str | ConceptQuery] | None = None
    select: Selection | None = None
    score_threshold: float | None = None
    max_instances: int | None = None
    mask_format: MaskFormatName = "rle"
    review: bool | None = None
    renders: Sequence[Render | RenderKindName] = ()

    def task(self, image: ImageLike) -> limelight_pb2.SegmentTask:
        """The request's task.

        Raises:
            TypeError: an instruction beside queries, neither of them, or an image of no known type.
            ValueError: an unknown mask format or rendering, or an array of another type or shape.
            OSError: the image's file cannot be read.
        """
        explicit = self.phrases is not None or self.queries is not None
        if explicit == (self.instruction is not None):
            raise TypeError("give either an instruction or phrases and queries")
        if not explicit and (self.exclude is not None or self.select is not None):
            raise TypeError("exclude and select go with phrases and queries")
        for name in ("phrases", "queries", "exclude"):
            if isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a list, not a string")
        task = limelight_pb2.SegmentTask(
            image=media_pb2.Image(content=image_bytes(image)),
            score_threshold=self.score_threshold,
            max_instances=self.max_instances or 0,
            mask_format=MASK_FORMAT.to_proto(_member(MaskFormat, self.mask_format, "mask format")),
            review=REVIEW_MODE.to_proto(_REVIEW[self.review]),
            renders=[_render(render) for render in self.renders],
        )
        if self.instruction is not None:
            task.instruction = self.instruction
            return task
        include = [ConceptQuery(phrase) for phrase in self.phrases or ()]
        include += self.queries or ()
        exclude = [
            ConceptQuery(item) if isinstance(item, str) else item for item in self.exclude or ()
        ]
        task.queries.SetInParent()
        task.queries.include.extend(map(query_to_proto, include))
        task.queries.exclude.extend(map(query_to_proto, exclude))
        if self.select is not None:
            task.queries.select.CopyFrom(selection_to_proto(self.select))
        return task


def image_bytes(image: ImageLike) -> bytes:
    """The encoded picture.

    A path is read and bytes are sent as they are, so the service sees the original file. A PIL
    image or an array (uint8, ``[h, w]``, ``[h, w, 3]`` RGB or ``[h, w, 4]`` RGBA) becomes a PNG of
    exactly its pixels: an EXIF orientation that PIL has not applied is not applied later either, so
    answers are in the coordinates of the pixels that were given.
    """
    match image:
        case bytes():
            return image
        case bytearray() | memoryview():
            return bytes(image)
        case str() | PathLike():
            return Path(image).read_bytes()
        case np.ndarray():
            # Level 1 of zlib: the bytes are made once, sent once and thrown away.
            return png.encode_pixels(image, level=1)
        case _ if (pil := sys.modules.get("PIL.Image")) and isinstance(image, pil.Image):
            return _png(image if image.mode in _PNG_MODES else image.convert("RGB"))
        case _:
            kind = type(image).__name__
            raise TypeError(f"an image must be a path, bytes, a PIL image or an array, not {kind}")


def _png(image: "Image") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1, exif=b"")
    return buffer.getvalue()


def _render(render: Render | RenderKindName) -> limelight_pb2.RenderSpec:
    if isinstance(render, str):
        render = Render(render)
    spec = limelight_pb2.RenderSpec(
        kind=RENDER_KIND.to_proto(_member(RenderKind, render.kind, "render kind")),
        format=IMAGE_FORMAT.to_proto(_member(ImageFormat, render.format, "image format")),
    )
    if isinstance(render.background, str) and render.background.startswith("#"):
        spec.background_color = render.background
    elif render.background is not None:
        spec.background_image.content = image_bytes(render.background)
    return spec


_REVIEW = {None: ReviewMode.PLAN, True: ReviewMode.ALWAYS, False: ReviewMode.NEVER}

E = TypeVar("E", MaskFormat, RenderKind, ImageFormat)


def _member(kind: type[E], name: str, what: str) -> E:
    try:
        return kind(name)
    except ValueError:
        known = ", ".join(kind)
        raise ValueError(f"unknown {what} {name!r}; one of {known}") from None
