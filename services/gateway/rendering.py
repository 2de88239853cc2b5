"""The pictures a caller asked for, drawn from the decoded image and the answered masks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.codecs import render
from services.codecs.images import ImageLimits, decode, encode
from services.codecs.masks import decode_rle
from services.domain import Instance
from services.gateway.answers import Rendering
from services.gateway.tasks import RenderKind, RenderSpec

Pixels = NDArray[np.uint8]


def draw(
    specs: Sequence[RenderSpec],
    image: bytes,
    instances: Sequence[Instance],
    limits: ImageLimits,
) -> tuple[Rendering, ...]:
    """One rendering a spec, in order. Blocking: decodes, draws and encodes.

    Raises `InvalidMedia` when the image or a background cannot be decoded.
    """
    if not specs:
        return ()
    pixels = decode(image, limits, field="task.image.content")
    masks = [decode_rle(item.mask) for item in instances]
    renderings = []
    for i, spec in enumerate(specs):
        field = f"task.renders[{i}].background_image.content"
        picture = _draw(spec, pixels, instances, masks, limits, field)
        renderings.append(Rendering(spec, encode(picture, spec.format)))
    return tuple(renderings)


def _draw(
    spec: RenderSpec,
    pixels: Pixels,
    instances: Sequence[Instance],
    masks: Sequence[NDArray[np.bool_]],
    limits: ImageLimits,
    field: str,
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
