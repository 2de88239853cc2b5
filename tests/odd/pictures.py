"""Picture files as cameras, phones, downloads and old tools leave them.

Whole pictures with odd ends, which must be read to the last pixel; pictures that lost some, which
must be refused, or taken with a warning if the caller asks for it; and what was always right:
orientation in every container, inks, palettes, names of files in any script.
"""

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from limelight.tasks import image_bytes
from services.codecs.images import decode, mend
from services.errors import InvalidMedia, TooLarge
from tests.hostile import picture, png_chunk, saved, tiff
from tests.odd.case import Case

WHOLE = "every pixel is right"
LOST = "refused: IMAGE_CORRUPT"

Make = Callable[[], bytes]


def cases() -> list[Case]:
    """The area's cases."""
    return [*_whole(), *_lost(), *_taken_all_the_same(), *_oriented(), *_colors(), *_names()]


def see_decoded(content: bytes, right: np.ndarray, most: float = 0) -> str:
    """What `decode` makes of a file, beside the pixels that it ought to have."""
    try:
        rgb = decode(content)
    except (InvalidMedia, TooLarge) as error:
        return f"refused: {error.reason}"
    if rgb.shape != right.shape:
        return f"a picture of {rgb.shape[1]}x{rgb.shape[0]} pixels, not {right.shape[1::-1]}"
    off = np.abs(rgb.astype(int) - right).mean()
    return WHOLE if off <= most else f"off by {off:.1f} on average"


def _read(make: Make, intact: bytes, folder: Path) -> str:
    """`make`'s file is read as `intact` is."""
    file = folder / "picture"
    file.write_bytes(make())
    return see_decoded(file.read_bytes(), decode(intact))


# --- whole pictures with odd ends -----------------------------------------------------------------


def _whole() -> list[Case]:
    found = []
    for name, (intact, odd) in {**_jpegs(), **_pngs(), **_other_files()}.items():
        found.append(Case(name, WHOLE, partial(_read, lambda odd=odd: odd, intact)))
    return found


def _jpegs() -> dict[str, tuple[bytes, bytes]]:
    """By name: a JPEG, and the same with an odd end."""
    kinds = {
        "JPEG": saved(picture(), "JPEG"),
        "JPEG of full chroma": saved(picture(), "JPEG", subsampling=0),
        "gray JPEG": saved(picture().convert("L"), "JPEG"),
        "progressive JPEG": saved(picture(), "JPEG", progressive=True),
        "CMYK JPEG": saved(picture().convert("CMYK"), "JPEG"),
        "JPEG with restart markers": saved(picture(), "JPEG", restart_marker_blocks=2),
        "JPEG of odd sides": saved(picture(97, 65), "JPEG"),
    }
    found = {}
    for kind, data in kinds.items():
        found[f"{kind} without its end marker"] = (data, data[:-2])
        found[f"{kind} with half of its end marker"] = (data, data[:-1])
        found[f"{kind} with a kilobyte after its end"] = (data, data + bytes(range(256)) * 4)
    plain = kinds["JPEG"]
    found["JPEG with fill bytes, without its end marker"] = (plain, plain[:-2] + b"\xff" * 5)
    found["JPEG with zeros before its end marker"] = (plain, plain[:-2] + bytes(300) + plain[-2:])
    found["JPEG with a comment after its pixels, cut in it"] = (
        plain,
        plain[:-2] + b"\xff\xfe\0\x40half of a comm",
    )
    found["JPEG with a sector of zeros for its end marker"] = (plain, plain[:-2] + bytes(512))
    several = saved(picture(), "MPO", save_all=True, append_images=[picture(seed=1)])
    first = several[: several.index(b"\xff\xd9") + 2]
    assert np.array_equal(decode(first), decode(several))
    found["MPO cut in its second picture"] = (several, several[: len(several) - 700])
    found["MPO cut after its first picture's pixels"] = (several, first[:-2])
    return found


