"""The clips that are tracked: sticker world, drawn once, as H.264 in MP4."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace

from services.codecs.images import encode
from training.world.clip_files import write_mp4
from training.world.clips import ClipFrame, ClipWorld

# Frames a second of every clip, and from one key frame to the next: a second.
RATE = 24.0
GOP = 24
_MOST_PHRASES = 2


@dataclass(frozen=True, slots=True)
class BenchClip:
    """A file, its first frame as a JPEG, what to look for in it, and what it holds."""

    content: bytes
    picture: bytes
    phrases: tuple[str, ...]
    frames: int
    width: int
    height: int


def footage(seed: int, size: tuple[int, int], frames: int, drawn: int) -> BenchClip:
    """The clip of a seed, and the phrases for the first things in it.

    Args:
        seed: see `training.world.splits`.
        size: width and height in pixels, both even.
        frames: in the file.
        drawn: frames that are drawn; the file goes through them forth and back, so that any
            `2 * drawn - 2` frames in a row hold the same work.
    """
    clip = ClipWorld().clip(seed, size=size, frame_count=drawn)
    # In the order of first sight, each once.
    names = list(dict.fromkeys(member.concept for member in clip.objects))
    # The truth would take more memory than the pixels.
    shown = [replace(frame, masks={}) for frame in clip.frames()]
    buffer = io.BytesIO()
    write_mp4(clip, buffer, gop=GOP, rate=RATE, frames=_forth_and_back(shown, frames))
    picture = encode(shown[0].image, "jpeg")
    return BenchClip(buffer.getvalue(), picture, tuple(names[:_MOST_PHRASES]), frames, *size)


def _forth_and_back(drawn: list[ClipFrame], count: int) -> Iterator[ClipFrame]:
    period = max(1, 2 * len(drawn) - 2)
    for index in range(count):
        at = index % period
        yield replace(drawn[min(at, period - at)], index=index, time_s=index / RATE)
