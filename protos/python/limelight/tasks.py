"""The caller's arguments made into a request: the first step of a call."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from PIL import Image

from limelight.v1 import limelight_pb2, media_pb2
from services.domain import ConceptQuery, Selection
from services.rpc.convert import query_to_proto, selection_to_proto

ImageLike: TypeAlias = (
    str | PathLike[str] | bytes | bytearray | memoryview | Image.Image | np.ndarray
)
MaskFormat: TypeAlias = Literal["rle", "png", "polygons", "none"]
RenderKind: TypeAlias = Literal["overlay", "spotlight", "cutout", "background"]
ImageFormat: TypeAlias = Literal["png", "jpeg", "webp"]

# What PNG holds without loss; any other mode (CMYK, float) is made RGB first.
_PNG_MODES = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I;16"})


@dataclass(frozen=True, slots=True)
class Render:
    """A picture to be made from the answer.

    Attributes:
        kind: "overlay" (coloured masks on the image), "spotlight" (the rest dimmed), "cutout" (on
            transparency) or "background" (on another background).
        format: of the file; a cut-out cannot be "jpeg".
        background: for "background": a colour "#rrggbb", or a picture. None: white.
    """

    kind: RenderKind
    format: ImageFormat = "png"
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
    mask_format: MaskFormat = "rle"
    review: bool | None = None
    renders: Sequence[Render | RenderKind] = ()

    def task(self, image: ImageLike) -> limelight_pb2.SegmentTask:
        """The request's task.

        Raises:
            TypeError: an instruction beside queries, neither of them, or an image of no known type.
            ValueError: an unknown mask format or rendering, or an array that is no image.
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
            mask_format=_enum(media_pb2.MaskFormat, "MASK_FORMAT", self.mask_format),
            review=_REVIEW[self.review],
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
            if image.dtype != np.uint8:
                raise ValueError(f"an image array must be uint8, not {image.dtype}")
            if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
                raise ValueError(
                    f"an image array must be [h, w], [h, w, 3] or [h, w, 4], not {image.shape}"
                )
            return _png(Image.fromarray(np.ascontiguousarray(image)))
        case Image.Image():
            return _png(image if image.mode in _PNG_MODES else image.convert("RGB"))
        case _:
            kind = type(image).__name__
            raise TypeError(f"an image must be a path, bytes, a PIL image or an array, not {kind}")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # Level 1: the bytes are made once, sent once and thrown away.
    image.save(buffer, "PNG", compress_level=1, exif=b"")
    return buffer.getvalue()


def _render(render: Render | RenderKind) -> limelight_pb2.RenderSpec:
    if isinstance(render, str):
        render = Render(render)
    spec = limelight_pb2.RenderSpec(
        kind=_enum(limelight_pb2.RenderKind, "RENDER_KIND", render.kind),
        format=_enum(limelight_pb2.ImageFormat, "IMAGE_FORMAT", render.format),
    )
    if isinstance(render.background, str) and render.background.startswith("#"):
        spec.background_color = render.background
    elif render.background is not None:
        spec.background_image.content = image_bytes(render.background)
    return spec


_REVIEW = {
    None: limelight_pb2.REVIEW_MODE_UNSPECIFIED,
    True: limelight_pb2.REVIEW_MODE_ALWAYS,
    False: limelight_pb2.REVIEW_MODE_NEVER,
}


def _enum(kind: Any, prefix: str, name: str) -> Any:
    known = {value.removeprefix(f"{prefix}_").lower(): number for value, number in kind.items()}
    del known["unspecified"]
    if name not in known:
        what = prefix.lower().replace("_", " ")
        raise ValueError(f"unknown {what} {name!r}; one of {', '.join(known)}")
    return known[name]
