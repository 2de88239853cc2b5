"""Encoded images to RGB arrays and back.

The gateway calls `probe` on what a client sent, before anything is queued; the planner and the
segmenter call `decode` in a thread pool, where the pixels are used. Both judge by the same header
(`services.codecs.headers`) and the same `ImageLimits`, so what was admitted can be decoded.

An image is what a viewer shows: Exif orientation applied, the first frame of several, transparency
on white, 16 bits scaled to 8. Color profiles are not applied.

A file that has all its pixels is read, whatever is missing after them. One that lost some is
refused, unless the caller asked for it all the same: the gateway then sends what `mend` makes of it
to everyone behind it, so that these know only whole pictures.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from limelight.paths import FieldPath
from services.codecs import decoders
from services.codecs.decoders import ALPHA, SIXTEEN_BITS
from services.codecs.headers import Header, Malformed, exif_orientation, read_header
from services.errors import InvalidMedia, Reason, ServiceError, TooLarge

# Where a request that has one image has it.
IMAGE_CONTENT = FieldPath(("image", "content"))

Rgb = NDArray[np.uint8]

# Of a damaged picture at least this share must be there for a file of plain rows to be taken. What
# is packed is never so near to the most that its bytes could hold.
_LEAST_SHARE = 8
_PLAIN_ROWS = frozenset({"TIFF", "BMP"})


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may be. Sides and pixels are those of the decoded image.

    A decoder needs about eight bytes a pixel, so the defaults bound one decode to some 400 MB.
    """

    max_bytes: int = 32 << 20
    """Length of the encoded file."""
    max_pixels: int = 50_000_000
    """Width times height; a 50-megapixel camera's picture passes."""
    max_side: int = 16384
    min_side: int = 8
    """Smaller images hold nothing to find."""
    max_aspect: float = 20.0
    """Longer side over shorter; the models see a square, and beyond this nothing is left in it."""


DEFAULT_LIMITS = ImageLimits()


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What is known of an image without decoding it.

    `width` and `height` are in pixels as a viewer shows them (orientation applied); `frames` is at
    least how many the file has (1 for a still image); `mode` is Pillow's name of the stored pixels;
    `exif_orientation` is 1 to 8, 1 where the file has none.
    """

    width: int
    height: int
    format: str
    frames: int
    mode: str
    exif_orientation: int


def probe(
    data: bytes,
    limits: ImageLimits = DEFAULT_LIMITS,
    field: FieldPath = IMAGE_CONTENT,
    *,
    damaged: bool = False,
) -> ImageHeader:
    """What `data` says of itself, if it is an image that `decode` would try to decode; with
    `damaged`, one that `mend` would.

    Decodes no pixel. Raises `InvalidMedia` or `TooLarge` with the reason, at `field`.
    """
    image, header = _open(data, limits, field, damaged=damaged)
    width, height = image.size
    if header.orientation >= 5:
        width, height = height, width
    return ImageHeader(width, height, header.format, header.frames, image.mode, header.orientation)


def decode(
    data: bytes, limits: ImageLimits = DEFAULT_LIMITS, field: FieldPath = IMAGE_CONTENT
) -> Rgb:
    """The pixels of `data`: uint8 (H, W, 3) RGB, C-contiguous, as a viewer shows them.

    Safe to call from many threads. Raises `InvalidMedia` or `TooLarge` with the reason, at `field`.
    """
    image, header = _open(data, limits, field)
    with _faults_named(field):
        rgb, fault = decoders.load(image, header, damaged=False)
        if fault:
            raise ValueError(f"it has lost pixels, {fault}")
    return _oriented(rgb, header.orientation)


@dataclass(frozen=True, slots=True)
class MendedImage:
    """What is left of a damaged picture: a whole PNG of it, and a sentence on what it lost."""

    content: bytes
    warning: str


def mend(
    data: bytes, limits: ImageLimits = DEFAULT_LIMITS, field: FieldPath = IMAGE_CONTENT
) -> MendedImage | None:
    """What can be read of `data`, if it has lost pixels; None if it has them all.

    Pixels that are lost are of one color, mostly gray or black. Raises `InvalidMedia` or `TooLarge`
    with the reason, at `field`, where nothing can be read, or too little.
    """
    image, header = _open(data, limits, field, damaged=True)
    with _faults_named(field):
        rgb, fault = decoders.load(image, header, damaged=True)
    if not fault:
        return None
    content = encode(_oriented(rgb, header.orientation))
    if len(content) > limits.max_bytes:
        raise TooLarge(
            Reason.IMAGE_TOO_LARGE,
            f"what is left of the damaged image has {len(content)} bytes as a PNG; at most "
            f"{limits.max_bytes} are allowed",
            field=field,
        )
    warning = f"The image has lost pixels, {fault}; what is missing is plain, and masks miss it."
    return MendedImage(content, warning)


def encode(
    pixels: Rgb,
    format: Literal["png", "jpeg", "webp"] = "png",
    *,
    quality: int = 90,
    file: io.BytesIO | None = None,
) -> bytes:
    """`pixels`, uint8 (H, W, 3) RGB or (H, W, 4) RGBA, as a file; JPEG puts alpha on white.

    `quality`, 1 to 100, is for JPEG and WebP. It is written to `file`, which may end it, if one is
    given.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (3, 4):
        raise ValueError(f"an image is uint8 (H, W, 3 or 4), not {pixels.dtype} {pixels.shape}")
    buffer = io.BytesIO() if file is None else file
    if format == "jpeg":
        if pixels.shape[2] == 4:
            pixels = decoders.on_white(pixels)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=0)
    elif format == "webp":
        Image.fromarray(pixels).save(buffer, "WEBP", quality=quality)
    else:
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def content_hash(data: bytes) -> str:
    """What caches know an encoded image by: 40 hexadecimal digits of BLAKE2b."""
    return hashlib.blake2b(data, digest_size=20).hexdigest()


