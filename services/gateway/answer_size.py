"""How many bytes an answer will have: reckoned before it is made, counted while it is.

The one place that says whether an answer fits the message that carries it. What is certain is
refused before a mask is written or a picture drawn; what only the writing tells is counted mask by
mask, and ends it. (`services.rpc.interceptors` looks at every message once more before it is sent:
what it finds is what nobody reckoned with, such as the length of texts.)
"""

from collections.abc import Iterable
from dataclasses import dataclass

from limelight.masks import vertex_count
from limelight.paths import FieldPath
from limelight.values import RLE, MaskFormat
from services.errors import Reason, TooLarge
from services.gateway.answers import WrittenMask

# Two floats a vertex.
_VERTEX_BYTES = 8
# A PNG's signature and its three chunks, and what deflate can make of a byte at most.
_PNG_FRAME, _DEFLATE_RATIO = 57, 1032
# A picture that holds nothing to see: a block of a JPEG has a code of two bits or more in each of
# its three components, and one of as many that ends it.
_JPEG_BLOCK, _JPEG_BLOCK_BITS = 64, 12
# Left for everything of an answer but its masks and pictures; of a small answer, a share.
_REST_BYTES, _REST_SHARE = 1 << 20, 4


@dataclass(frozen=True, slots=True)
class MaskRoom:
    """What the masks of one message may take.

    Attributes:
        most: bytes of the whole message.
        format: of the masks.
        field: what a refusal names.
    """

    most: int
    format: MaskFormat
    field: FieldPath

    def check(self, masks: Iterable[RLE]) -> None:
        """Refuse masks that cannot fit, without writing one; polygons take a moment.

        Raises:
            TooLarge: MASKS_TOO_LARGE.
        """
        least = 0
        for count, mask in enumerate(masks, start=1):
            least += _least_bytes(mask, self.format)
            if least > self.most:
                raise self._refusal(count, least)

    def count(self, masks: int, length: int) -> None:
        """Refuse the first `masks` masks, which have `length` bytes, if they do not fit.

        Raises:
            TooLarge: MASKS_TOO_LARGE.
        """
        if length > self.most:
            raise self._refusal(masks, length)

    def _refusal(self, count: int, length: int) -> TooLarge:
        better = "" if self.format is MaskFormat.RLE else ", or for masks as run lengths"
        return TooLarge(
            Reason.MASKS_TOO_LARGE,
            f"the first {count} masks take {length} bytes or more as {self.format.value}, and a "
            f"message has room for {self.most}; ask for fewer instances{better}",
            field=self.field,
        )


def written_bytes(masks: Iterable[WrittenMask | None]) -> int:
    """What written masks take of a message, but for a few bytes each."""
    total = 0
    for mask in masks:
        match mask:
            case RLE(_, counts):
                total += len(counts)
            case bytes():
                total += len(mask)
            case list():
                total += _VERTEX_BYTES * sum(map(len, mask))
    return total


def picture_room(most: int, masks: Iterable[WrittenMask | None] = ()) -> int:
    """What the pictures of an answer of `most` bytes may take beside these masks; 0: nothing."""
    left = max(0, most - written_bytes(masks))
    return left - min(_REST_BYTES, left // _REST_SHARE)


def least_picture_bytes(pixels: int, *, jpeg: bool) -> int:
    """What no picture of so many pixels falls below, whatever it shows."""
    if jpeg:
        return pixels // _JPEG_BLOCK * _JPEG_BLOCK_BITS // 8
    return _PNG_FRAME + 3 * pixels // _DEFLATE_RATIO


def _least_bytes(mask: RLE, mask_format: MaskFormat) -> int:
    height, width = mask.size
    match mask_format:
        case MaskFormat.RLE:
            return len(mask.counts)
        case MaskFormat.PNG:
            return _PNG_FRAME + height * (1 + (width + 7) // 8) // _DEFLATE_RATIO
        case MaskFormat.POLYGONS:
            return _VERTEX_BYTES * vertex_count(mask)
        case MaskFormat.NONE:
            return 0