def _pngs() -> dict[str, tuple[bytes, bytes]]:
    """By name: a PNG, and the same with an odd end."""
    plain = saved(picture(), "PNG")
    interlaced = _interlaced(picture())
    found = {
        "PNG without its last chunk": (plain, plain[:-12]),
        "PNG cut in its last chunk": (plain, plain[:-5]),
        "palette PNG without its last chunk": (
            saved(picture().convert("P"), "PNG"),
            saved(picture().convert("P"), "PNG")[:-12],
        ),
        "interlaced PNG without its last chunk": (interlaced, interlaced[:-12]),
        "PNG with a kilobyte after its last chunk": (plain, plain + b"\0" * 1024),
        "PNG cut in a text after its pixels": (
            plain,
            plain[:-12] + png_chunk(b"tEXt", b"Comment\0" + b"x" * 90)[:40],
        ),
    }
    for kind in (b"tEXt", b"iCCP", b"pHYs", b"eXIf", b"zzZz"):
        spoilt = png_chunk(kind, b"a\0b\0cccccc")[:-4] + b"\0\0\0\0"
        name = f"PNG whose {kind.decode()} chunk has a wrong checksum"
        found[name] = (plain, plain[:33] + spoilt + plain[33:])
    packed = _packed(picture())
    head = plain[:33]
    end = png_chunk(b"IEND", b"")
    found["PNG whose pixels' checksum is missing"] = (
        plain,
        head + png_chunk(b"IDAT", packed[:-4]) + end,
    )
    found["PNG whose pixels' checksum is wrong in a chunk that is right"] = (
        plain,
        head + png_chunk(b"IDAT", packed[:-4] + b"\0\0\0\0") + end,
    )
    found["PNG whose pixels' chunk has a wrong checksum"] = (
        plain,
        head + png_chunk(b"IDAT", packed)[:-4] + b"\0\0\0\0" + end,
    )
    found["PNG cut in the checksum of its pixels"] = (
        plain,
        (head + png_chunk(b"IDAT", packed))[:-7],
    )
    return found


def _packed(image: Image.Image) -> bytes:
    """The deflated rows of an RGB picture, unfiltered."""
    rgb = np.asarray(image)
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in rgb))


def _interlaced(image: Image.Image) -> bytes:
    """An RGB picture as an interlaced PNG (Adam7, PNG 3rd edition, 8.1)."""
    rgb = np.asarray(image)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
              (1, 0, 2, 1))  # fmt: skip
    rows = b"".join(
        b"\0" + row.tobytes() for y, x, down, across in passes for row in rgb[y::down, x::across]
    )
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 1)
    return b"".join((
        b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(rows)),
        png_chunk(b"IEND", b""),
    ))  # fmt: skip


