"""Where media come from: what a file (`media`) and live input (`live`) have in common."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.codecs.images import encode
from services.domain import EncodedFrame, MediaEnd, PacketGroup
from services.gateway.video.intake import MediaSource

R = TypeVar("R")

# A larger picture takes too long to be made a PNG.
_PNG_PIXELS = 1_000_000
_JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class KeyPicture:
    """One frame as the planner sees it: an encoded picture of the size that masks have."""

    frame_index: int
    content: bytes


@dataclass(frozen=True, slots=True)
class SourceItem:
    """What a session gets next. `cut`: a new scene begins with it, and so it looks."""

    step: PacketGroup | EncodedFrame | MediaEnd
    cut: KeyPicture | None = None
    first_frame: int = 0


class StreamSource(MediaSource, Protocol):
    """One stream's media, for all its sessions."""

    warning: str
    """What could not be read; empty for a sound file."""

    @property
    def header(self) -> bytes:
        """What a session needs before the first group; once it is prepared."""

    @property
    def starving(self) -> bool:
        """Whether nothing goes on before the client sends more."""

    @property
    def frames_expected(self) -> int:
        """Frames that will be tracked, as far as the file says; 0 if it does not."""

    async def prepare(self) -> None:
        """Wait for what the header says, where nobody looks at a picture. Raises what is wrong."""

    async def first_picture(self) -> KeyPicture:
        """The first frame that will be tracked, once it has come. Raises what is wrong with it."""

    async def picture(self, frame_index: int) -> KeyPicture | None:
        """A frame that was sent to a session; None if it cannot be had any more."""

    def items(self, group: int, *, watch_cuts: Callable[[], bool]) -> AsyncIterator[SourceItem]:
        """What a session gets that goes on with `group`; ends with a `MediaEnd`."""

    def answered(self, frame_index: int) -> None:
        """A frame came back."""

    def dropped(self) -> list[int]:
        """The frames that were left out since the last time."""

    def close(self) -> None:
        """Give everything back."""


def encoded_picture(frame_index: int, pixels: NDArray[np.uint8]) -> KeyPicture:
    """uint8 (H, W, 3) as a picture for the planner."""
    if pixels.shape[0] * pixels.shape[1] <= _PNG_PIXELS:
        return KeyPicture(frame_index, encode(pixels, "png"))
    return KeyPicture(frame_index, encode(pixels, "jpeg", quality=_JPEG_QUALITY))


class BlockingWork:
    """Runs what blocks in threads."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def run(self, function: Callable[..., R], *args: object) -> R:
        """The result of `function(*args)`, which goes on when this is canceled."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *args)
