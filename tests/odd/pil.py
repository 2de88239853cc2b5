"""PIL images and arrays through the Python client, beside their files: the same pixels, or refused.

What is right is what the service makes of the file the image came from; an image that was never a
file is held against the pixels it has.
"""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

from limelight.tasks import image_bytes
from services.codecs.images import decode
from tests.hostile import picture, saved, tiff
from tests.odd.case import Case
from tests.odd.pictures import WHOLE, see_decoded

SAME = "the same pixels as of its file"


def cases() -> list[Case]:
    """The area's cases."""
    return [*_files(), *_turned(), *_made(), *_refused(), *_arrays()]


def _see_file(content: bytes, change: Callable[[Image.Image], object], folder: Path) -> str:
    """A file opened by Pillow and sent, beside the file itself sent."""
    file = folder / "picture"
    file.write_bytes(content)
    right = decode(content)
    with Image.open(file) as image:
        changed = change(image)
        seen = see_decoded(
            image_bytes(changed if isinstance(changed, Image.Image) else image), right
        )
    return SAME if seen == WHOLE else seen


def _as_opened(image: Image.Image) -> None:
    return None


def _files() -> list[Case]:
    rgb, gray, inks = picture(), picture().convert("L"), picture().convert("CMYK")
    few = rgb.quantize(16)
    alpha = rgb.convert("RGBA")
    alpha.putalpha(gray)
    deep = _deep()
    frames = {"save_all": True, "append_images": [picture(seed=2)]}
    profile = {"icc_profile": _profile()}
    files = {
        "black and white PNG (1)": saved(rgb.convert("1"), "PNG"),
        "gray PNG (L)": saved(gray, "PNG"),
        "gray PNG with a transparent gray (L)": saved(gray, "PNG", transparency=90),
        "gray PNG with alpha (LA)": saved(alpha.convert("LA"), "PNG"),
        "palette PNG (P)": saved(few, "PNG"),
        "palette PNG with a transparent color (P)": saved(few, "PNG", transparency=3),
        "palette PNG with half transparent colors (P)": saved(
            few, "PNG", transparency=bytes(range(0, 256, 16))
        ),
        "PNG (RGB)": saved(rgb, "PNG"),
        "PNG with a transparent color (RGB)": saved(rgb, "PNG", transparency=rgb.getpixel((5, 5))),
        "PNG with alpha (RGBA)": saved(alpha, "PNG"),
        "PNG with a color profile": saved(rgb, "PNG", **profile),
        "PNG of 16 bits (I;16)": saved(deep, "PNG"),
        "TIFF of 16 bits, little-endian (I;16)": saved(deep, "TIFF"),
        "TIFF of 16 bits, big-endian (I;16B)": saved(_big_endian(deep), "TIFF"),
        "TIFF of 16 bits whose zero is white (I;16)": _white_zero(),
        "TIFF with alpha (RGBA)": saved(alpha, "TIFF"),
        "TIFF in inks (CMYK)": saved(inks, "TIFF"),
        "TIFF in YCbCr": saved(rgb.convert("YCbCr"), "TIFF"),
        "JPEG": saved(rgb, "JPEG"),
        "JPEG in inks, inverted as Adobe does (CMYK)": saved(inks, "JPEG"),
        "JPEG in inks with a color profile (CMYK)": saved(inks, "JPEG", **profile),
        "JPEG with a color profile": saved(rgb, "JPEG", **profile),
        "MPO": saved(rgb, "MPO", **frames),
        "GIF": saved(few, "GIF"),
        "GIF of two frames": saved(rgb, "GIF", **frames),
        "GIF with transparency": saved(alpha, "GIF"),
        "WebP": saved(rgb, "WEBP"),
        "WebP with alpha": saved(alpha, "WEBP", lossless=True, exact=True),
        "BMP": saved(rgb, "BMP"),
        "palette BMP": saved(few, "BMP"),
        "AVIF": saved(rgb, "AVIF"),
    }
    return [
        Case(f"{name}, opened by Pillow", SAME, partial(_see_file, content, _as_opened))
        for name, content in files.items()
    ]


def _deep() -> Image.Image:
    """A picture of 16 bits that uses all of its range."""
    gray = np.asarray(picture().convert("L")).astype(np.uint16)
    return Image.fromarray(gray * 257)


