"""`services.codecs.images`: what is read, how it looks, and what is turned away."""

import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from limelight.paths import FieldPath
from services.codecs import headers, images
from services.codecs.images import ImageLimits, decode, encode, mend, probe
from services.errors import InvalidMedia, Reason, TooLarge
from tests.hostile import (
    HostileImage,
    hostile_images,
    picture,
    png,
    png_chunk,
    saved,
    tiff,
    valid_images,
)

HOSTILE = list(hostile_images())
VALID = valid_images()


def difference(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b).mean())


# --- what is turned away ------------------------------------------------------------------------


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(HOSTILE) >= 60
    assert len({case.name for case in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_hostile_images_are_refused_for_their_reason(case: HostileImage) -> None:
    began = time.process_time()
    with pytest.raises((InvalidMedia, TooLarge)) as decoded:
        decode(case.data, field=FieldPath.parse("images[2].content"))
    if case.in_header:
        with pytest.raises((InvalidMedia, TooLarge)) as probed:
            probe(case.data, field=FieldPath.parse("images[2].content"))
        assert probed.value.reason is case.reason
        assert str(probed.value.field) == "images[2].content"
    else:
        probe(case.data)
    assert time.process_time() - began < 1.0
    error = decoded.value
    assert (error.reason, str(error.field)) == (case.reason, "images[2].content")
    assert isinstance(error, TooLarge) == (case.reason is Reason.IMAGE_TOO_LARGE)
    assert error.message.startswith("the image ")
    assert len(error.message) < 250


@pytest.mark.slow
def test_hostile_images_cost_little_memory() -> None:
    # In a process of its own: the high-water mark of this one may stand anywhere.
    script = """
import resource
from services.codecs.images import decode
from services.errors import InvalidMedia, TooLarge
from tests.hostile import hostile_images

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

grown = 0
for case in hostile_images():
    before = peak()
    try:
        decode(case.data)
    except (InvalidMedia, TooLarge):
        pass
    grown += peak() - before
print(grown)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 100 << 10


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutated_files_raise_nothing_else(data: st.DataObject) -> None:
    content = bytearray(VALID[data.draw(st.sampled_from(sorted(VALID)))])
    for _ in range(data.draw(st.integers(1, 6))):
        # Headers are where it matters most.
        end = data.draw(st.sampled_from([min(len(content), 200), len(content)])) - 1
        content[data.draw(st.integers(0, end))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content))) :]
    try:
        header = probe(bytes(content))
        rgb = decode(bytes(content))
    except (InvalidMedia, TooLarge):
        return
    assert rgb.shape == (header.height, header.width, 3)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([d[:12] for d in VALID.values()]))
def test_random_bytes_raise_nothing_else(tail: bytes, magic: bytes) -> None:
    for content in (tail, magic + tail):
        with pytest.raises((InvalidMedia, TooLarge)):
            decode(content)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (ImageLimits(max_bytes=100), Reason.IMAGE_TOO_LARGE),
        (ImageLimits(max_pixels=96 * 64 - 1), Reason.IMAGE_TOO_LARGE),
        (ImageLimits(max_side=95), Reason.IMAGE_TOO_LARGE),
        (ImageLimits(min_side=65), Reason.IMAGE_BAD_SHAPE),
        (ImageLimits(max_aspect=1.4), Reason.IMAGE_BAD_SHAPE),
    ],
)
@pytest.mark.parametrize("kind", sorted(VALID))
def test_every_limit_holds_for_every_format(kind: str, limits: ImageLimits, reason: Reason) -> None:
    with pytest.raises((InvalidMedia, TooLarge)) as caught:
        probe(VALID[kind], limits)
    assert caught.value.reason is reason


def test_limits_are_inclusive() -> None:
    exact = ImageLimits(
        max_bytes=len(VALID["png"]), max_pixels=96 * 64, max_side=96, min_side=64, max_aspect=1.5
    )
    assert decode(VALID["png"], exact).shape == (64, 96, 3)


def test_a_missing_library_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(InvalidMedia, match="no decoder is installed") as caught:
        probe(VALID["heic"])
    assert caught.value.reason is Reason.IMAGE_UNSUPPORTED


# --- what is read -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(VALID))
def test_every_kind_is_read_as_it_looks(kind: str) -> None:
    header = probe(VALID[kind])
    assert (header.width, header.height, header.exif_orientation) == (96, 64, 1)
    assert header.format == kind.split("-")[0].replace("heic", "heif").upper()
    assert header.frames == (2 if kind == "webp-animated" else 1)
    rgb = decode(VALID[kind])
    assert rgb.dtype == np.uint8
    assert rgb.flags.c_contiguous
    assert rgb.flags.writeable
    if kind == "tiff-group4":
        assert set(np.unique(rgb)) == {0, 255}
        return
    lossless = kind in {
        "png",
        "png-rgba",
        "webp-lossless",
        "tiff",
        "tiff-lzw",
        "tiff-deflate",
        "bmp",
    }
    assert difference(rgb, np.asarray(picture())) <= (0 if lossless else 16)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_exif_orientation_is_applied(format: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[274] = orientation
    content = saved(picture(), format, exif=exif.tobytes())
    upright = picture()
    upright.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    header = probe(content)
    assert (header.height, header.width) == expected.shape[:2]
    assert difference(decode(content), expected) < 8


def test_broken_exif_is_no_reason_to_refuse() -> None:
    good = saved(picture(), "JPEG")
    for exif in (
        b"Exif\0\0",
        b"Exif\0\0XX*\0\x08\0\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(30),
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
    ):
        segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        content = good[:2] + segment + good[2:]
        assert probe(content).exif_orientation == 1
        assert np.array_equal(decode(content), decode(good))


def test_sixteen_bits_are_scaled() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    expected = np.repeat((ramp / 257).round().astype(int)[..., None], 3, axis=2)
    for format in ("PNG", "TIFF"):
        rgb = decode(saved(Image.fromarray(ramp), format))
        assert (np.abs(rgb - expected) <= 1).all()
        assert (rgb[0, 0, 0], rgb[-1, -1, 0]) == (0, 255)


def test_sixteen_bit_color_is_scaled() -> None:
    import zlib

    row = b"\0" + bytes(range(0, 256, 4)) * 6
    rgb = decode(png(64, 64, zlib.compress(row * 64), depth=16, color=2))
    assert rgb[0, 0].tolist() == [0, 8, 16]
    assert rgb.max() >= 248


def test_a_sixteen_bit_tiff_whose_zero_is_white() -> None:
    entries = [
        (256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 0),
        (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, 64), (279, 4, 1, 64 * 64 * 2),
    ]  # fmt: skip
    head = tiff(entries)
    pixels = b"\0\0" * (64 * 32) + b"\xff\xff" * (64 * 32)
    rgb = decode(head + bytes(200 - len(head)) + pixels)
    assert (rgb[:32] == 255).all()
    assert (rgb[32:] == 0).all()


def test_cmyk_looks_like_its_rgb() -> None:
    # Adobe's way (Pillow writes it) stores the inks inverted; TIFF does not.
    for content in (
        saved(picture().convert("CMYK"), "JPEG", quality=98),
        saved(picture().convert("CMYK"), "TIFF"),
    ):
        assert probe(content).mode == "CMYK"
        assert difference(decode(content), np.asarray(picture())) < 4


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_transparency_becomes_white(format: str) -> None:
    rgba = picture().convert("RGBA")
    alpha = np.full((64, 96), 255, np.uint8)
    alpha[:, :48] = 0
    rgba.putalpha(Image.fromarray(alpha))
    rgb = decode(saved(rgba, format))
    assert rgb[:, :44].min() >= 250
    assert difference(rgb[:, 52:], np.asarray(picture())[:, 52:]) < 16


def test_half_transparency_is_mixed_with_white() -> None:
    for mode, color in (("RGBA", (10, 20, 30, 128)), ("LA", (10, 128))):
        rgb = decode(saved(Image.new(mode, (16, 16), color), "PNG"))
        assert rgb[0, 0, 0] == round((10 * 128 + 255 * 127) / 255)


def test_a_transparent_color_of_a_palette_or_of_rgb() -> None:
    palette = picture().convert("P")
    index = palette.getpixel((5, 5))
    assert decode(saved(palette, "PNG", transparency=index))[5, 5].tolist() == [255] * 3
    plain = Image.new("RGB", (16, 16), (1, 2, 3))
    assert decode(saved(plain, "PNG", transparency=(1, 2, 3)))[0, 0].tolist() == [255] * 3


def test_black_and_white() -> None:
    pattern = np.indices((16, 16)).sum(axis=0) % 2 == 0
    for format in ("PNG", "TIFF", "BMP", "GIF"):
        rgb = decode(saved(Image.fromarray(pattern), format))
        assert np.array_equal(rgb[..., 0] == 255, pattern)


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_counts(format: str) -> None:
    frames = [picture(seed=7), picture(seed=8), picture(seed=9)]
    content = saved(frames[0], format, save_all=True, append_images=frames[1:])
    assert probe(content).frames >= 2
    assert difference(decode(content), np.asarray(frames[0])) < 16


def test_what_has_no_known_range_is_refused() -> None:
    gray = picture().convert("L")
    for mode in ("F", "I"):
        with pytest.raises(InvalidMedia) as caught:
            probe(saved(gray.convert(mode), "TIFF"))
        assert caught.value.reason is Reason.IMAGE_UNSUPPORTED
    with pytest.raises(InvalidMedia, match="LAB"):
        probe(saved(Image.new("LAB", (64, 64)), "TIFF"))


def test_metadata_never_reaches_a_decoder() -> None:
    content = VALID["png"][:33] + png_chunk(b"tEXt", b"a\0secret") + VALID["png"][33:]
    assert b"secret" not in headers.read_header(content).essential
    assert np.array_equal(decode(content), decode(VALID["png"]))
    jpeg = VALID["jpeg"]
    noted = jpeg[:2] + b"\xff\xfe\0\x08secret" + b"\xff\xe2\0\x0dICC_PROFILE" + jpeg[2:]
    assert b"secret" not in headers.read_header(noted).essential
    assert np.array_equal(decode(noted), decode(jpeg))


def test_tags_that_multiply_the_file_are_not_read() -> None:
    # Each of 4,000 tags claims the same half megabyte: two gigabytes to who believes them.
    entries = [
        (256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 60_000),
        (279, 4, 1, 64 * 64), *((40_000 + i, 2, 1 << 19, 16) for i in range(4000)),
    ]  # fmt: skip
    content = tiff(entries, bytes(1 << 19))
    assert len(headers.read_header(content).essential) < len(content) + 200
    assert (decode(content) == 0).all()


def test_decoding_is_safe_in_threads_and_quiet() -> None:
    expected = {kind: decode(content) for kind, content in VALID.items()}
    work = [kind for kind in sorted(VALID) for _ in range(6)]
    with warnings.catch_warnings(), ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("error")
        results = list(pool.map(lambda kind: decode(VALID[kind]), work))
    for kind, rgb in zip(work, results, strict=True):
        assert np.array_equal(rgb, expected[kind])


def test_nothing_is_registered_with_pillow() -> None:
    script = (
        "import sys; from PIL import Image; from services.codecs import images;"
        "assert 'pillow_heif' not in sys.modules and not Image.OPEN.get('HEIF');"
        "assert not {'grpc', 'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# --- what is written ----------------------------------------------------------------------------


def test_encoded_pictures_come_back() -> None:
    rgb = np.asarray(picture())
    assert np.array_equal(decode(encode(rgb, "png")), rgb)
    assert difference(decode(encode(rgb, "jpeg", quality=95)), rgb) < 4
    assert difference(decode(encode(rgb, "webp", quality=95)), rgb) < 6
    assert len(encode(rgb, "jpeg", quality=30)) < len(encode(rgb, "jpeg", quality=95))


def test_alpha_is_written_where_it_can_be() -> None:
    rgba = np.zeros((16, 16, 4), np.uint8)
    assert (decode(encode(rgba, "png")) == 255).all()
    assert (decode(encode(rgba, "jpeg")) >= 254).all()
    assert (decode(encode(rgba, "webp")) >= 254).all()
    assert probe(encode(rgba, "png")).mode == "RGBA"
    with pytest.raises(ValueError, match="an image is uint8"):
        encode(rgba[..., 0])


def test_the_hash_is_of_the_content() -> None:
    assert images.content_hash(b"a") == images.content_hash(b"a") != images.content_hash(b"b")
    assert len(images.content_hash(b"")) == 40


# --- what has lost pixels -----------------------------------------------------------------------


def cut_to(share: float, kind: str) -> bytes:
    return VALID[kind][: round(share * len(VALID[kind]))]


@pytest.mark.parametrize("kind", ["jpeg", "jpeg-cmyk", "png", "png-palette", "gif", "tiff"])
def test_what_is_left_of_a_picture_is_right_where_it_is_left(kind: str) -> None:
    damaged = cut_to(0.8, kind)
    with pytest.raises(InvalidMedia) as caught:
        decode(damaged)
    assert caught.value.reason is Reason.IMAGE_CORRUPT
    mended = mend(damaged)
    assert mended is not None
    assert np.array_equal(decode(mended.content)[:16], decode(VALID[kind])[:16])
    assert mended.warning.startswith("The image has lost pixels, ")


@pytest.mark.parametrize("kind", sorted(VALID))
def test_a_whole_picture_is_not_mended(kind: str) -> None:
    assert mend(VALID[kind]) is None


def refusal(data: bytes) -> Reason | None:
    """Why `decode` refuses a file; None where it does not."""
    try:
        decode(data)
    except (InvalidMedia, TooLarge) as error:
        return error.reason
    return None


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_hostile_images_are_refused_or_mended_with_a_warning(case: HostileImage) -> None:
    try:
        mended = mend(case.data)
    except (InvalidMedia, TooLarge):
        return
    assert mended is not None
    assert mended.warning
    assert refusal(mended.content) is None


@pytest.mark.parametrize("cut", range(2, 40))
def test_a_jpeg_is_whole_exactly_as_long_as_its_pixels_are(cut: int) -> None:
    whole = VALID["jpeg"]
    for end in (b"", b"\xff\xd9"):
        damaged = whole[:-cut] + end
        if (reason := refusal(damaged)) is None:
            assert np.array_equal(decode(damaged), decode(whole))
        else:
            assert (reason, cut > 2) == (Reason.IMAGE_CORRUPT, True)


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_png_is_whole_exactly_as_long_as_its_pixels_are(cut: int) -> None:
    damaged = VALID["png"][:-cut]
    if (reason := refusal(damaged)) is None:
        assert np.array_equal(decode(damaged), decode(VALID["png"]))
    else:
        # The last chunk has 12 bytes, the checksum before it 4, zlib's own another 4.
        assert (reason, cut > 20) == (Reason.IMAGE_CORRUPT, True)


def test_an_image_of_which_too_little_is_left_is_refused() -> None:
    for share in (0.05, 0.1):
        with pytest.raises(InvalidMedia, match="more than its"):
            mend(cut_to(share, "bmp"))
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    damaged = saved(Image.fromarray(noise), "BMP")[:-2000]
    with pytest.raises(TooLarge, match="as a PNG"):
        mend(damaged, ImageLimits(max_bytes=len(damaged)))
