"""Where media come from: what a file (`media`) and live input (`live`) have in common."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from services.domain import EncodedFrame, MediaEnd, PacketGroup
from services.gateway.video.intake import MediaSource
from services.stages import StageTimer, with_cpu

R = TypeVar("R")


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


@dataclass(frozen=True, slots=True)
class LivePoint:
    """Where live input goes on.

    Attributes:
        next_index: of the next frame.
        media_bytes: of the pictures before it.
        latest_s: the time of the last one before it; None: there was none.
    """

    next_index: int = 0
    media_bytes: int = 0
    latest_s: float | None = None


class StreamSource(MediaSource, Protocol):
    """One stream's media, for all its sessions."""

    warning: str
    """What could not be read; empty for a sound file."""
    frames_given: int
    """Frames in what sessions were given of a file, counted from its first; 0 for live input."""

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

    def live_point(self) -> LivePoint | None:
        """Right after the last live frame that was answered; None for a file."""

    def go_on(self, point: LivePoint) -> None:
        """Begin with live input at `point`; before anything has come."""

    def close(self) -> None:
        """Give everything back."""


class BlockingWork:
    """Runs what blocks in threads.

    Args:
        executor: runs it.
        timer: of the stream; waiting for a thread and for the client's bytes counts.
        worked: told each stage's name and the seconds of CPU that it took.
    """

    def __init__(
        self, executor: Executor, timer: StageTimer, worked: Callable[[str, float], None]
    ) -> None:
        self._executor = executor
        self._timer = timer
        self._worked = worked

    async def run(self, stage: str, function: Callable[..., R], *args: object) -> R:
        """The result of `function(*args)`, which goes on when this is canceled."""
        loop = asyncio.get_running_loop()
        begin = time.perf_counter()
        result, cpu_s = await loop.run_in_executor(self._executor, with_cpu, function, *args)
        self._timer.add(stage, time.perf_counter() - begin)
        self.took(stage, cpu_s)
        return result

    def took(self, stage: str, cpu_s: float) -> None:
        """A stage took so many seconds of CPU elsewhere."""
        self._worked(stage, cpu_s)
