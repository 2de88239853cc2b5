"""The windows that steps draw from, as the frozen backbone sees them, on the training device.

The backbone never changes, so its features are computed once a window. Which windows a step may
draw from follows from its number alone: `WindowPool.advance` waits until they are there.
"""

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from services.segmenter.preprocessing import normalized
from training.tracker.windows import Window, WindowSizes, training_windows

MAX_OBJECTS = 6  # of a clip of sticker world
_CHUNK = 128  # frames in one pass through the backbone


class WindowPool:
    """The latest windows, a ring.

    Args:
        encode: pixels, float ``[n, 3, s, s]``, to the backbone's tokens, ``[n, g * g, c]``.
        sizes: of windows.
        capacity: windows that it holds.
        device: where it holds them.
        workers: processes that draw them.

    Attributes:
        tokens: ``[capacity, t, g * g, c]``, half precision on a GPU.
        coverage: uint8 ``[capacity, MAX_OBJECTS, t, m, m]``.
        visibility: float ``[capacity, MAX_OBJECTS, t]``, on the CPU; 0 where there is no object.
        waited: seconds spent waiting for windows.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        sizes: WindowSizes,
        capacity: int,
        device: torch.device,
        workers: int,
    ) -> None:
        self.sizes, self.capacity, self.device = sizes, capacity, device
        self.filled = 0
        self.waited = 0.0
        self.tokens = torch.empty(0)
        shape = (capacity, MAX_OBJECTS, sizes.frames)
        self.coverage = torch.zeros(
            *shape, sizes.masks, sizes.masks, dtype=torch.uint8, device=device
        )
        self.visibility = np.zeros(shape, np.float32)
        self._encode, self._workers = encode, workers
        self._source: Iterator[Window] | None = None

    def advance(self, count: int) -> range:
        """Wait until the first `count` windows have been drawn; the numbers of those still held."""
        if self._source is None:
            # A resumed run does not need what has left the ring.
            self.filled = max(self.filled, count - self.capacity)
            self._source = training_windows(self.sizes, self.filled, self._workers)
        while self.filled < count:
            began = time.monotonic()
            some = [
                next(self._source)
                for _ in range(min(count - self.filled, max(1, _CHUNK // self.sizes.frames)))
            ]
            self.waited += time.monotonic() - began
            self.add(some)
        return range(max(0, count - self.capacity), count)

    def add(self, windows: list[Window]) -> None:
        """Put windows into the ring."""
        pixels = np.concatenate([window.pixels for window in windows])
        images = torch.from_numpy(pixels).to(self.device, non_blocking=True)
        tokens = self._encode(normalized(images.permute(0, 3, 1, 2)))
        if not self.tokens.numel():
            kind = torch.float16 if self.device.type == "cuda" else torch.float32
            shape = (self.capacity, self.sizes.frames, *tokens.shape[1:])
            self.tokens = torch.zeros(shape, dtype=kind, device=self.device)
        for number, window in enumerate(windows):
            row = (self.filled + number) % self.capacity
            frames = tokens[number * self.sizes.frames :][: self.sizes.frames]
            self.tokens[row] = frames.to(self.tokens.dtype)
            count = len(window.coverage)
            self.coverage[row, :count] = torch.from_numpy(window.coverage).to(self.device)
            self.coverage[row, count:] = 0
            self.visibility[row] = 0
            self.visibility[row, :count] = window.visibility
        self.filled += len(windows)