def _other_files() -> dict[str, tuple[bytes, bytes]]:
    """By name: a GIF, WebP, TIFF, BMP, AVIF or HEIC, and the same with an odd end."""
    gif = saved(picture().convert("P"), "GIF")
    animated = saved(picture(), "GIF", save_all=True, append_images=[picture(seed=3)])
    found = {
        "GIF without its trailer": (gif, gif[:-1]),
        "GIF without the end of its pixels' blocks": (gif, gif[:-2]),
        "GIF with a kilobyte after its trailer": (gif, gif + bytes(1024)),
        "GIF cut in its second frame": (animated, animated[: len(animated) - 900]),
    }
    for kind, webp in (
        ("lossy", saved(picture(), "WEBP")),
        ("lossless", _lossless_webp()),
        ("lossy with alpha", saved(picture().convert("RGBA"), "WEBP", exact=True)),
        ("animated", _animated_webp()),
    ):
        (size,) = struct.unpack_from("<I", webp, 4)
        found |= {
            f"{kind} WebP that claims a byte more": (webp, _sized(webp, size + 1)),
            f"{kind} WebP that claims a megabyte more": (webp, _sized(webp, size + (1 << 20))),
            f"{kind} WebP that claims two bytes less": (webp, _sized(webp, size - 2)),
            f"{kind} WebP with a kilobyte after its end": (webp, webp + bytes(1024)),
        }
    noted = saved(picture(), "WEBP", exif=_exif(1) + bytes(200))
    found["WebP cut in its Exif data"] = (noted, noted[:-60])
    padded = next(
        data
        for seed in range(50)
        if struct.unpack_from("<I", data := _lossless_webp(seed), 16)[0] & 1
    )
    found["WebP without its last byte of padding"] = (padded, padded[:-1])
    for kind in ("raw", "tiff_lzw", "tiff_deflate", "packbits"):
        tiff = saved(picture(), "TIFF", compression=None if kind == "raw" else kind)
        found[f"TIFF ({kind}) with a kilobyte after its end"] = (tiff, tiff + bytes(1024))
    found |= _short_strips()
    for kind, number in _PACKINGS.items():
        strip = _packed_strip(kind)
        whole = _one_strip(number, strip, len(strip))
        for more in (1, 1000):
            name = f"TIFF ({kind}) whose strip claims {more} more than the file has"
            found[name] = (whole, _one_strip(number, strip, len(strip) + more))
    for kind, build, strip in (
        ("jpeg", _jpeg_strip, saved(picture(), "JPEG")),
        ("group4", _one_fax_strip, _fax_strip()),
    ):
        name = f"TIFF ({kind}) whose strip claims 9 more than the file has"
        found[name] = (build(strip, len(strip)), build(strip, len(strip) + 9))
    narrow = saved(picture(97, 65), "BMP")  # rows of 291 bytes, padded to 292
    found |= {
        "BMP without the padding of its last row": (narrow, narrow[:-1]),
        "BMP of 24 bits with a kilobyte after its end": (narrow, narrow + bytes(1024)),
        "BMP whose header gives it no length": (narrow, narrow[:2] + bytes(4) + narrow[6:]),
        "BMP without the two bytes some tools add": (narrow + bytes(2), narrow),
    }
    gray = saved(picture(97, 65).convert("L"), "BMP")  # rows of 97 bytes, padded to 100
    found["gray BMP without the padding of its last row"] = (gray, gray[:-3])
    for kind, data in (("AVIF", saved(picture(), "AVIF")), ("HEIC", saved(picture(), "HEIF"))):
        found |= {
            f"{kind} with a kilobyte after its end": (data, data + bytes(range(1, 251)) * 4),
            f"{kind} with three bytes after its end": (data, data + b"abc"),
            f"{kind} cut in an empty box after its pixels": (
                data,
                data + struct.pack(">I4s", 4096, b"free") + bytes(100),
            ),
        }
    return found


def _sized(webp: bytes, size: int) -> bytes:
    return webp[:4] + struct.pack("<I", size) + webp[8:]


def _lossless_webp(seed: int = 0) -> bytes:
    return saved(picture(seed=seed), "WEBP", lossless=True)


def _animated_webp() -> bytes:
    return saved(picture(), "WEBP", save_all=True, append_images=[picture(seed=1)], duration=40)


