"""A clip of plain colors, as the gateway hands it on: what the fake engine can follow."""

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from services.codecs.videos.demux import Demuxer
from services.domain import PacketGroup
from tests.codecs.videos.clips import Clip

SIZE = (96, 64)
RED, BLUE = (255, 0, 0), (0, 0, 255)
_GOP = {"g": "10", "bf": "0", "sc_threshold": "0", "crf": "0", "preset": "ultrafast"}


def picture(number: int) -> NDArray[np.uint8]:
    """Frame `number`: a red square that moves to the right, and a blue one that stays."""
    pixels = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    left = 4 + number
    pixels[10:26, left : left + 16] = RED
    pixels[40:56, 70:86] = BLUE
    return pixels


@dataclass(frozen=True)
class DemuxedClip:
    """A stream's header, its groups, and the file itself."""

    header: bytes
    groups: tuple[PacketGroup, ...]
    content: bytes


@cache
def demuxed(frames: int = 40) -> DemuxedClip:
    """A clip with a key frame every ten frames, 25 a second."""
    clip = Clip(
        codec="libx264rgb",
        pixels="rgb24",
        container="matroska",
        frames=frames,
        size=SIZE,
        codec_options=_GOP,
        source=[picture(number) for number in range(frames)],
    )
    content = clip.make()
    with Demuxer(io.BytesIO(content)) as demuxer:
        groups = tuple(PacketGroup(gop.encode(), gop.index) for gop in demuxer.gops())
        return DemuxedClip(demuxer.header.encode(), groups, content)
