"""PIL images as the service reads files: the same pixels, or a refusal before anything is sent.

`tasks.image_bytes` calls `pixels`. Whoever has a PIL image has Pillow; the client does not need it.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

_SIXTEEN_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})
# Modes in which one color can stand for "transparent".
_KEYED = frozenset({"1", "L", "P", "RGB"})
_OPAQUE = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
_REFUSED = {
    "I": 'has 32-bit samples, whose range is not known: scale them and convert it to "L"',
    "F": 'has floating-point samples, whose range is not known: scale them and convert it to "L"',
    "LAB": 'is not supported: convert it to "RGB" (`PIL.ImageCms.profileToProfile`)',
}

_ORIENTATION = 0x0112
_WHITE_IS_ZERO, _PHOTOMETRIC = 0, 262
# Where Pillow finds an orientation that viewers, and the service, do not go by.
_HEARSAY = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")


def pixels(image: "Image") -> NDArray[np.uint8]:
    """`image` as it looks: uint8 ``[h, w]`` gray, ``[h, w, 3]`` RGB or ``[h, w, 4]`` RGBA.

    These are the pixels that the service makes of the image's file: of the current frame, with the
    orientation that its Exif data give applied, 16 bits scaled to 8, inks and other color spaces
    converted as Pillow does, color profiles left aside.

    Raises:
        ValueError: a mode whose pixels have no certain look (I, F, LAB), or an unknown one.
        OSError: the image is read from a file only now, and the file is damaged.
    """
    if image.mode not in _SIXTEEN_BITS | _ALPHA | _OPAQUE:
        fault = _REFUSED.get(image.mode, 'is not known: convert it to "RGB"')
        raise ValueError(f"a PIL image of mode {image.mode} {fault}")
    image.load()  # which is when a TIFF turns itself
    return _oriented(_upright(image), _orientation(image))


def _upright(image: "Image") -> NDArray[np.uint8]:
    if image.mode in _SIXTEEN_BITS:
        deep = np.asarray(image).astype(np.uint32)
        gray = ((deep * 255 + 32767) // 65535).astype(np.uint8)
        tags = getattr(image, "tag_v2", {})
        # The one thing that Pillow does not do for TIFFs of 16 bits.
        return 255 - gray if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else gray
    if image.mode == "La":
        image = image.convert("LA")  # from which alone Pillow goes on
    keyed = image.mode in _KEYED and "transparency" in image.info
    if keyed or image.mode in _ALPHA or (image.mode == "P" and _has_alpha(image)):
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


def _has_alpha(image: "Image") -> bool:
    """Whether the palette of `image` holds alpha."""
    return image.palette is not None and image.palette.mode.endswith("A")


def _orientation(image: "Image") -> int:
    """Exif's orientation, 1 to 8, as the image holds it now; 1 if none is said."""
    from PIL.Image import Exif

    current = image.getexif().get(_ORIENTATION, 1)
    stored = Exif()
    stored.load(image.info.get("exif", b""))
    if stored.get(_ORIENTATION, 1) == 1 and any(key in image.info for key in _HEARSAY):
        return 1
    return current if current in range(1, 9) else 1


def _oriented(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turned and mirrored as Exif's `orientation` asks."""
    if orientation in (5, 6, 7, 8):
        upright = upright.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    if orientation in (3, 4, 7, 8):
        upright = upright[::-1]
    return upright