def _short_strips() -> dict[str, tuple[bytes, bytes]]:
    """TIFFs whose last strip claims more bytes than the file has and than its rows need."""
    found = {}
    for order, name in ((">", "big"), ("<", "little")):
        rgb = np.asarray(picture())
        needed = rgb.nbytes // 2
        for claimed in (needed, needed + 1000):
            values = [
                (256, 4, 1, 96), (257, 4, 1, 64), (258, 3, 3, 150), (259, 3, 1, 1), (262, 3, 1, 2),
                (273, 4, 2, 160), (277, 3, 1, 3), (278, 4, 1, 32), (279, 4, 2, 170),
            ]  # fmt: skip
            head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(order + "IH", 8, 9)
            for tag, kind, count, value in values:
                short = kind == 3 and count == 1
                packed = (
                    struct.pack(order + "HH", value, 0)
                    if short
                    else struct.pack(order + "I", value)
                )
                head += struct.pack(order + "HHI", tag, kind, count) + packed
            head = (head + bytes(4)).ljust(150, b"\0") + struct.pack(order + "HHH", 8, 8, 8)
            head = head.ljust(160, b"\0") + struct.pack(order + "II", 200, 200 + needed)
            head = head.ljust(170, b"\0") + struct.pack(order + "II", needed, claimed)
            file = head.ljust(200, b"\0") + rgb.tobytes()
            if claimed == needed:
                intact = file
            else:
                found[f"{name}-endian TIFF whose last strip claims more"] = (intact, file)
    return found


def _packed_strip(compression: str) -> bytes:
    """The picture's rows in one strip, packed as Pillow's `compression` does."""
    data = saved(picture(), "TIFF", compression=compression, strip_size=1 << 20)
    with Image.open(io.BytesIO(data)) as image:
        (offset,), (length,) = image.tag_v2[273], image.tag_v2[279]
    return data[offset : offset + length]


def _one_strip(number: int, strip: bytes, claimed: int) -> bytes:
    """A TIFF of compression `number` whose one strip stands at its end and claims a length."""
    entries = [
        (256, 4, 1, 96), (257, 4, 1, 64), (258, 3, 3, 150), (259, 3, 1, number), (262, 3, 1, 2),
        (273, 4, 1, 200), (277, 3, 1, 3), (278, 4, 1, 64), (279, 4, 1, claimed),
    ]  # fmt: skip
    head = tiff(entries).ljust(150, b"\0") + struct.pack("<HHH", 8, 8, 8)
    return head.ljust(200, b"\0") + strip


def _jpeg_strip(strip: bytes, claimed: int) -> bytes:
    """A TIFF whose one strip is a JPEG file of the picture."""
    entries = [
        (256, 4, 1, 96), (257, 4, 1, 64), (258, 3, 3, 160), (259, 3, 1, 7), (262, 3, 1, 6),
        (273, 4, 1, 200), (277, 3, 1, 3), (278, 4, 1, 64), (279, 4, 1, claimed),
        (530, 3, 2, 2 << 16 | 2),
    ]  # fmt: skip
    head = tiff(entries).ljust(160, b"\0") + struct.pack("<HHH", 8, 8, 8)
    return head.ljust(200, b"\0") + strip


def _fax_strip() -> bytes:
    """The picture in black and white as facsimile machines pack it (T.6)."""
    data = saved(picture().convert("1"), "TIFF", compression="group4", strip_size=1 << 20)
    with Image.open(io.BytesIO(data)) as image:
        (offset,), (length,) = image.tag_v2[273], image.tag_v2[279]
    return data[offset : offset + length]


def _one_fax_strip(strip: bytes, claimed: int) -> bytes:
    entries = [
        (256, 4, 1, 96), (257, 4, 1, 64), (258, 3, 1, 1), (259, 3, 1, 4), (262, 3, 1, 1),
        (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, 64), (279, 4, 1, claimed),
    ]  # fmt: skip
    return tiff(entries).ljust(200, b"\0") + strip


_PACKINGS = {"tiff_lzw": 5, "tiff_deflate": 8, "packbits": 32773}


# --- pictures that lost pixels --------------------------------------------------------------------


def _lost() -> list[Case]:
    return [
        Case(f"{name}: strictly", LOST, partial(_read, lambda odd=odd: odd, intact))
        for name, (intact, odd) in _cut().items()
    ]


