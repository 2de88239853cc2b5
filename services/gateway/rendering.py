"""What is drawn from an answer: masks in the format asked for, and pictures. Blocking work."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limelight import png
from limelight.masks import decode_rle, to_polygons
from limelight.paths import FieldPath
from limelight.values import RLE, MaskFormat, RenderKind
from services.codecs import render
from services.codecs.images import ImageLimits, decode, encode
from services.domain import SegmentedInstance
from services.gateway.answers import MaskedInstance, RenderedPicture, WrittenMask
from services.gateway.reading import IMAGE, RENDERS
from services.gateway.tasks import RenderSpec

Pixels = NDArray[np.uint8]


def draw_masks(
    instances: Sequence[SegmentedInstance], mask_format: MaskFormat
) -> tuple[MaskedInstance, ...]:
    """Each instance with its mask in `mask_format`."""
    return tuple(MaskedInstance(item, _mask(item.mask, mask_format)) for item in instances)


def draw_pictures(
    specs: Sequence[RenderSpec],
    image: bytes,
    instances: Sequence[SegmentedInstance],
    limits: ImageLimits,
) -> tuple[RenderedPicture, ...]:
    """One picture a spec, in order: decodes, draws and encodes.

    Raises:
        InvalidMedia: the image or a background cannot be decoded.
    """
    if not specs:
        return ()
    pixels = decode(image, limits, field=IMAGE)
    masks = [decode_rle(item.mask) for item in instances]
    pictures = []
    for index, spec in enumerate(specs):
        field = RENDERS / index / "background_image" / "content"
        picture = _draw(spec, pixels, instances, masks, limits, field)
        pictures.append(RenderedPicture(spec, encode(picture, spec.format.value)))
    return tuple(pictures)


def _mask(mask: RLE, mask_format: MaskFormat) -> WrittenMask | None:
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