def _big_endian(image: Image.Image) -> Image.Image:
    return Image.frombytes("I;16B", image.size, np.asarray(image).astype(">u2").tobytes())


def _white_zero() -> bytes:
    entries = [
        (256, 4, 1, 96), (257, 4, 1, 64), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 0),
        (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, 64), (279, 4, 1, 96 * 64 * 2),
    ]  # fmt: skip
    return tiff(entries).ljust(200, b"\0") + np.asarray(_deep()).astype("<u2").tobytes()


def _profile() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def _turned() -> list[Case]:
    found = []
    for format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "MPO"):
        for number in (2, 3, 6, 8) if format != "JPEG" else range(1, 9):
            content = saved(picture(), format, exif=_exif(number))
            found.append(
                Case(
                    f"{format} of orientation {number}, opened by Pillow",
                    SAME,
                    partial(_see_file, content, _as_opened),
                )
            )
    turned = saved(picture(), "JPEG", exif=_exif(6))
    ways: dict[str, Callable[[Image.Image], object]] = {
        "turned by exif_transpose": ImageOps.exif_transpose,
        "turned in place": lambda image: ImageOps.exif_transpose(image, in_place=True),
        "converted to RGB": lambda image: image.convert("RGB"),
        "copied": lambda image: image.copy(),
        "loaded before": lambda image: image.load() and None,
    }
    found += [
        Case(f"JPEG of orientation 6, {way}", SAME, partial(_see_file, turned, change))
        for way, change in ways.items()
    ]
    notes = PngImagePlugin.PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    only_xmp = saved(picture(), "PNG", pnginfo=notes)
    found.append(
        Case(
            "PNG whose orientation only XMP has, opened by Pillow",
            SAME,
            partial(_see_file, only_xmp, _as_opened),
        )
    )
    found.append(
        Case(
            "JPEG of orientation 6 whose tag was deleted",
            WHOLE,
            partial(_see_untagged, turned),
        )
    )
    return found


def _see_untagged(content: bytes, folder: Path) -> str:
    image = Image.open(io.BytesIO(content))
    del image.getexif()[274]
    return see_decoded(image_bytes(image), np.asarray(image))


