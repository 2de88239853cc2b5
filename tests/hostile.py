"""Malformed and hostile images, made at run time: the corpus every door must turn away.

Each is a few bytes to a few kilobytes (one is just over 32 MiB), made from a valid file by the
least change that makes it wrong. The codecs' own tests use it, and the end-to-end tests send it
through gRPC, where none may reach a model.
"""

import io
import random
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from services.codecs.images import DEFAULT_LIMITS
from services.errors import Reason


@dataclass(frozen=True, slots=True)
class HostileImage:
    """An image file that must be refused for `reason`.

    `in_header` says whether `probe` must already refuse it; the others fail only in `decode`.
    """

    name: str
    data: bytes
    reason: Reason
    in_header: bool = True


def hostile_images() -> Iterator[HostileImage]:
    """The whole corpus, in a fixed order; names are unique."""
    yield from _not_images()
    yield from _cut_off()
    yield from _lying_pngs()
    yield from _lying_jpegs()
    yield from _lying_gifs()
    yield from _lying_webps()
    yield from _lying_tiffs()
    yield from _lying_bmps()
    yield from _lying_heifs()
    yield from _bad_shapes()
    yield from _spoiled_pixels()
    yield from _much_work()


def picture(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """A smooth RGB picture with some noise, so that every codec has something to encode."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
    noise = rng.integers(-6, 7, (height, width, 3))
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    """`image` as a file of Pillow's `format`, or "HEIF"."""
    buffer = io.BytesIO()
    if format == "HEIF":
        from pillow_heif import from_pillow

        from_pillow(image).save(buffer, **options)
    else:
        image.save(buffer, format, **options)
    return buffer.getvalue()


@cache
def valid_images() -> Mapping[str, bytes]:
    """One small valid file of each kind the codecs read, by name."""
    image = picture()
    return {
        "jpeg": saved(image, "JPEG"),
        "jpeg-progressive": saved(image, "JPEG", progressive=True),
        "jpeg-cmyk": saved(image.convert("CMYK"), "JPEG"),
        "png": saved(image, "PNG"),
        "png-palette": saved(image.convert("P"), "PNG"),
        "png-rgba": saved(image.convert("RGBA"), "PNG"),
        "gif": saved(image, "GIF"),
        "webp": saved(image, "WEBP"),
        "webp-lossless": saved(image, "WEBP", lossless=True),
        "webp-animated": saved(
            image, "WEBP", save_all=True, append_images=[picture(seed=1)], duration=40
        ),
        "tiff": saved(image, "TIFF"),
        "tiff-lzw": saved(image, "TIFF", compression="tiff_lzw"),
        "tiff-deflate": saved(image, "TIFF", compression="tiff_deflate"),
        "tiff-jpeg": saved(image, "TIFF", compression="jpeg"),
        "tiff-group4": saved(image.convert("1"), "TIFF", compression="group4"),
        "bmp": saved(image, "BMP"),
        "avif": saved(image, "AVIF"),
        "heic": saved(image, "HEIF"),
    }


# --- builders -----------------------------------------------------------------------------------


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its right checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, pixels: bytes, *, depth: int = 8, color: int = 2, extra: bytes = b""
) -> bytes:
    """A PNG of any header over any deflated `pixels`; `extra` chunks stand before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"".join((
        b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", header), extra, png_chunk(b"IDAT", pixels),
        png_chunk(b"IEND", b""),
    ))  # fmt: skip


@cache
def deflated_zeros(length: int) -> bytes:
    """A zlib stream of `length` zeros, made without holding them."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(length >> 20)]
    parts += [packer.compress(bytes(length & 0xFFFFF)), packer.flush()]
    return b"".join(parts)