def _cut() -> dict[str, tuple[bytes, bytes]]:
    """By name: a file, and the same with pixels lost."""
    files = {
        "JPEG": saved(picture(), "JPEG"),
        "progressive JPEG": saved(picture(), "JPEG", progressive=True),
        "gray JPEG": saved(picture().convert("L"), "JPEG"),
        "CMYK JPEG": saved(picture().convert("CMYK"), "JPEG"),
        "JPEG with restart markers": saved(picture(), "JPEG", restart_marker_blocks=2),
        "PNG": saved(picture(), "PNG"),
        "interlaced PNG": _interlaced(picture()),
        "GIF": saved(picture().convert("P"), "GIF"),
        "BMP": saved(picture(), "BMP"),
        "TIFF": saved(picture(), "TIFF"),
    }
    found = {
        f"{kind}, its last tenth gone": (d, d[: len(d) * 9 // 10]) for kind, d in files.items()
    }
    for kind in ("JPEG", "progressive JPEG", "CMYK JPEG"):
        data = files[kind]
        found[f"{kind}, its last tenth gone and an end marker set"] = (
            data,
            data[: len(data) * 9 // 10] + b"\xff\xd9",
        )
        found[f"{kind}, its last four bytes of pixels gone"] = (data, data[:-6])
    progressive = files["progressive JPEG"]
    found["progressive JPEG, its last scan gone"] = (
        progressive,
        progressive[: progressive.rindex(b"\xff\xda")],
    )
    jpeg = files["JPEG"]
    eighth = len(jpeg) // 8
    found["JPEG, its last eighth all zeros"] = (jpeg, jpeg[:-eighth] + bytes(eighth))
    for kind, number in _PACKINGS.items():
        strip = _packed_strip(kind)
        found[f"TIFF ({kind}), its last tenth gone"] = (
            _one_strip(number, strip, len(strip)),
            _one_strip(number, strip[: len(strip) * 9 // 10], len(strip)),
        )
    fax = _fax_strip()
    found["TIFF of a facsimile, its last tenth gone"] = (
        _one_fax_strip(fax, len(fax)),
        _one_fax_strip(fax[: len(fax) * 9 // 10], len(fax)),
    )
    found["TIFF of a JPEG, its last tenth gone"] = (
        _jpeg_strip(jpeg, len(jpeg)),
        _jpeg_strip(jpeg[: len(jpeg) * 9 // 10], len(jpeg)),
    )
    packed = _packed(picture())
    found["PNG, two rows short"] = (
        files["PNG"],
        files["PNG"][:33] + png_chunk(b"IDAT", zlib.compress(zlib.decompress(packed)[: -2 * 289])),
    )
    return found


def _taken_all_the_same() -> list[Case]:
    right = "taken with a warning; the top half is right"
    return [
        Case(f"{name}: if asked", right, partial(_mended, odd, intact, None))
        for name, (intact, odd) in _cut().items()
        if not any(word in name for word in ("progressive", "interlaced", "BMP", "TIFF ("))
    ] + [
        # BMP keeps its rows from the bottom up.
        Case(
            "BMP, its last tenth gone: if asked",
            "taken with a warning; the bottom half is right",
            partial(_mended, *reversed(_cut()["BMP, its last tenth gone"]), None),
        ),
        *[
            Case(f"{name}: if asked", "taken with a warning", partial(_mended, odd, intact, 40.0))
            for name, (intact, odd) in _cut().items()
            if "progressive" in name or "interlaced" in name
        ],
        *[
            # One strip is unpacked as a whole or not at all.
            Case(f"{name}: if asked", LOST, partial(_mended, odd, intact, None))
            for name, (intact, odd) in _cut().items()
            if "TIFF (" in name
        ],
        Case(
            "a whole JPEG: if asked",
            "taken as it is",
            partial(_mended, saved(picture(), "JPEG"), saved(picture(), "JPEG"), None),
        ),
        Case(
            "a text: if asked",
            "refused: IMAGE_UNSUPPORTED",
            partial(_mended, b"a picture of a cat", b"", None),
        ),
        Case(
            "a PNG without one right row: if asked",
            LOST,
            partial(_mended, _nothing_left(), b"", None),
        ),
    ]


def _nothing_left() -> bytes:
    plain = saved(picture(), "PNG")
    return plain[:33] + png_chunk(b"IDAT", bytes(range(200))) + plain[-12:]


def _mended(odd: bytes, intact: bytes, most: float | None, folder: Path) -> str:
    try:
        mended = mend(odd)
    except (InvalidMedia, TooLarge) as error:
        return f"refused: {error.reason}"
    if mended is None:
        return "taken as it is"
    rgb, whole = decode(mended.content), decode(intact)
    if not mended.warning:
        return "taken without a warning"
    if rgb.shape != whole.shape:
        return f"a picture of {rgb.shape[1]}x{rgb.shape[0]} pixels"
    if most is not None:
        off = np.abs(rgb.astype(int) - whole).mean()
        return "taken with a warning" if off < most else f"off by {off:.1f} on average"
    half = len(whole) // 2
    # A row beside the damage is blended with it where chroma is enlarged.
    right = [
        name
        for name, rows in (("top", slice(0, half)), ("bottom", slice(half, None)))
        if np.array_equal(rgb[rows], whole[rows])
    ]
    return f"taken with a warning; the {' and the '.join(right) or 'no'} half is right"


# --- what was always right ------------------------------------------------------------------------


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def _oriented() -> list[Case]:
    return [
        Case(f"{format} of orientation {number}", WHOLE, partial(_see_oriented, format, number))
        for format in ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF", "HEIF")
        for number in range(1, 9)
    ]


def _see_oriented(format: str, number: int, folder: Path) -> str:
    upright = picture()
    upright.getexif()[274] = number
    options = {"exif": _exif(number)} | ({"quality": 98} if format != "AVIF" else {})
    right = np.asarray(ImageOps.exif_transpose(upright))
    return see_decoded(saved(picture(), format, **options), right, most=8)


def _colors() -> list[Case]:
    rgb = np.asarray(picture())
    inks = picture().convert("CMYK")
    few = picture().quantize(16)
    two = picture().convert("1")
    shown = np.asarray(few.convert("RGB"))
    return [
        Case("CMYK JPEG, inks inverted as Adobe does", WHOLE, _seen(inks, "JPEG", rgb, 4)),
        Case("CMYK TIFF", WHOLE, _seen(inks, "TIFF", rgb, 4)),
        Case("CMYK JPEG with a color profile", WHOLE, _seen(inks, "JPEG", rgb, 4, icc=True)),
        *[
            Case(f"{format} of sixteen colors", WHOLE, _seen(few, format, shown, 0))
            for format in ("PNG", "GIF", "BMP", "TIFF")
        ],
        *[
            Case(
                f"{format} of two colors",
                WHOLE,
                _seen(two, format, np.asarray(two.convert("RGB"))),
            )
            for format in ("PNG", "GIF", "BMP", "TIFF")
        ],
    ]


def _seen(
    image: Image.Image, format: str, right: np.ndarray, most: float = 0, icc: bool = False
) -> Callable[[Path], str]:
    options: dict[str, object] = {"quality": 98} if format == "JPEG" else {}
    if icc:
        options["icc_profile"] = bytes(3000)
    return lambda folder: see_decoded(saved(image, format, **options), right, most)


def _names() -> list[Case]:
    names = (
        "naïve café.png", "Εικόνα.png", "картинка.png", "写真.png", "사진.png", "صورة.png",
        "תמונה.png", "ภาพ.png", "चित्र.png", "🐶🖼️.png", "two\nlines.png", "without a suffix",
    )  # fmt: skip
    return [Case(f"a file named {name!r}", WHOLE, partial(_see_named, name)) for name in names]


def _see_named(name: str, folder: Path) -> str:
    (folder / name).write_bytes(saved(picture(), "PNG"))
    return see_decoded(image_bytes(folder / name), np.asarray(picture()))