def _made() -> list[Case]:
    """Images that were never files."""
    rgb = picture()
    gray = rgb.convert("L")
    alpha = rgb.convert("RGBA")
    alpha.putalpha(gray)
    flat = decode(saved(alpha, "PNG"))
    flat_gray = decode(saved(alpha.convert("LA"), "PNG"))
    deep = _deep()
    rows = np.asarray(deep)
    right = np.repeat((rows // 257)[..., None], 3, axis=2)
    half_clear = rgb.quantize(8)
    half_clear.putpalette(bytes(range(0, 256, 8)), "RGBA")
    # Pillow writes it with the alpha of its palette, which is what the service reads.
    assert half_clear.palette.mode == "RGBA"
    images: dict[str, tuple[Image.Image, np.ndarray]] = {
        "I;16": (deep, right),
        "I;16L": (Image.frombytes("I;16L", deep.size, rows.astype("<u2").tobytes()), right),
        "I;16B": (_big_endian(deep), right),
        "I;16N": (Image.frombytes("I;16N", deep.size, rows.astype("=u2").tobytes()), right),
        "RGBX": (rgb.convert("RGBX"), np.asarray(rgb)),
        "RGBa": (
            alpha.convert("RGBa"),
            decode(saved(alpha.convert("RGBa").convert("RGBA"), "PNG")),
        ),
        "La": (
            alpha.convert("LA").convert("La"),
            decode(saved(alpha.convert("LA").convert("La").convert("LA"), "PNG")),
        ),
        "LA": (alpha.convert("LA"), flat_gray),
        "PA": (rgb.quantize(16).convert("PA"), np.asarray(rgb.quantize(16).convert("RGB"))),
        "RGBA": (alpha, flat),
        "P with a palette of RGBA": (half_clear, decode(saved(half_clear, "PNG"))),
        "HSV": (rgb.convert("HSV"), np.asarray(rgb.convert("HSV").convert("RGB"))),
        "YCbCr": (rgb.convert("YCbCr"), np.asarray(rgb.convert("YCbCr").convert("RGB"))),
        "CMYK": (rgb.convert("CMYK"), np.asarray(rgb.convert("CMYK").convert("RGB"))),
        "1": (rgb.convert("1"), np.asarray(rgb.convert("1").convert("RGB"))),
    }
    found = [
        Case(f"a PIL image of mode {name}", WHOLE, partial(_see_image, image, pixels))
        for name, (image, pixels) in images.items()
    ]
    film = saved(rgb, "GIF", save_all=True, append_images=[picture(seed=s) for s in (1, 2)])
    for number in (0, 1, 2):
        found.append(
            Case(f"frame {number} of a GIF, sought", WHOLE, partial(_see_frame, film, number))
        )
    return found


def _see_image(image: Image.Image, right: np.ndarray, folder: Path) -> str:
    return see_decoded(image_bytes(image), right)


def _see_frame(film: bytes, number: int, folder: Path) -> str:
    image = Image.open(io.BytesIO(film))
    image.seek(number)
    return see_decoded(image_bytes(image), np.asarray(image.convert("RGB")))


def _refused() -> list[Case]:
    gray = picture().convert("L")
    images = {
        "I": gray.convert("I"),
        "F": gray.convert("F"),
        "LAB": Image.new("LAB", (64, 64)),
    }
    cut = saved(picture(), "JPEG")
    half = Image.open(io.BytesIO(cut[: len(cut) // 2]))
    found = [
        _case_refused(f"a PIL image of mode {mode}", image, f"a PIL image of mode {mode} ")
        for mode, image in images.items()
    ]
    found.append(
        _case_refused("a PIL image of a file that is cut off", half, "image file is truncated")
    )
    return found


def _see_refused(image: object, fault: str, folder: Path) -> str:
    """`fault` is how the message ought to begin."""
    try:
        image_bytes(image)  # type: ignore[arg-type]
    except (ValueError, TypeError, OSError) as error:
        said = str(error)
        return _refusal(fault if said.startswith(fault) else said)
    return "sent"


def _refusal(fault: str) -> str:
    return f"refused before it is sent: {fault}"


def _case_refused(name: str, image: object, fault: str) -> Case:
    return Case(name, _refusal(fault), partial(_see_refused, image, fault))


def _arrays() -> list[Case]:
    rgb = np.asarray(picture())
    right = {
        "gray": (rgb[..., 0], np.repeat(rgb[..., :1], 3, axis=2)),
        "gray with a third axis": (rgb[..., :1], np.repeat(rgb[..., :1], 3, axis=2)),
        "RGB": (rgb, rgb),
        "RGBA, opaque": (np.dstack([rgb, np.full((64, 96), 255, np.uint8)]), rgb),
        "RGB, turned and stepped": (rgb[::-1, ::2], rgb[::-1, ::2]),
        "RGB in the order of Fortran": (np.asfortranarray(rgb), rgb),
        "RGB, read-only": (np.frombuffer(rgb.tobytes(), np.uint8).reshape(rgb.shape), rgb),
    }
    wrong = {
        "float32 from 0 to 1": (rgb / np.float32(255), "uint8, 0 to 255, not float32"),
        "float64": (rgb.astype(float), "uint8, 0 to 255, not float64"),
        "uint16": (rgb.astype(np.uint16) * 257, "uint8, 0 to 255, not uint16"),
        "int64": (rgb.astype(np.int64), "uint8, 0 to 255, not int64"),
        "bool": (rgb[..., 0] > 9, "uint8, 0 to 255, not bool"),
        "complex": (rgb.astype(complex), "uint8, 0 to 255, not complex128"),
    }
    found = [
        Case(f"an array, {name}", WHOLE, partial(_see_image, array, pixels))  # type: ignore[arg-type]
        for name, (array, pixels) in right.items()
    ]
    must = "an image array must"
    found += [
        _case_refused(f"an array of {name}", array, f"{must} be {fault}")
        for name, (array, fault) in wrong.items()
    ]
    found += [
        _case_refused(f"an array of shape {shape}", np.zeros(shape, np.uint8), f"{must} be [h, w]")
        for shape in ((3, 64, 96), (64, 96, 2), (1, 64, 96, 3), (96,), (0, 8, 3), (8, 0))
    ]
    hidden = np.ma.masked_array(rgb, mask=rgb > 99)
    found.append(_case_refused("a masked array", hidden, f"{must} not be a masked array"))
    return found
