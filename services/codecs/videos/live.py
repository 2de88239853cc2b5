"""Frames that come encoded and one by one, from a camera: the latest wins when the work is behind.

The gateway puts frames in as they arrive and takes them out as fast as they are worked on; the
segmenter decodes them. What had to give way is told with the next frame that did not.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from limelight.paths import FieldPath
from services.codecs import images
from services.codecs.images import ImageLimits
from services.codecs.videos import geometry, pyav
from services.codecs.videos.decode import DecodedFrame
from services.errors import InvalidMedia, InvalidRequest, Reason, TooLarge

# Where a message that carries a live frame has its picture.
LIVE_FRAME = FieldPath(("frame", "content"))


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """One encoded frame. `index` counts every frame that came, from 0, dropped ones too."""

    index: int
    time_s: float
    """When it was taken, on the sender's clock."""
    content: bytes
    """A JPEG, or another picture that `services.codecs.images` reads."""


class LiveQueue:
    """At most `capacity` frames that wait; the oldest of them gives way to a new one.

    For one event loop: nothing here blocks.
    """

    def __init__(
        self, capacity: int = 2, max_frame_bytes: int = 8 << 20, *, field: FieldPath = LIVE_FRAME
    ) -> None:
        self._waiting: deque[LiveFrame] = deque()
        self._capacity = capacity
        self._max_frame_bytes = max_frame_bytes
        self._field = field
        self._came = 0
        self._latest_s = float("-inf")
        # The frame after the last that was taken: from here to the first that waits, all are gone.
        self._next = 0
        self._dropped = 0
        self._closed = False
        self._changed = asyncio.Event()

    @property
    def dropped(self) -> int:
        """Frames that gave way so far."""
        return self._dropped

    def put(self, content: bytes, time_s: float) -> LiveFrame:
        """Take the next frame in; never waits.

        Raises:
            InvalidMedia: it is empty (IMAGE_MISSING).
            TooLarge: it has too many bytes (IMAGE_TOO_LARGE).
            InvalidRequest: its time is not after the one before (OPTION_INVALID).
        """
        if self._closed:
            raise ValueError("the stream of frames has ended")
        if not content:
            raise InvalidMedia(Reason.IMAGE_MISSING, "the frame is empty", field=self._field)
        if len(content) > self._max_frame_bytes:
            raise TooLarge(
                Reason.IMAGE_TOO_LARGE,
                f"the frame has {len(content)} bytes; at most {self._max_frame_bytes} are allowed",
                field=self._field,
            )
        if not self._latest_s < time_s < float("inf"):
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"frame {self._came} is of {time_s:g} s; it must come after {self._latest_s:g} s",
                field=FieldPath(self._field.parts[:-1]) / "time_s",
            )
        frame = LiveFrame(self._came, time_s, content)
        self._came += 1
        self._latest_s = time_s
        if len(self._waiting) == self._capacity:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(frame)
        self._changed.set()
        return frame

    def close(self) -> None:
        """No more frames will come; those that wait can still be taken."""
        self._closed = True
        self._changed.set()

    async def get(self) -> tuple[LiveFrame, range] | None:
        """The next frame, and the indices dropped just before it; None after the last."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        frame = self._waiting.popleft()
        gone = range(self._next, frame.index)
        self._next = frame.index + 1
        return frame, gone


class LiveDecoder:
    """Live frames to pixels. All must be of the first one's size, or masks would not fit."""

    def __init__(
        self,
        limits: ImageLimits = images.DEFAULT_LIMITS,
        max_side: int = 0,
        *,
        field: FieldPath = LIVE_FRAME,
        decode: Callable[[bytes], images.Rgb] | None = None,
    ) -> None:
        """`decode` does it in place of `images.decode`."""
        self._decode = decode or (lambda data: images.decode(data, limits, field))
        self._max_side = max_side
        self._field = field
        self._size: tuple[int, ...] | None = None

    def decode(self, frame: LiveFrame) -> DecodedFrame:
        """The frame's pixels, uint8 (H, W, 3) RGB, no side over `max_side`.

        Raises:
            InvalidMedia: IMAGE_UNSUPPORTED, IMAGE_CORRUPT; IMAGE_BAD_SHAPE also for another size.
            TooLarge: IMAGE_TOO_LARGE.
        """
        pixels = self._decode(frame.content)
        if self._size is None:
            self._size = pixels.shape
        if pixels.shape != self._size:
            height, width = pixels.shape[:2]
            raise InvalidMedia(
                Reason.IMAGE_BAD_SHAPE,
                f"frame {frame.index} is {width}x{height}, the first one was "
                f"{self._size[1]}x{self._size[0]}",
                field=self._field,
            )
        size = geometry.fitted(pixels.shape[1], pixels.shape[0], self._max_side)
        if size != (pixels.shape[1], pixels.shape[0]):
            pixels = pyav.resized(pixels, *size)
        return DecodedFrame(frame.index, frame.time_s, pixels)