@contextmanager
def _faults_named(field: FieldPath) -> Iterator[None]:
    """Turns whatever a decoder raises within the block into `InvalidMedia` at `field`.

    Pillow and the libraries below it raise nearly every built-in exception on crafted files.
    """
    try:
        yield
    except ServiceError:
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooLarge(
            Reason.IMAGE_TOO_LARGE, "the image is too large to decode", field=field
        ) from error
    except Exception as error:
        detail = str(error).strip().splitlines()
        raise InvalidMedia(
            Reason.IMAGE_CORRUPT,
            "the image cannot be decoded" + (f": {detail[0][:120]}" if detail else ""),
            field=field,
        ) from error


def _open(
    data: bytes, limits: ImageLimits, field: FieldPath, *, damaged: bool = False
) -> tuple[ImageFile.ImageFile, Header]:
    """The image behind `data`, no pixel decoded yet, after every check that a header allows.

    With `damaged`, it may declare more pixels than its bytes can hold, up to `_LEAST_SHARE` times.
    """
    if not data:
        raise InvalidMedia(Reason.IMAGE_MISSING, "the image is empty", field=field)
    if len(data) > limits.max_bytes:
        raise TooLarge(
            Reason.IMAGE_TOO_LARGE,
            f"the image has {len(data)} bytes; at most {limits.max_bytes} are allowed",
            field=field,
        )
    try:
        header = read_header(data)
    except Malformed as error:
        raise InvalidMedia(error.reason, f"the image {error.message}", field=field) from None
    most = header.most_pixels * (_LEAST_SHARE if damaged and header.format in _PLAIN_ROWS else 1)
    for width, height in header.declared:
        _check_size(width, height, limits, field)
        _check_held(width, height, most, len(data), field)
    opener = _opener(header.format)
    if opener is None:
        raise InvalidMedia(
            Reason.IMAGE_UNSUPPORTED,
            f"the image is {header.format}, for which no decoder is installed",
            field=field,
        )
    with _faults_named(field):
        # The plugin itself and not `Image.open`: no other plugin can be reached, nothing needs
        # registering, and the sizes are judged by our limits alone.
        image = opener(io.BytesIO(header.essential))
        width, height = image.size
        if header.format not in ("AVIF", "HEIF") and (width, height) not in header.declared:
            raise ValueError("its header contradicts itself")
    _check_size(width, height, limits, field)
    _check_held(width, height, most, len(data), field)
    _check_shape(width, height, limits, field)
    if image.mode not in _MODES:
        raise InvalidMedia(
            Reason.IMAGE_UNSUPPORTED,
            f"the image has pixels of a kind ({image.mode}) that is not supported",
            field=field,
        )
    if header.format == "AVIF":
        # Pillow hands the container's rotation on as Exif; libheif has applied it already.
        header = replace(header, orientation=exif_orientation(image.info.get("exif", b"")))
    if header.format in ("AVIF", "HEIF"):
        header = replace(header, frames=getattr(image, "n_frames", 1))
    return image, header


def _check_size(width: int, height: int, limits: ImageLimits, field: FieldPath) -> None:
    if width == 0 or height == 0:
        raise InvalidMedia(
            Reason.IMAGE_BAD_SHAPE, f"the image is {width}x{height}: it has no pixels", field=field
        )
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise TooLarge(
            Reason.IMAGE_TOO_LARGE,
            f"the image is {width}x{height}; at most {limits.max_side} a side and "
            f"{limits.max_pixels} pixels in all are allowed",
            field=field,
        )


def _check_held(width: int, height: int, most: int, held: int, field: FieldPath) -> None:
    if width * height > most:
        raise InvalidMedia(
            Reason.IMAGE_CORRUPT,
            f"the image declares {width}x{height} pixels, more than its {held} bytes hold",
            field=field,
        )


def _check_shape(width: int, height: int, limits: ImageLimits, field: FieldPath) -> None:
    short, long = sorted((width, height))
    if short < limits.min_side:
        raise InvalidMedia(
            Reason.IMAGE_BAD_SHAPE,
            f"the image is {width}x{height}; at least {limits.min_side} a side are needed",
            field=field,
        )
    if long > limits.max_aspect * short:
        raise InvalidMedia(
            Reason.IMAGE_BAD_SHAPE,
            f"the image is {width}x{height}; one side may be at most {limits.max_aspect:g} times "
            "the other",
            field=field,
        )


def _opener(format: str) -> Callable[[io.BytesIO], ImageFile.ImageFile] | None:
    """Pillow's plugin for `format`; None where its library is not installed."""
    if format == "HEIF":
        try:
            from pillow_heif import HeifImageFile
        except ImportError:
            return None
        return HeifImageFile
    if format == "AVIF":
        from PIL.AvifImagePlugin import SUPPORTED, AvifImageFile

        return AvifImageFile if SUPPORTED else None
    return {
        "JPEG": JpegImageFile,
        "PNG": PngImageFile,
        "GIF": GifImageFile,
        "WEBP": WebPImageFile,
        "TIFF": TiffImageFile,
        "BMP": BmpImageFile,
    }[format]


# Left out: "I" and "F" (32-bit samples, of no known range), "LAB" and "HSV".
_MODES = frozenset(("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", *ALPHA, *SIXTEEN_BITS))


def _oriented(rgb: Rgb, orientation: int) -> Rgb:
    """`rgb` turned and mirrored as Exif's `orientation` asks."""
    if orientation in (5, 6, 7, 8):
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)
