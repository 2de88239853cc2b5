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
_ADJACENT = 0.75  # share of steps that follow every frame; the others make objects jump
_FARTHEST = 4  # frames of a jump
_RETURNS = 0.75  # share of draws of longer sequences that look for an object that comes back
_GONE = 0.05  # visibility of an object that is not seen
_PROMPTS = (0.8, 0.15, 0.05)  # shares of `FirstPrompt`
_DETECTED = 0.7  # share of steps in which detections keep coming
# Shares of `Remembered` in those, and in the others.
_DETECTED_FRAMES = (0.2, 0.0, 0.75, 0.05)
_OWN_FRAMES = (0.75, 0.15, 0.0, 0.1)


class FirstPrompt(StrEnum):
    """How objects are shown on their first frame; one kind a step."""

    MASK = "mask"
    BOX = "box"
    POINT = "point"


class Remembered(StrEnum):
    """What is remembered of a frame.

    `OWN` is the tracker's own mask, `CONFIRMED` the same as a conditioning frame, as the video
    model does where a detection agrees and `recondition_on_trk_masks` is set. `DETECTED` is a
    detection's mask as a conditioning frame, as without it; `SHOWN` a mask that is given.
    """

    OWN = "own"
    CONFIRMED = "confirmed"
    DETECTED = "detected"
    SHOWN = "shown"


@dataclass(frozen=True)
class TrackingChoice:
    """What a step follows.

    Attributes:
        windows: of each slot, their numbers, ``[s]``.
        frames: of each slot, ``[length, s]``, in order.
        slot, row: of each followed object, ``[n]``: index into the slots, and which of the
            window's objects.
        length: frames.
        prompt: kind of the first prompt.
        remembered: of each frame.
        kept: whether memories of each frame before the current are looked at, by distance.
    """

    windows: NDArray[np.int64]
    frames: NDArray[np.int64]
    slot: NDArray[np.int64]
    row: NDArray[np.int64]
    length: int
    prompt: FirstPrompt
    remembered: tuple[Remembered, ...]
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
    span = visibility.shape[-1]
    windows: list[int] = []
    frames: list[NDArray[np.int64]] = []
    slots: list[int] = []
    rows: list[int] = []
    total = 0
    farthest = min((span - 1) // (length - 1), _FARTHEST)
    step = 1 if rng.random() < _ADJACENT else int(rng.integers(1, farthest + 1))
    for attempt in range(50 * count):
        number = available[int(rng.integers(len(available)))]
        seen = visibility[number % len(visibility)]
        # Few windows hold one, so it is looked for, but not for ever.
        if length > 2 and attempt < 25 * count and rng.random() < _RETURNS:
            back = _return(rng, seen, length)
            if back is None:
                continue
            at = back
        else:
            start = int(rng.integers(0, span - (length - 1) * step))
            at = start + step * np.arange(length)
        seen = seen[:, at]
        shown = seen[:, 0] >= _LEAST_SEEN
        hard = shown & (seen.min(-1) < _HIDDEN)
        if not shown.any() or (rng.random() < _HARD and not hard.any()):
            continue
        # Those that get covered first.
        drawn = rng.permutation(np.flatnonzero(shown)).tolist()
        order = sorted(drawn, key=lambda row: not hard[row])[: min(_OBJECTS, count - total)]
        windows.append(number)
        frames.append(at)
        slots.extend([len(windows) - 1] * len(order))
        rows.extend(order)
        total += len(order)
        if total == count:
            break
    prompt = FirstPrompt(rng.choice(list(FirstPrompt), p=_PROMPTS))
    detected = rng.random() < _DETECTED
    shares = _DETECTED_FRAMES if detected else _OWN_FRAMES
    remembered = [Remembered(rng.choice(list(Remembered), p=shares)) for _ in range(length)]
    if prompt is not FirstPrompt.MASK:
        remembered[0] = Remembered.OWN
    elif not detected or remembered[0] is not Remembered.DETECTED:
        remembered[0] = Remembered.SHOWN
    lossy = rng.random() < 0.3
    kept = tuple(bool(not lossy or rng.random() < 0.6) for _ in range(memories))
    return TrackingChoice(
        np.array(windows),
        np.stack(frames, 1),
        np.array(slots),
        np.array(rows),
        length,
        prompt,
        tuple(remembered),
        kept,
    )


def _return(
    rng: np.random.Generator, visibility: NDArray[np.float32], length: int
) -> NDArray[np.int64] | None:
    """Frames in which some object is seen first and last and not in between, ``[length]``.

    None where no object of the window ``[m, t]`` comes back.
    """
    for row in rng.permutation(len(visibility)):
        seen = visibility[row] >= _LEAST_SEEN
        gone = visibility[row] < _GONE
        for away in rng.permutation(np.flatnonzero(gone)):
            before, after = np.flatnonzero(seen[:away]), np.flatnonzero(seen[away:]) + away
            if not len(before) or not len(after):
                continue
            # As it was when last seen, and as it is when seen again.
            first, last = int(before[-1]), int(after[0])
            if last - first + 1 < length:
                first = max(0, last - length + 1)
            if last - first + 1 < length:
                continue
            inner = rng.choice(np.arange(first + 1, last), length - 2, replace=False)
            return np.array([first, *sorted(inner.tolist()), last])
    return None
