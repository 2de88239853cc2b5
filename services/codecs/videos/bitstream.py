"""The little that must be read of an encoded frame without decoding it.

Sources: ITU-T H.264 7.4.1, ITU-T H.265 7.4.2, ISO/IEC 14496-15 (their form in MP4), RFC 6386 9.1
(VP8), the VP9 bitstream specification 6.1 and annex B.
"""

from collections.abc import Callable

# Codecs whose every key frame closes what is before it.
_ALWAYS_FRESH = frozenset(
    ("vp8", "vp9", "av1", "gif", "webp", "mjpeg", "prores", "dnxhd", "ffv1", "huffyuv", "png")
)
# Within this many bytes of a packet stands its first slice, after parameter sets and messages.
_SEARCHED = 1 << 16


def is_shown(codec: str, data: bytes) -> bool:
    """Whether a packet holds a frame that is shown; VP8 and VP9 have some that are not."""
    if not data:
        return False
    if codec == "vp8":
        return bool(data[0] & 0x10)
    if codec == "vp9":
        return _vp9_is_shown(data)
    return True


def is_fresh(codec: str, data: bytes, extradata: bytes) -> bool:
    """Whether nothing after a key frame may refer to what is before it, whatever the order.

    True for H.264's IDR and HEVC's IDR and BLA pictures, and for codecs that know no other key
    frame; False where the codec leaves it open (MPEG-2 and MPEG-4 too).
    """
    if codec in _ALWAYS_FRESH:
        return True
    if codec == "h264":
        return 5 in _nal_types(data, extradata, 4, lambda first: first & 0x1F)
    if codec == "hevc":
        types = _nal_types(data, extradata, 21, lambda first: first >> 1 & 0x3F)
        return any(16 <= kind <= 20 for kind in types)
    return False


def _vp9_is_shown(data: bytes) -> bool:
    if data[-1] & 0xE0 == 0xC0:
        return True  # a superframe: its last frame is shown
    bits = data[0]
    at = 4 if bits >> 4 & 0b11 != 0b11 else 5  # the frame marker, the profile, a reserved bit
    show_existing = bits >> 7 - at & 1
    if show_existing:
        return True
    return at + 2 > 7 or bool(bits >> 7 - (at + 2) & 1)


def _nal_types(
    data: bytes, extradata: bytes, length_at: int, kind: Callable[[int], int]
) -> set[int]:
    """The types of the units that a packet begins with."""
    found = set()
    if len(extradata) > length_at and extradata[0] == 1:  # each with its length before it
        size = (extradata[length_at] & 3) + 1
        at = 0
        while at + size < min(len(data), _SEARCHED):
            found.add(kind(data[at + size]))
            at += size + int.from_bytes(data[at : at + size], "big")
        return found
    at = data.find(b"\0\0\1", 0, _SEARCHED)  # or each after a start code
    while at >= 0 and at + 3 < len(data):
        found.add(kind(data[at + 3]))
        at = data.find(b"\0\0\1", at + 3, _SEARCHED)
    return found
