"""Hostile requests without end: number N of a seed is the same on every machine.

Each takes a picture, small or large, plain or not, in every format, makes it hostile (damage, work,
lies about its size, parts repeated), and asks for it with options that are odd as well.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from PIL import Image

from tests.fuzz.mutations import mutated
from tests.hostile import hostile_images, picture, saved

_FORMATS: dict[str, tuple[str, dict[str, object]]] = {
    "jpeg": ("JPEG", {"quality": 60}),
    "jpeg-progressive": ("JPEG", {"progressive": True}),
    "png": ("PNG", {"compress_level": 1}),
    "gif": ("GIF", {}),
    "webp": ("WEBP", {"method": 0}),
    "webp-lossless": ("WEBP", {"lossless": True, "method": 0}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg"}),
    "tiff": ("TIFF", {}),
    "bmp": ("BMP", {}),
    "avif": ("AVIF", {"speed": 10}),
    "heic": ("HEIF", {}),
}
_SIDES = ((96, 64), (640, 480), (1200, 900))
SEED = 14


@dataclass(frozen=True, slots=True)
class HostileRequest:
    """What is sent: an image, whether damage is accepted, and what is drawn behind it."""

    number: int
    name: str
    image: bytes
    accept_damaged: bool
    background: bytes | None


def hostile_requests(
    count: int, seed: int = SEED, largest: int = len(_SIDES) - 1, first: int = 0
) -> Iterator[HostileRequest]:
    """`count` requests of `seed` from `first` on, of pictures up to the size `largest`."""
    for number in range(first, first + count):
        yield _request(number, random.Random(f"{seed}:{number}"), largest)


@cache
def clean(kind: str, side: int, plain: bool) -> bytes:
    """A sound picture: of noise on a smooth ground, or of one color."""
    width, height = _SIDES[side]
    image = Image.new("RGB", (width, height), (9, 90, 200)) if plain else picture(width, height)
    format, options = _FORMATS[kind]
    return saved(image, format, **options)


@cache
def _known() -> tuple[bytes, ...]:
    return tuple(case.data for case in hostile_images() if len(case.data) < 1 << 20)


def kinds() -> tuple[str, ...]:
    return tuple(_FORMATS)


def _request(number: int, source: random.Random, largest: int) -> HostileRequest:
    kind = source.choice(kinds())
    side, plain = min(largest, source.choice((0, 0, 0, 1, 1, 2))), source.random() < 0.5
    base = clean(kind, side, plain)
    changes = (_damaged, _repeated, _larger, _known_one, _longer)
    change = source.choice(changes)
    image = change(base, source)
    other = _damaged(clean(source.choice(kinds()), 0, False), source)
    return HostileRequest(
        number,
        f"{kind}-{side}{'-plain' if plain else ''}{change.__name__}",
        image,
        accept_damaged=source.random() < 0.3,
        background=other if source.random() < 0.1 else None,
    )


def _damaged(data: bytes, source: random.Random) -> bytes:
    return mutated(data, clean("jpeg", 0, False), source)


def _repeated(data: bytes, source: random.Random) -> bytes:
    """A part of the file, up to many thousand times."""
    at = source.randrange(len(data))
    part = data[at : at + source.choice((2, 4, 12, 20, 64, 1024))]
    times = min(source.choice((10, 1000, 100_000)), (4 << 20) // max(1, len(part)))
    return data[:at] + part * times + data[at:]


def _larger(data: bytes, source: random.Random) -> bytes:
    """The file's own sides written over with others, wherever they stand."""
    changed = data
    wide, high = source.choice(((7000, 7000), (16000, 3000), (4000, 3000), (16383, 16383)))
    for width, height in _SIDES:
        for code in (">II", "<II", ">HH", "<HH", "<ii"):
            for old, new in (((width, height), (wide, high)), ((height, width), (high, wide))):
                changed = changed.replace(struct.pack(code, *old), struct.pack(code, *new))
    return _damaged(changed, source) if source.random() < 0.3 else changed


def _known_one(data: bytes, source: random.Random) -> bytes:
    known = source.choice(_known())
    return known if source.random() < 0.2 else mutated(known, data, source)


def _longer(data: bytes, source: random.Random) -> bytes:
    """The file, and megabytes of something after it."""
    scan, comment, box = b"\xff\xda\0\x08", b"\x21\xfe\x01x\0", b"\0\0\0\x08free"
    tail = source.choice((b"\0", b"\xff\xd0", scan, comment, box))
    body = data[:-2] if source.random() < 0.5 else data
    return body + tail * ((source.choice((1, 8)) << 20) // len(tail)) + data[-2:]
