"""Chooses what a step follows: windows, their objects, the frames, and how they are prompted."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

_LEAST_SEEN = 0.35  # visibility at which an object can be prompted
_OBJECTS = 3  # of a window at most
_HARD = 0.5  # share of windows that are drawn because something in them gets covered
_HIDDEN = 0.3  # visibility below which an object counts as covered


class FirstPrompt(StrEnum):
    """How objects are shown on their first frame; one kind a step."""

    MASK = "mask"
    BOX = "box"
    POINT = "point"


class Correction(StrEnum):
    """What happens once on the way; one kind a step.

    `CONFIRMED` makes the tracker's own memory of a frame a conditioning one, as the video model
    does where the detector agrees; `MASK` shows the mask again.
    """

    NONE = "none"
    CONFIRMED = "confirmed"
    MASK = "mask"


@dataclass(frozen=True)
class TrackingChoice:
    """What a step follows.

    Attributes:
        windows, starts: of each slot, ``[s]``; numbers of windows and their first frames.
        slot, row: of each followed object, ``[n]``: index into the slots, and which of the
            window's objects.
        length: frames.
        prompt: kind of the first prompt.
        correction: what happens at the frame `corrected`, counted from the start.
        corrected: 0 without a correction.
        kept: whether memories of each frame before the current are looked at, by distance.
    """

    windows: NDArray[np.int64]
    starts: NDArray[np.int64]
    slot: NDArray[np.int64]
    row: NDArray[np.int64]
    length: int
    prompt: FirstPrompt
    correction: Correction
    corrected: int
    kept: tuple[bool, ...]


def choose(
    rng: np.random.Generator,
    available: Sequence[int],
    visibility: NDArray[np.float32],
    count: int,
    length: int,
    memories: int,
) -> TrackingChoice:
    """Draw one step's choice.

    Args:
        rng: source of all choices.
        available: numbers of the windows that may be drawn.
        visibility: ``[capacity, m, t]``, of window `n` at row ``n % capacity``.
        count: objects to follow.
        length: frames to follow them.
        memories: recent frames that the tracker looks at.
    """
    frames = visibility.shape[-1]
    windows: list[int] = []
    starts: list[int] = []
    slots: list[int] = []
    rows: list[int] = []
    total = 0
    for _ in range(50 * count):
        number = int(rng.integers(len(available)))
        start = int(rng.integers(0, frames - length + 1))
        seen = visibility[available[number] % len(visibility), :, start : start + length]
        shown = seen[:, 0] >= _LEAST_SEEN
        hard = shown & (seen.min(-1) < _HIDDEN)
        if not shown.any() or (rng.random() < _HARD and not hard.any()):
            continue
        # Those that get covered first.
        drawn = rng.permutation(np.flatnonzero(shown)).tolist()
        order = sorted(drawn, key=lambda row: not hard[row])[: min(_OBJECTS, count - total)]
        windows.append(available[number])
        starts.append(start)
        slots.extend([len(windows) - 1] * len(order))
        rows.extend(order)
        total += len(order)
        if total == count:
            break
    prompt = rng.choice(list(FirstPrompt), p=[0.7, 0.2, 0.1])
    corrections = list(Correction) if length > 3 else [Correction.NONE]
    correction = rng.choice(corrections, p=[0.5, 0.3, 0.2] if length > 3 else [1.0])
    corrected = int(rng.integers(2, length - 1)) if correction != Correction.NONE else 0
    lossy = rng.random() < 0.3
    kept = tuple(bool(not lossy or rng.random() < 0.6) for _ in range(memories))
    return TrackingChoice(
        np.array(windows),
        np.array(starts),
        np.array(slots),
        np.array(rows),
        length,
        FirstPrompt(prompt),
        Correction(correction),
        corrected,
        kept,
    )
