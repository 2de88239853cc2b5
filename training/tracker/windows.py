"""Windows: some frames of a clip with the visible part of every object, drawn from a seed.

What the tracker learns from, before any of it is a tensor on the training device.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from services.segmenter.preprocessing import to_model_input
from training.world.backgrounds import PLAIN, WIDE
from training.world.clips import Clip, ClipWorld
from training.world.scenes import recompressed
from training.world.splits import TRAINING, VALIDATION

FULL = 255  # coverage of a cell that the object fills
_STRIDES = (1, 1, 1, 2, 2, 3)
_SMALL = 0.6  # share of windows drawn at the model's own size, which is quicker


@dataclass(frozen=True)
class Window:
    """Frames of a clip at the model's sizes.

    Attributes:
        pixels: uint8 ``[t, s, s, 3]``.
        coverage: of the mask's cells by the visible part of each object, 0 to `FULL`, uint8
            ``[m, t, g, g]``, m objects.
        visibility: share of each object that is seen, float32 ``[m, t]``.
    """

    pixels: NDArray[np.uint8]
    coverage: NDArray[np.uint8]
    visibility: NDArray[np.float32]


@dataclass(frozen=True)
class WindowSizes:
    """How large a window is.

    Attributes:
        frames: how many.
        image, masks: side of the square, in pixels, of the picture and of masks.
    """

    frames: int
    image: int = 240
    masks: int = 80


def training_window(seed: int, sizes: WindowSizes) -> Window:
    """Frames of a random clip, evenly spaced, some of them backwards."""
    rng = np.random.default_rng([seed, 31])
    stride = int(rng.choice(_STRIDES))
    world = ClipWorld(backgrounds=PLAIN if rng.random() < 0.5 else WIDE)
    side = (sizes.image, sizes.image) if rng.random() < _SMALL else None
    count = max(24, sizes.frames * stride + int(rng.integers(0, 30)))
    clip = world.clip(TRAINING.start + seed, size=side, frame_count=count)
    first = int(rng.integers(0, clip.frame_count - (sizes.frames - 1) * stride))
    indices = [first + stride * step for step in range(sizes.frames)]
    if rng.random() < 0.15:
        indices.reverse()
    quality = int(rng.integers(50, 96)) if rng.random() < 0.5 else None
    return _drawn(clip, indices, sizes, quality)


def held_out_window(seed: int, sizes: WindowSizes) -> Window:
    """The first frames of a validation clip."""
    clip = ClipWorld().clip(VALIDATION.start + seed, frame_count=sizes.frames)
    return _drawn(clip, list(range(sizes.frames)), sizes, 75)


def _drawn(clip: Clip, indices: list[int], sizes: WindowSizes, quality: int | None) -> Window:
    ids = [member.id for member in clip.objects]
    count = len(indices)
    pixels = np.empty((count, sizes.image, sizes.image, 3), np.uint8)
    coverage = np.zeros((len(ids), count, sizes.masks, sizes.masks), np.uint8)
    visibility = np.zeros((len(ids), count), np.float32)
    for at, frame in enumerate(clip.frames(indices)):
        image = frame.image if quality is None else recompressed(frame.image, quality)
        scaled = to_model_input(np.array(image), sizes.image)
        pixels[at] = scaled.permute(1, 2, 0).numpy()
        for row, number in enumerate(ids):
            visibility[row, at] = frame.visibility.get(number, 0.0)
            mask = frame.masks.get(number)
            if mask is not None:
                cells = functional.adaptive_avg_pool2d(
                    torch.from_numpy(mask.astype(np.float32))[None], sizes.masks
                )
                coverage[row, at] = (cells[0] * FULL).round().byte().numpy()
    return Window(pixels, coverage, visibility)


class NumberedWindows(Dataset[Window]):
    """Windows that `draw` makes of consecutive numbers, for worker processes."""

    def __init__(
        self, draw: Callable[[int, WindowSizes], Window], sizes: WindowSizes, numbers: range
    ) -> None:
        self._draw, self._sizes, self._numbers = draw, sizes, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Window:
        torch.set_num_threads(1)
        return self._draw(self._numbers[index], self._sizes)


def training_windows(sizes: WindowSizes, first: int, workers: int) -> Iterator[Window]:
    """Training windows from the number `first` on; with `workers` 0, drawn in between."""
    return _loaded(NumberedWindows(training_window, sizes, range(first, len(TRAINING))), workers)


def held_out_windows(sizes: WindowSizes, count: int, workers: int) -> Iterator[Window]:
    """The first `count` validation clips."""
    return _loaded(NumberedWindows(held_out_window, sizes, range(count)), workers)


def _loaded(windows: NumberedWindows, workers: int) -> Iterator[Window]:
    loader = DataLoader(
        windows,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        in_order=True,
    )
    yield from loader


def _as_it_is(window: Any) -> Any:
    # Arrays go through pipes: shared memory is scarce in some containers.
    return window