def tiff(entries: list[tuple[int, int, int, int]], tail: bytes = b"", following: int = 0) -> bytes:
    """A little-endian TIFF of (tag, type, count, value) entries; `tail` follows the directory."""
    directory = b"".join(
        struct.pack("<HHI", tag, kind, count) + struct.pack("<I", value)
        for tag, kind, count, value in entries
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + directory + struct.pack("<I", following) + tail


def box(kind: bytes, content: bytes) -> bytes:
    """An ISO media box."""
    return struct.pack(">I4s", 8 + len(content), kind) + content


def nested_boxes(kind: bytes, depth: int) -> bytes:
    """A box in a box, `depth` of them."""
    content = b""
    for _ in range(depth):
        content = box(kind, content)
    return content


def with_boxes(heif: bytes, extra: bytes) -> bytes:
    """The file with more boxes at the end of the one that describes it."""
    at = heif.find(b"meta") - 4
    (size,) = struct.unpack_from(">I", heif, at)
    end = at + size
    return (
        heif[:at] + struct.pack(">I", size + len(extra)) + heif[at + 4 : end] + extra + heif[end:]
    )


def with_strip(data: bytes, strip: bytes) -> bytes:
    """A little-endian TIFF of one strip with another one in its place."""
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    changed = bytearray(data + strip)
    for entry in range(directory + 2, directory + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in (273, 279):
            value = len(data) if tag == 273 else len(strip)
            struct.pack_into("<HHII", changed, entry, tag, 4, 1, value)
    return bytes(changed)


def _tiff_entries(width: int, height: int, **changed: int) -> list[tuple[int, int, int, int]]:
    values = {
        "width": width, "height": height, "bits": 8, "compression": 1, "photometric": 1,
        "offset": 200, "samples": 1, "rows": height, "bytes": width * height,
    } | changed  # fmt: skip
    tags = {
        "width": (256, 4), "height": (257, 4), "bits": (258, 3), "compression": (259, 3),
        "photometric": (262, 3), "offset": (273, 4), "samples": (277, 3), "rows": (278, 4),
        "bytes": (279, 4),
    }  # fmt: skip
    return [(*tags[name], 1, value) for name, value in values.items()]


def _patched(data: bytes, at: int, change: bytes) -> bytes:
    return data[:at] + change + data[at + len(change) :]


def _frame_at(jpeg: bytes) -> int:
    """Where a JPEG's baseline or progressive frame header begins."""
    return next(at for at in (jpeg.find(b"\xff\xc0"), jpeg.find(b"\xff\xc2")) if at >= 0)


# --- the corpus ---------------------------------------------------------------------------------


def _not_images() -> Iterator[HostileImage]:
    unsupported = {
        "text": b"a picture of a girl and three dogs",
        "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>',
        "svg-billion-laughs": b'<!DOCTYPE svg [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><svg>&b;</svg>',
        "pdf": b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF",
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\nshowpage\n",
        "zip": b"PK\x03\x04" + bytes(60),
        "gzip": b"\x1f\x8b\x08" + bytes(60),
        "psd": b"8BPS\0\x01" + bytes(60),
        "ico": b"\0\0\x01\0\x01\0" + bytes(60),
        "jpeg-2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
        "jpeg-xl": b"\xff\x0a" + bytes(60),
        "bigtiff": b"II+\0\x08\0\0\0" + bytes(60),
        "mp4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(60),
        "webm": b"\x1aE\xdf\xa3" + bytes(60),
        "wav": b"RIFF\x24\0\0\0WAVEfmt " + bytes(40),
        "ppm": b"P6\n64 64\n255\n" + bytes(64 * 64 * 3),
        "tga": bytes(2) + b"\x02" + bytes(9) + b"\x40\0\x40\0\x18\0" + bytes(64 * 64 * 3),
        "one-byte": b"\xff",
        "zeros": bytes(4096),
        "noise": random.Random(0).randbytes(4096),
        "wrong-magic": b"XX" + saved(picture(), "PNG")[2:],
        "base64": b"iVBORw0KGgoAAAANSUhEUgAAAGAAAABACAIAAABqVuVZ",
        "data-url": b"data:image/png;base64,iVBORw0KGgo=",
    }
    yield HostileImage("empty", b"", Reason.IMAGE_MISSING)
    for name, data in unsupported.items():
        yield HostileImage(name, data, Reason.IMAGE_UNSUPPORTED)
    oversize = saved(picture(), "PNG") + bytes(DEFAULT_LIMITS.max_bytes)
    yield HostileImage("too-many-bytes", oversize, Reason.IMAGE_TOO_LARGE)


def _cut_off() -> Iterator[HostileImage]:
    """Valid files that end early: in the magic's wake, in the header, half way, near the end."""
    probed = {"webp", "webp-lossless", "bmp"}  # these say how long their pixels are
    files = valid_images()
    for kind in (
        "jpeg",
        "jpeg-progressive",
        "png",
        "gif",
        "webp",
        "tiff-lzw",
        "bmp",
        "avif",
        "heic",
    ):
        data = files[kind]
        for share in (0.02, 0.5, 0.9):
            # A TIFF's directory stands at its end, and an AVIF's boxes say how long they are.
            in_header = kind in probed or kind in ("tiff-lzw", "avif", "heic")
            # Two hundredths of this PNG are its header and the first of its packed rows.
            in_header |= share == 0.02 and kind != "png"
            length = max(16, round(share * len(data)))
            yield HostileImage(
                f"{kind}-cut-at-{share:.0%}", data[:length], Reason.IMAGE_CORRUPT, in_header
            )
    yield HostileImage("jpeg-magic-only", b"\xff\xd8\xff", Reason.IMAGE_CORRUPT)
    yield HostileImage("png-magic-only", files["png"][:8], Reason.IMAGE_CORRUPT)
    yield HostileImage("gif-magic-only", b"GIF89a", Reason.IMAGE_CORRUPT)
    yield HostileImage("webp-magic-only", b"RIFF\x04\0\0\0WEBP", Reason.IMAGE_CORRUPT)
    yield HostileImage("tiff-magic-only", b"II*\0", Reason.IMAGE_CORRUPT)
    yield HostileImage("bmp-magic-only", b"BM", Reason.IMAGE_CORRUPT)
    yield HostileImage("heic-type-only", files["heic"][:24], Reason.IMAGE_CORRUPT)


def _lying_pngs() -> Iterator[HostileImage]:
    few = zlib.compress(bytes(1000))
    large, corrupt = Reason.IMAGE_TOO_LARGE, Reason.IMAGE_CORRUPT
    # The first sixteen megabytes of its zeros are enough to show what it is.
    yield HostileImage("png-bomb", png(60000, 60000, deflated_zeros(1 << 24), color=0), large)
    yield HostileImage("png-max-size", png(2**31 - 1, 2**31 - 1, few), large)
    yield HostileImage("png-beyond-size", png(2**32 - 1, 2**32 - 1, few), large)
    yield HostileImage("png-says-large", png(7000, 7000, few), corrupt)
    yield HostileImage(
        "png-says-taller", png(32, 32, zlib.compress(bytes(32 * 97 - 40))), corrupt, False
    )
    yield HostileImage("png-bad-depth", png(32, 32, few, depth=3), corrupt)
    yield HostileImage("png-bad-color", png(32, 32, few, color=5), corrupt)
    yield HostileImage("png-no-pixels", png(32, 32, b""), corrupt)
    yield HostileImage(
        "png-header-checksum", _patched(saved(picture(), "PNG"), 29, b"\0\0\0\0"), corrupt
    )
    yield HostileImage("png-not-deflate", png(32, 32, bytes(range(200))), corrupt, False)
    yield HostileImage(
        "png-palette-missing", png(32, 32, zlib.compress(bytes(33 * 32)), color=3), corrupt
    )
    yield HostileImage(
        "png-million-chunks",
        png(32, 32, zlib.compress(bytes(97 * 32)), extra=png_chunk(b"teXt", b"") * 70_000),
        corrupt,
    )
    yield HostileImage(
        "png-endless-chunk",
        png(32, 32, few)[:33] + struct.pack(">I4s", 2**31 - 1, b"IDAT") + bytes(64),
        corrupt,
        False,
    )
    # An animation of frames far larger than its first picture allows.
    frames = png_chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    yield HostileImage("png-animated-bomb", png(50000, 50000, few, extra=frames), large)


def _lying_jpegs() -> Iterator[HostileImage]:
    good = saved(picture(), "JPEG")
    frame = _frame_at(good)
    corrupt, unsupported = Reason.IMAGE_CORRUPT, Reason.IMAGE_UNSUPPORTED

    def sized(height: int, width: int) -> bytes:
        return _patched(good, frame + 5, struct.pack(">HH", height, width))

    yield HostileImage("jpeg-bomb", sized(65500, 65500), Reason.IMAGE_TOO_LARGE)
    yield HostileImage("jpeg-says-large", sized(7000, 7000), corrupt)
    yield HostileImage("jpeg-no-height", sized(0, 96), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("jpeg-no-width", sized(64, 0), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("jpeg-twelve-bits", _patched(good, frame + 4, b"\x0c"), unsupported)
    yield HostileImage("jpeg-lossless", _patched(good, frame + 1, b"\xc3"), unsupported)
    yield HostileImage("jpeg-arithmetic", _patched(good, frame + 1, b"\xc9"), unsupported)
    yield HostileImage("jpeg-no-frame", good[:frame] + good[frame + 19 :], corrupt)
    yield HostileImage(
        "jpeg-two-frames", good[:frame] + good[frame : frame + 19] * 2 + good[frame + 19 :], corrupt
    )
    yield HostileImage("jpeg-short-segment", b"\xff\xd8\xff\xe0\0\x01" + good[2:], corrupt)
    yield HostileImage("jpeg-all-fill", b"\xff\xd8" + b"\xff" * (1 << 20), corrupt)
    yield HostileImage(
        "jpeg-million-segments", b"\xff\xd8" + b"\xff\xfe\0\x02" * 200_000 + good[2:], corrupt
    )
    progressive = saved(picture(), "JPEG", progressive=True)
    scan = progressive.rfind(b"\xff\xda")
    yield HostileImage(
        "jpeg-thousand-scans", progressive[:-2] + progressive[scan:-2] * 2000 + b"\xff\xd9", corrupt
    )
    tables = good.find(b"\xff\xdb")
    yield HostileImage("jpeg-no-tables", good[:tables] + good[frame:], corrupt, False)


def _lying_gifs() -> Iterator[HostileImage]:
    good = saved(picture().convert("P"), "GIF")
    at = good.find(b"\x2c\0\0\0\0")
    corrupt, large = Reason.IMAGE_CORRUPT, Reason.IMAGE_TOO_LARGE

    def sized(width: int, height: int) -> bytes:
        return _patched(good, at + 5, struct.pack("<HH", width, height))

    yield HostileImage("gif-bomb", _patched(sized(65535, 65535), 6, b"\xff" * 4), large)
    yield HostileImage("gif-screen-bomb", _patched(good, 6, b"\xff" * 4), large)
    yield HostileImage("gif-frame-outside", sized(65535, 65535), large)
    yield HostileImage("gif-says-large", sized(6000, 6000), corrupt)
    yield HostileImage("gif-says-taller", sized(96, 640), corrupt, False)
    yield HostileImage("gif-no-size", sized(0, 0), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("gif-no-frame", good[:at] + b";", corrupt)
    yield HostileImage("gif-unknown-block", good[:at] + b"\x99" + good[at:], corrupt)
    yield HostileImage(
        "gif-million-comments", good[:at] + b"\x21\xfe\x01x\0" * 200_000 + good[at:], corrupt
    )
    yield HostileImage(
        "gif-endless-comment", good[:at] + b"\x21\xfe" + b"\x01x" * 400_000 + good[at:], corrupt
    )


def _lying_webps() -> Iterator[HostileImage]:
    lossy, lossless = saved(picture(), "WEBP"), saved(picture(), "WEBP", lossless=True)
    animated = valid_images()["webp-animated"]
    corrupt, large = Reason.IMAGE_CORRUPT, Reason.IMAGE_TOO_LARGE
    full = struct.pack("<I", 0x3FFF | 0x3FFF << 14)
    yield HostileImage("webp-bomb", _patched(lossless, 21, full), large)
    yield HostileImage("webp-lossy-bomb", _patched(lossy, 26, b"\xff\x3f\xff\x3f"), large)
    yield HostileImage("webp-canvas-bomb", _patched(animated, 24, b"\xff" * 6), large)
    yield HostileImage("webp-canvas-lies", _patched(animated, 24, b"\x10\0\0\x10\0\0"), corrupt)
    yield HostileImage("webp-no-size", _patched(lossy, 26, bytes(4)), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("webp-bad-signature", _patched(lossless, 20, b"\x30"), corrupt)
    yield HostileImage("webp-no-key-frame", _patched(lossy, 23, b"\0\0\0"), corrupt)
    yield HostileImage("webp-unknown-chunk", _patched(lossy, 12, b"JUNK"), corrupt)


def _lying_tiffs() -> Iterator[HostileImage]:
    corrupt, unsupported = Reason.IMAGE_CORRUPT, Reason.IMAGE_UNSUPPORTED
    tail = bytes(64 * 64 + 200)

    def changed(**values: int) -> bytes:
        return tiff(_tiff_entries(64, 64, **values), tail)

    def counted(tag: int, count: int) -> bytes:
        entries = [
            (t, kind, count if t == tag else n, 8 if t == tag else value)
            for t, kind, n, value in _tiff_entries(64, 64)
        ]
        return tiff(entries, tail)

    bomb = tiff(_tiff_entries(2**31 - 1, 2**31 - 1, bytes=1), tail)
    yield HostileImage("tiff-bomb", bomb, Reason.IMAGE_TOO_LARGE)
    yield HostileImage(
        "tiff-packed-bomb",
        tiff(_tiff_entries(60000, 60000, bits=1, compression=4, bytes=1), tail),
        Reason.IMAGE_TOO_LARGE,
    )
    yield HostileImage("tiff-says-large", tiff(_tiff_entries(7000, 7000), tail), corrupt)
    yield HostileImage("tiff-no-size", tiff(_tiff_entries(0, 0), tail), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("tiff-absurd-strips", counted(273, 2**31 - 1), corrupt)
    yield HostileImage("tiff-too-many-strips", counted(273, 900), corrupt)
    yield HostileImage("tiff-strips-outside", changed(offset=2**31), corrupt, False)
    yield HostileImage("tiff-rows-of-none", changed(rows=0), corrupt)
    yield HostileImage("tiff-float", changed(bits=32), unsupported)
    yield HostileImage("tiff-twelve-bits", changed(bits=12), unsupported)
    yield HostileImage("tiff-absurd-samples", changed(samples=65535), unsupported)
    yield HostileImage("tiff-unknown-compression", changed(compression=31337), unsupported)
    yield HostileImage("tiff-unknown-colors", changed(photometric=999), corrupt)
    yield HostileImage("tiff-directory-outside", b"II*\0" + struct.pack("<I", 2**31), corrupt)
    entries = _tiff_entries(64, 64)
    yield HostileImage("tiff-tag-twice", tiff([*entries, entries[0]], tail), corrupt)
    yield HostileImage("tiff-says-nowhere", tiff(entries[:5], tail), corrupt)
    # Four thousand tags that all point to the same half megabyte, in a directory that follows
    # itself.
    blob = [(60000 + i, 2, 1 << 19, 16) for i in range(4000)]
    looped = tiff(blob, bytes(1 << 19), following=8)
    yield HostileImage("tiff-tag-bomb", looped, Reason.IMAGE_BAD_SHAPE)
    tiles = [entry for entry in entries if entry[0] not in (273, 278, 279)]
    tiles += [(322, 4, 1, 65536), (323, 4, 1, 65536), (324, 4, 1, 200), (325, 4, 1, 4096)]
    yield HostileImage("tiff-huge-tile", tiff(tiles, tail), corrupt)
    looping = [(*entry[:2], 1, entry[3]) for entry in _tiff_entries(4, 4)]
    yield HostileImage("tiff-loop", tiff(looping, tail, following=8), Reason.IMAGE_BAD_SHAPE)
    packed = saved(picture(), "TIFF", compression="jpeg")
    start = packed.find(b"\xff\xda")
    spoilt = _patched(packed, start - 200, bytes(190))
    yield HostileImage("tiff-jpeg-spoilt", spoilt, corrupt, False)


def _lying_bmps() -> Iterator[HostileImage]:
    good = saved(picture(), "BMP")
    corrupt = Reason.IMAGE_CORRUPT
    yield HostileImage(
        "bmp-bomb",
        _patched(good, 18, struct.pack("<ii", 2**31 - 1, 2**31 - 1)),
        Reason.IMAGE_TOO_LARGE,
    )
    yield HostileImage("bmp-no-size", _patched(good, 18, bytes(8)), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage(
        "bmp-negative-width", _patched(good, 18, b"\xff" * 4), Reason.IMAGE_BAD_SHAPE
    )
    yield HostileImage("bmp-bad-depth", _patched(good, 28, b"\x07\0"), corrupt)
    yield HostileImage(
        "bmp-compressed", _patched(good, 30, b"\x01\0\0\0"), Reason.IMAGE_UNSUPPORTED
    )
    yield HostileImage("bmp-not-really", b"BM" + b"ilk and honey" * 10, Reason.IMAGE_UNSUPPORTED)


def _lying_heifs() -> Iterator[HostileImage]:
    corrupt, large = Reason.IMAGE_CORRUPT, Reason.IMAGE_TOO_LARGE
    for kind, data in (("avif", valid_images()["avif"]), ("heic", valid_images()["heic"])):
        size = data.find(b"ispe") + 8
        yield HostileImage(
            f"{kind}-bomb", _patched(data, size, struct.pack(">II", 60000, 60000)), large
        )
        yield HostileImage(
            f"{kind}-no-size", _patched(data, size, bytes(8)), Reason.IMAGE_BAD_SHAPE
        )
        yield HostileImage(f"{kind}-type-box", _patched(data, 0, b"\xff" * 4), corrupt)
        meta = data.find(b"meta") - 4
        yield HostileImage(
            f"{kind}-endless-box", _patched(data, meta, b"\x7f\xff\xff\xff"), corrupt
        )
        yield HostileImage(f"{kind}-no-meta", _patched(data, meta + 4, b"free"), corrupt)
        pixels = data.find(b"mdat") + 4
        empty = data[:pixels] + bytes(len(data) - pixels)
        yield HostileImage(f"{kind}-no-pixels", empty, corrupt, False)


def _bad_shapes() -> Iterator[HostileImage]:
    def plain(width: int, height: int) -> bytes:
        return png(width, height, deflated_zeros((width + 1) * height), color=0)

    yield HostileImage("one-pixel", plain(1, 1), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("seven-pixels-high", plain(100, 7), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("no-width", png(0, 64, zlib.compress(bytes(64))), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("no-height", png(64, 0, zlib.compress(bytes(64))), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("a-line", plain(1, 100_000), Reason.IMAGE_TOO_LARGE)
    yield HostileImage("a-ribbon", plain(4000, 16), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("a-tower", plain(16, 4000), Reason.IMAGE_BAD_SHAPE)
    yield HostileImage("above-the-side", plain(16385, 2000), Reason.IMAGE_TOO_LARGE)
    yield HostileImage("above-the-pixels", plain(8000, 7000), Reason.IMAGE_TOO_LARGE)


def _spoiled_pixels() -> Iterator[HostileImage]:
    """Whole files whose compressed pixels are damaged where decoders notice."""
    files = valid_images()
    starts = {
        "png": files["png"].find(b"IDAT") + 4,
        "webp-lossless": 25,
        "tiff-deflate": 8,
        "gif": files["gif"].find(b"\x2c\0\0\0\0") + 12,
    }
    for kind, start in starts.items():
        data = files[kind]
        spoilt = _patched(data, start, bytes(byte ^ 0xA5 for byte in data[start : start + 64]))
        yield HostileImage(f"{kind}-spoilt", spoilt, Reason.IMAGE_CORRUPT, False)


def _much_work() -> Iterator[HostileImage]:
    """Small files, or files of very many parts, that a decoder would work on for seconds."""
    corrupt = Reason.IMAGE_CORRUPT
    files = valid_images()
    color = saved(Image.new("RGB", (7000, 7000), (9, 200, 100)), "JPEG", quality=30)
    # Scans of one component of three, each over all 49 megapixels, in 20 bytes.
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\0\0"
    before = color[: color.rfind(b"\xff\xda")]
    scans = before + scan * 5000 + bytes(50_000) + b"\xff\xd9"
    yield HostileImage("jpeg-sequential-scans", scans, corrupt)
    yield HostileImage("jpeg-sequential-scans-without-end", scans[:-2], corrupt)
    progressive = saved(Image.new("L", (7000, 7000)), "JPEG", progressive=True)
    last = progressive[progressive.rfind(b"\xff\xda") : -2]
    yield HostileImage("jpeg-many-large-scans", progressive[:-2] + last * 8 + b"\xff\xd9", corrupt)
    small = saved(picture(), "JPEG", progressive=True)
    tables = small[:-2] + b"\xff\xdb\0\x02" * 1_000_000 + b"\xff\xda" * 40 + b"\xff\xd9"
    yield HostileImage("jpeg-tables-among-pixels", tables, corrupt)
    sides = struct.pack("<I", 6999)[:3] * 2
    yield HostileImage("webp-bare-canvas", _patched(files["webp-animated"], 24, sides), corrupt)
    plain = saved(Image.new("RGB", (64, 64)), "WEBP", lossless=True)
    giant = struct.pack("<I", 6999 | 6999 << 14)
    yield HostileImage("webp-plain-giant", _patched(plain, 21, giant), corrupt)
    screen = _patched(files["gif"], 6, struct.pack("<HH", 7000, 7000))
    yield HostileImage("gif-bare-screen", screen, corrupt)
    for kind in ("heic", "avif"):
        data = files[kind]
        at = data.find(b"ispe") + 8
        declared = _patched(data, at, struct.pack(">II", 7000, 7000))
        yield HostileImage(f"{kind}-plain-giant", declared, corrupt)
        size = box(b"ispe", bytes(4) + struct.pack(">II", 96, 64))
        for name, extra in {
            "million-sizes": size * 200_000,
            "many-boxes": box(b"free", b"") * 10_000,
            "many-in-a-box": box(b"iprp", box(b"ipco", box(b"pixi", bytes(8)) * 10_000)),
            "deep-boxes": nested_boxes(b"iprp", 400),
            "long-locations": box(b"iloc", bytes(1 << 20)),
            "long-references": box(b"iref", bytes(4) + box(b"dimg", bytes(1 << 17))),
        }.items():
            yield HostileImage(f"{kind}-{name}", with_boxes(data, extra), corrupt)
    n = 1000
    entries = [
        (256, 4, 1, 64), (257, 4, 1, n), (258, 3, 1, 8), (259, 3, 1, 5), (262, 3, 1, 1),
        (273, 4, n, 200), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, n, 200 + 4 * n),
    ]  # fmt: skip
    head = tiff(entries)
    body = struct.pack(f"<{n}I", *[200 + 8 * n] * n) + struct.pack(f"<{n}I", *[1 << 20] * n)
    shared = head + bytes(200 - len(head)) + body + bytes(1 << 20)
    yield HostileImage("tiff-shared-strips", shared, corrupt)
    packed = files["tiff-jpeg"]
    at = packed.find(b"\xff\xda")
    strip = packed[8:at] + (packed[at : at + 14] + b"\0\0") * 200 + b"\xff\xd9"
    yield HostileImage("tiff-jpeg-scans", with_strip(packed, strip), corrupt)
