"""What the gateway does with pixels: it mends a damaged image that the caller wants taken all the
same, and draws an answer's masks, in the format asked for, and pictures. Blocking work.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from limelight import png
from limelight.masks import decode_rle, to_polygons
from limelight.paths import FieldPath
from limelight.values import RLE, MaskFormat, RenderKind
from services.codecs import lettering, render
from services.codecs.images import ImageLimits, decode, encode, mend
from services.domain import SegmentedInstance
from services.gateway.answers import MaskedInstance, RenderedPicture, WrittenMask
from services.gateway.reading import IMAGE, RENDERS
from services.gateway.tasks import ImageTask, RenderSpec

Pixels = NDArray[np.uint8]

# Characters that a warning names, at most.
_NAMED = 8


def mended(task: ImageTask, limits: ImageLimits) -> tuple[ImageTask, tuple[str, ...]]:
    """`task` with whole images in place of damaged ones that it accepts, and a warning for each.

    Raises:
        InvalidMedia, TooLarge: an image is too damaged, or is none that can be read in part.
    """
    warnings = []
    if task.accept_damaged and (image := mend(task.image, limits, IMAGE)):
        task = replace(task, image=image.content)
        warnings.append(image.warning)
    renders = list(task.renders)
    for index, spec in enumerate(renders):
        if spec.accept_damaged and isinstance(spec.background, bytes):
            behind = mend(spec.background, limits, _background_path(index))
            if behind:
                renders[index] = replace(spec, background=behind.content)
                warnings.append(f"Of the background: {behind.warning}")
    return replace(task, renders=tuple(renders)), tuple(warnings)


def draw_masks(
    instances: Sequence[SegmentedInstance], mask_format: MaskFormat
) -> tuple[MaskedInstance, ...]:
    """Each instance with its mask in `mask_format`."""
    return tuple(MaskedInstance(item, written_mask(item.mask, mask_format)) for item in instances)


def draw_pictures(
    specs: Sequence[RenderSpec],
    image: bytes,
    instances: Sequence[SegmentedInstance],
    limits: ImageLimits,
) -> tuple[tuple[RenderedPicture, ...], tuple[str, ...]]:
    """One picture a spec, in order: decodes, draws and encodes; and warnings of what is in none.

    Raises:
        InvalidMedia: the image or a background cannot be decoded.
    """
    if not specs:
        return (), ()
    pixels = decode(image, limits, field=IMAGE)
    masks = [decode_rle(item.mask) for item in instances]
    pictures = []
    for index, spec in enumerate(specs):
        picture = _draw(spec, pixels, instances, masks, limits, _background_path(index))
        pictures.append(RenderedPicture(spec, encode(picture, spec.format.value)))
    has_labels = any(spec.kind is RenderKind.OVERLAY for spec in specs)
    return tuple(pictures), _not_written(instances) if has_labels else ()


def _not_written(instances: Sequence[SegmentedInstance]) -> tuple[str, ...]:
    """A warning of the characters in labels that no font covers, if there are any."""
    labels = " ".join(dict.fromkeys(item.label for item in instances))
    missing = lettering.uncovered(labels)
    if not missing:
        return ()
    names = ", ".join(missing[:_NAMED]) + (" and others" if len(missing) > _NAMED else "")
    return (f"No font covers {names}: the overlay's labels give the numbers of such characters.",)


def _background_path(index: int) -> FieldPath:
    return RENDERS / index / "background_image" / "content"


def written_mask(mask: RLE, mask_format: MaskFormat) -> WrittenMask | None:
    """The mask in `mask_format`; None where none is wanted."""
    match mask_format:
        case MaskFormat.RLE:
            return mask
        case MaskFormat.PNG:
            return png.encode_mask(decode_rle(mask))
        case MaskFormat.POLYGONS:
            return to_polygons(decode_rle(mask))
        case MaskFormat.NONE:
            return None


def _draw(
    spec: RenderSpec,
    pixels: Pixels,
    instances: Sequence[SegmentedInstance],
    masks: Sequence[NDArray[np.bool_]],
    limits: ImageLimits,
    field: FieldPath,
) -> Pixels:
    match spec.kind:
        case RenderKind.OVERLAY:
            return render.overlay(
                pixels,
                masks,
                labels=[item.label for item in instances],
                scores=[item.score for item in instances],
                ids=[item.id for item in instances],
            )
        case RenderKind.SPOTLIGHT:
            return render.spotlight(pixels, masks)
        case RenderKind.CUTOUT:
            return render.cutout(pixels, masks)
        case RenderKind.BACKGROUND:
            background = spec.background
            if isinstance(background, bytes):
                return render.replace_background(pixels, masks, decode(background, limits, field))
            red, green, blue = (int(background[at : at + 2], 16) for at in (1, 3, 5))
            return render.replace_background(pixels, masks, (red, green, blue))
