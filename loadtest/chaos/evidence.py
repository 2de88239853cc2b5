"""Whether a limit was met: calls that need what is limited, and what became of them.

Calls with phrases write no file and take little memory, so a limit might pass unnoticed beside
them. What is asked here goes straight to the gateway whose limit it is, once, without repetitions.
"""

import asyncio
import io
import struct
import time
from collections import Counter
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from limelight import AsyncClient, LimelightError, RetryPolicy
from services.local.state import StackFolder, StackState

_ROUNDS = 5
# More than a gateway keeps of a video in its memory.
_VIDEO_BYTES = 12 << 20
# A picture of 33 MB, nearly the largest there may be. Four do not fit into what an idle gateway has
# to spare.
_SIDE, _PICTURES = 3300, 4
_LOGGED_S = 30.0
_ONCE = RetryPolicy(attempts=1)
# What can become of a call.
_MET, _LOST, _ANSWER = "OVERLOADED that names it", "a connection that ended", "an answer"


class NotMet(Exception):
    """Nothing noticed the limit."""


class Evidence(Protocol):
    """Asks for what is limited."""

    async def during(self, state: StackState) -> None:
        """Ask, while the limit holds."""

    async def after(self, state: StackState, folder: StackFolder) -> str:
        """What was seen of it, in words; raises `NotMet`."""


class Refused:
    """Calls that fail of the limit, and of nothing else, with an error of the contract.

    Args:
        calls: what they are, in words.
        word: what their error's message holds.
        at_once: calls at a time.
        ends: whether the gateway may end of it, since gRPC's core does where it gets no memory.
    """

    def __init__(self, calls: str, word: str, at_once: int = 1, ends: bool = False) -> None:
        self._calls, self._word, self._at_once, self._ends = calls, word, at_once, ends
        self._seen: Counter[str] = Counter()

    async def during(self, state: StackState) -> None:
        self._seen.clear()
        async with AsyncClient(state.addresses["direct"], retry=_ONCE) as client:
            for _ in range(_ROUNDS):
                seen = await asyncio.gather(*(self._outcome(client) for _ in range(self._at_once)))
                self._seen.update(seen)
                if _LOST in seen:
                    return

    async def after(self, state: StackState, folder: StackFolder) -> str:
        told = ", ".join(f"{count} × {what}" for what, count in sorted(self._seen.items()))
        told = f"{self._calls} got {told}"
        met = {_MET, _LOST} if self._ends else {_MET}
        harmless = met | ({_ANSWER} if self._at_once > 1 else set())
        if not met & set(self._seen) or set(self._seen) - harmless:
            raise NotMet(told)
        return told

    async def _outcome(self, client: AsyncClient) -> str:
        try:
            await self._ask(client)
        except LimelightError as error:
            if error.reason == "OVERLOADED" and self._word in error.message:
                return _MET
            if error.lost or error.unreachable:
                return _LOST
            return f"{error.reason or error.code.name} ({error.message})"
        return _ANSWER

    async def _ask(self, client: AsyncClient) -> None:
        raise NotImplementedError


class Uploads(Refused):
    """Videos that a gateway has to put on its disk."""

    def __init__(self) -> None:
        super().__init__("videos", "out of disk")

    async def _ask(self, client: AsyncClient) -> None:
        async with client.track(endless_video(), phrases=["a dog"], timeout=60) as events:
            async for _ in events:
                pass


class Pictures(Refused):
    """Pictures for which a gateway needs memory."""

    def __init__(self) -> None:
        super().__init__("pictures of 33 MB", "out of memory", _PICTURES, ends=True)
        self._content = b""

    async def _ask(self, client: AsyncClient) -> None:
        if not self._content:
            self._content = await asyncio.to_thread(large_picture)
        await client.segment(self._content, phrases=["a dog"], timeout=60)


class LostLines:
    """Lines of a gateway's log that the supervisor could not write."""

    async def during(self, state: StackState) -> None:
        async with AsyncClient(state.addresses["direct"], retry=_ONCE) as client:
            for _ in range(_ROUNDS):
                try:
                    await client.segment(b"no picture", phrases=["a dog"])
                except LimelightError:  # refused, which is logged
                    continue

    async def after(self, state: StackState, folder: StackFolder) -> str:
        end = time.perf_counter() + _LOGGED_S
        while time.perf_counter() < end:
            await self.during(state)  # what is written next tells of it
            for path in (folder.gateway_log(1), folder.serve_log):
                if told := lost_lines(path):
                    return f"the log says so: “{told}”"
            await asyncio.sleep(0.5)
        raise NotMet("no log tells of lines that could not be written")


def lost_lines(path: Path) -> str:
    """What a log tells of lines that are not there; "" if it tells of none."""
    text = path.read_text("utf-8", "replace") if path.exists() else ""
    return next((line.strip("() ") for line in text.splitlines() if "not be written" in line), "")


def endless_video() -> bytes:
    """An MP4 file whose index would stand after its media, so that all of it has to be kept."""
    kind = struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 512, b"isom")
    media = struct.pack(">I4s", 8 + _VIDEO_BYTES, b"mdat") + bytes(_VIDEO_BYTES)
    return kind + media


def large_picture() -> bytes:
    """A PNG of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (_SIDE, _SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG", compress_level=0)
    return file.getvalue()
