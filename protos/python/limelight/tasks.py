"""The caller's arguments made into a request: the first step of a call."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar, Union

import numpy as np

from limelight import arguments, pil, png
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


@dataclass(frozen=True, slots=True)
class Render:
    """A picture to be made from the answer.

    Attributes:
        kind: "overlay" (colored masks on the image), "spotlight" (the rest dimmed), "cutout" (on
            transparency) or "background" (on another background).
        format: of the file; a cut-out cannot be "jpeg".
        background: for "background": a color "#rrggbb", or a picture. None: white.
        accept_damaged: take what is left of a background that has lost pixels.
    """

    kind: RenderKindName
    format: ImageFormatName = "png"
    background: ImageLike | None = None
    accept_damaged: bool = False


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
    accept_damaged: bool = False

    def task(self, image: ImageLike) -> limelight_pb2.SegmentTask:
        """The request's task.

        Raises:
            TypeError: an instruction beside queries, neither of them, or a value of another kind
                than its argument takes; the message names both.
            ValueError: an unknown mask format or rendering, an array of another type or shape, or
                a PIL image of a mode that is refused.
            OSError: the image's file cannot be read.
        """
        explicit = self.phrases is not None or self.queries is not None
        if explicit == (self.instruction is not None):
            raise TypeError("give either an instruction or phrases and queries")
        if not explicit and (self.exclude is not None or self.select is not None):
            raise TypeError("exclude and select go with phrases and queries")
        include, exclude = explicit_queries(self.phrases, self.queries, self.exclude)
        task = limelight_pb2.SegmentTask(
            image=media_pb2.Image(
                content=image_bytes(image),
                accept_damaged=arguments.truth(self.accept_damaged, "accept_damaged"),
            ),
            score_threshold=arguments.number_or_none(self.score_threshold, "score_threshold"),
            max_instances=arguments.whole_or_0(self.max_instances, "max_instances"),
            mask_format=MASK_FORMAT.to_proto(member(MaskFormat, self.mask_format, "mask format")),
            review=REVIEW_MODE.to_proto(review_mode(self.review)),
            renders=[
                _render(render, f"renders[{index}]")
                for index, render in enumerate(arguments.items(self.renders, "renders"))
            ],
        )
        if self.instruction is not None:
            task.instruction = arguments.text(self.instruction, "instruction")
            return task
        task.queries.SetInParent()
        task.queries.include.extend(map(query_to_proto, include))
        task.queries.exclude.extend(map(query_to_proto, exclude))
        if self.select is not None:
            task.queries.select.CopyFrom(
                selection_to_proto(arguments.selection(self.select, "select"))
            )
        return task


def explicit_queries(
    phrases: Sequence[str] | None,
    queries: Sequence[ConceptQuery] | None,
    exclude: Sequence[str | ConceptQuery] | None,
) -> tuple[list[ConceptQuery], list[ConceptQuery]]:
    """What to look for and what to leave out, from the arguments of a call.

    Raises:
        TypeError: one of them is not a list, or holds something else than phrases or queries.
        ValueError: text that UTF-8 cannot hold.
    """
    include = [
        ConceptQuery(arguments.text(phrase, f"phrases[{index}]"))
        for index, phrase in enumerate(arguments.items(phrases, "phrases"))
    ]
    include += [
        arguments.query(query, f"queries[{index}]")
        for index, query in enumerate(arguments.items(queries, "queries"))
    ]
    without = [
        arguments.query(ConceptQuery(item) if isinstance(item, str) else item, f"exclude[{index}]")
        for index, item in enumerate(arguments.items(exclude, "exclude"))
    ]
    return include, without


def image_bytes(image: ImageLike) -> bytes:
    """The encoded picture.

    A path is read and bytes are sent as they are, so the service sees the original file. An array
    (uint8, ``[h, w]``, ``[h, w, 3]`` RGB or ``[h, w, 4]`` RGBA) becomes a PNG of its very pixels. A
    PIL image becomes a PNG of the pixels that the service would make of its file (`pil.pixels`):
    an EXIF orientation that it still holds is applied, and answers are in the coordinates of
    ``PIL.ImageOps.exif_transpose(image)``.

    Raises:
        TypeError: nothing of these.
        ValueError: an array of another type or shape, or a PIL image of mode I, F or LAB.
        OSError: the file cannot be read.
    """
    match image:
        case bytes():
            return image
        case bytearray() | memoryview():
            return bytes(image)
        case str() | PathLike():
            if image == "":
                raise ValueError("the image's path is empty")
            return Path(image).read_bytes()
        case np.ndarray():
            # Level 1 of zlib: the bytes are made once, sent once and thrown away.
            return png.encode_pixels(image, level=1)
        case _ if (module := sys.modules.get("PIL.Image")) and isinstance(image, module.Image):
            return png.encode_pixels(pil.pixels(image), level=1)
        case _:
            kind = type(image).__name__
            raise TypeError(f"an image must be a path, bytes, a PIL image or an array, not {kind}")


def _render(render: Render | RenderKindName, name: str) -> limelight_pb2.RenderSpec:
    if isinstance(render, str):
        render = Render(render)
    if not isinstance(render, Render):
        raise TypeError(f"{name} must be a Render or its kind, not {arguments.shown(render)}")
    spec = limelight_pb2.RenderSpec(
        kind=RENDER_KIND.to_proto(member(RenderKind, render.kind, "render kind")),
        format=IMAGE_FORMAT.to_proto(member(ImageFormat, render.format, "image format")),
    )
    if isinstance(render.background, str) and render.background.startswith("#"):
        spec.background_color = render.background
    elif render.background is not None:
        if isinstance(render.background, str) and not Path(render.background).exists():
            raise ValueError(
                f"{name}.background is neither a color #rrggbb nor a file: {render.background!r}"
            )
        spec.background_image.content = image_bytes(render.background)
        spec.background_image.accept_damaged = render.accept_damaged
    return spec


def review_mode(review: bool | None) -> ReviewMode:
    """When the planner looks at the candidates; None leaves it to the plan."""
    if review is None:
        return ReviewMode.PLAN
    return ReviewMode.ALWAYS if arguments.truth(review, "unless None, review") else ReviewMode.NEVER


E = TypeVar("E", MaskFormat, RenderKind, ImageFormat)


def member(kind: type[E], name: str, what: str) -> E:
    """The member of that name; `ValueError` tells of which `what` there is none such."""
    try:
        return kind(name)
    except ValueError:
        known = ", ".join(kind)
        raise ValueError(f"unknown {what} {name!r}; one of {known}") from None
