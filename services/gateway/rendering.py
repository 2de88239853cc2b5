"""What the gateway does with pixels: it reads headers, mends a damaged image that the caller wants
taken all the same, and draws an answer's masks, in the format asked for, and pictures.

Blocking work. All that decodes runs in the workers of `services.gateway.pixels`, which import this
module and nothing of gRPC; what they answer is plain.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limelight import png
from limelight.masks import decode_rle, to_polygons
from limelight.paths import FieldPath
from limelight.values import RLE, ImageFormat, MaskFormat, RenderKind
from services.codecs import decoders, lettering, render
from services.codecs.images import (
    ImageHeader,
    ImageLimits,
    MendedImage,
    decode,
    encode,
    mend,
    probe,
)
from services.domain import SegmentedInstance
from services.errors import Cancelled, Reason, TooLarge
from services.gateway.answer_size import MaskRoom, written_bytes
from services.gateway.answers import WrittenMask
from services.gateway.request_fields import IMAGE, RENDERS, background
from services.gateway.tasks import RenderSpec
from services.isolation.zygote import note

Pixels = NDArray[np.uint8]

# Characters that a warning names, at most.
_NAMED = 8
# Of those decoders that would take as many as the machine has cores.
_DECODER_THREADS = 2
# A larger picture takes too long to be made a PNG.
_PNG_PIXELS = 1_000_000
_JPEG_QUALITY = 95
# Smaller pictures fit any answer; of others, these rows tell how well they pack.
_ESTIMATED_FROM = 3_000_000
_SAMPLES, _SAMPLE_ROWS = 8, 16


def prepare() -> None:
    """Make a process ready to fork workers: what they would load first is loaded."""
    decoders.prepare(threads=_DECODER_THREADS)


def read_header(
    content: bytes, limits: ImageLimits, field: FieldPath, damaged: bool
) -> ImageHeader:
    """The header of an image that can be decoded within `limits`; with `damaged`, in part.

    Raises:
        InvalidMedia, TooLarge: at `field`.
    """
    return probe(content, limits, field, damaged=damaged)


def mended_image(content: bytes, limits: ImageLimits, field: FieldPath) -> MendedImage | None:
    """A whole image in place of a damaged one; None where it is whole.

    Raises:
        InvalidMedia, TooLarge: it is too damaged, or is none that can be read in part; at `field`.
    """
    return mend(content, limits, field)


def live_picture(content: bytes, limits: ImageLimits, max_side: int, field: FieldPath) -> bytes:
    """A live frame as a picture for the planner, no side over `max_side`.

    Raises:
        InvalidMedia, TooLarge: at `field`.
    """
    from services.codecs.videos.live import LiveDecoder, LiveFrame

    decoder = LiveDecoder(limits, max_side, field=field)
    return key_picture(decoder.decode(LiveFrame(0, 0.0, content)).pixels)


def key_picture(pixels: Pixels) -> bytes:
    """uint8 (H, W, 3) as a picture for the planner."""
    if pixels.shape[0] * pixels.shape[1] <= _PNG_PIXELS:
        return encode(pixels, "png")
    return encode(pixels, "jpeg", quality=_JPEG_QUALITY)


def write_masks(
    masks: Sequence[RLE], room: MaskRoom, stop: Callable[[], bool] = lambda: False
) -> list[WrittenMask | None]:
    """Each mask in the format of `room`; blocking work but for run lengths and none.

    Args:
        masks: run lengths.
        room: what they may take together.
        stop: asked between two; True ends with `Cancelled`.

    Raises:
        TooLarge: MASKS_TOO_LARGE, as soon as it is certain: if possible before one is written.
        Cancelled: `stop` said so.
    """
    room.check(masks)
    written: list[WrittenMask | None] = []
    length = 0
    for mask in masks:
        if stop():
            raise Cancelled()
        written.append(_written_mask(mask, room.format))
        length += written_bytes(written[-1:])
        room.count(len(written), length)
    return written


def draw_pictures(
    specs: Sequence[RenderSpec],
    image: bytes,
    instances: Sequence[SegmentedInstance],
    limits: ImageLimits,
    most_bytes: int,
) -> tuple[tuple[bytes, ...], tuple[str, ...]]:
    """One encoded picture a spec, in order, and warnings of what is in none.

    Raises:
        InvalidMedia: the image or a background cannot be decoded.
        TooLarge: the pictures have more than `most_bytes` together.
    """
    note(str(IMAGE))
    pixels = decode(image, limits, field=IMAGE)
    note("")
    masks = _Masks([item.mask for item in instances])
    contents: list[bytes] = []
    for index, spec in enumerate(specs):
        picture = _draw(spec, pixels, instances, masks, limits, background(index))
        file = _BoundedFile(most_bytes - sum(map(len, contents)))
        try:
            contents.append(encode(picture, spec.format.value, file=file))
        except _FullError:
            has = f"has, with those before it, more than {most_bytes}"
            raise too_many_bytes(most_bytes, spec, index, has) from None
    has_labels = any(spec.kind is RenderKind.OVERLAY for spec in specs)
    return tuple(contents), _not_written(instances) if has_labels else ()


def check_overlays(
    image: bytes, specs: Sequence[RenderSpec], limits: ImageLimits, most_bytes: int
) -> None:
    """Refuse overlays that will not fit an answer, before anything is drawn or looked for.

    The other pictures leave out a part of the image that nobody knows yet.

    Raises:
        InvalidMedia: the image cannot be decoded.
        TooLarge: one of them is expected to have more than `most_bytes`.
    """
    pixels = decode(image, limits, field=IMAGE)
    lengths: dict[ImageFormat, int] = {}
    total = 0
    for index, spec in enumerate(specs):
        if spec.kind is not RenderKind.OVERLAY:
            continue
        if spec.format not in lengths:
            lengths[spec.format] = _estimated(pixels, spec.format)
        total += lengths[spec.format]
        if total > most_bytes:
            has = f"would have, with overlays before it, about {total}"
            raise too_many_bytes(most_bytes, spec, index, has)


def _estimated(pixels: Pixels, format: ImageFormat) -> int:
    """The least bytes that an overlay on `pixels` is expected to have, by some of their rows.

    Half of what these rows have: others may be easier to pack, and a tint makes some plainer.
    """
    height: int = pixels.shape[0]
    if pixels.size < _ESTIMATED_FROM:
        return 0
    every = np.linspace(0, height - _SAMPLE_ROWS, _SAMPLES).astype(int)
    rows = np.concatenate([pixels[top : top + _SAMPLE_ROWS] for top in every])
    packed = len(encode(rows, format.value))
    return packed * height // (2 * len(rows))


def too_many_bytes(most: int, spec: RenderSpec, index: int, has: str) -> TooLarge:
    """The refusal of a picture that `has` more bytes than the `most` of all."""
    smaller = "" if spec.format is ImageFormat.JPEG else "; JPEG takes far less"
    return TooLarge(
        Reason.IMAGE_TOO_LARGE,
        f"the picture {has} bytes as {spec.format.value.upper()}, and an answer has room for "
        f"{most}{smaller}",
        field=RENDERS / index / "format",
    )


class _FullError(Exception):
    """A file has no room for what is written to it."""


class _BoundedFile(io.BytesIO):
    """A file in memory that ends whoever writes more to it than it may have."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, content: Any) -> int:
        if self.tell() + len(content) > self._most:
            raise _FullError
        return super().write(content)


class _Masks(Sequence[NDArray[np.bool_]]):
    """Masks that are unpacked when they are looked at: all at once would be gigabytes."""

    def __init__(self, packed: Sequence[RLE]) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return map(decode_rle, self._packed)

    def __getitem__(self, index: Any) -> Any:
        return decode_rle(self._packed[index])


def _not_written(instances: Sequence[SegmentedInstance]) -> tuple[str, ...]:
    """A warning of the characters in labels that no font covers, if there are any."""
    labels = " ".join(dict.fromkeys(item.label for item in instances))
    missing = lettering.uncovered(labels)
    if not missing:
        return ()
    names = ", ".join(missing[:_NAMED]) + (" and others" if len(missing) > _NAMED else "")
    return (f"No font covers {names}: the overlay's labels give the numbers of such characters.",)


def _written_mask(mask: RLE, mask_format: MaskFormat) -> WrittenMask | None:
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
            if isinstance(spec.background, bytes):
                note(str(field))
                behind = decode(spec.background, limits, field)
                note("")
                return render.replace_background(pixels, masks, behind)
            red, green, blue = (int(spec.background[at : at + 2], 16) for at in (1, 3, 5))
            return render.replace_background(pixels, masks, (red, green, blue))
