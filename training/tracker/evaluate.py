"""Figures of a tracker on held-out clips: prompted once by the true mask, then on its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.tracker.losses import LEAST_CELLS
from training.tracker.pool import WindowPool
from training.tracker.tracking import BatchedTracker, Memory
from training.tracker.windows import FULL, WindowSizes, held_out_windows

FRAMES = 32
_LEAST_SEEN = 0.4
_OBJECTS = 128  # followed at once


@dataclass(frozen=True)
class TrackerFigures:
    """The held-out clips, as the backbone sees them, and the objects to follow.

    Attributes:
        pool: the clips.
        objects: of each, the clip and which of its objects, ``[n, 2]``, both visible at the start.
    """

    pool: WindowPool
    objects: NDArray[np.int64]

    @classmethod
    def prepared(
        cls,
        encode: Callable[[Tensor], Tensor],
        sizes: WindowSizes,
        clips: int,
        device: torch.device,
        workers: int,
    ) -> "TrackerFigures":
        """Draw the clips.

        Args:
            encode: pixels to the backbone's tokens.
            sizes: of pictures and masks.
            clips: how many.
            device: where to keep them.
            workers: processes to draw them.
        """
        sizes = WindowSizes(FRAMES, sizes.image, sizes.masks)
        pool = WindowPool(encode, sizes, clips, device, workers)
        for window in held_out_windows(sizes, clips, workers):
            pool.add([window])
        shown = pool.visibility[:, :, 0] >= _LEAST_SEEN
        return cls(pool, np.argwhere(shown))


@torch.no_grad()
def evaluate(tracker: BatchedTracker, held_out: TrackerFigures) -> Mapping[str, float]:
    """Follow every object that is seen in the first frame of its clip.

    Returns:
        `iou`: mean IoU of the frames in which the object is seen (DAVIS's J).
        `iou_last`: the same in the last quarter.
        `iou_again`: the same after the object was out of sight.
        `iou_crossed`: the same where it is half covered.
        `seen`, `hidden`: share of frames with and without it in which its score says so.
    """
    pool = held_out.pool
    ious, truths, scores = [], [], []
    for first in range(0, len(held_out.objects), _OBJECTS):
        chosen = held_out.objects[first : first + _OBJECTS]
        iou, truth, score = _followed(tracker, pool, chosen)
        ious.append(iou)
        truths.append(truth)
        scores.append(score)
    iou, truth, score = (np.concatenate(x, 1) for x in (ious, truths, scores))
    visibility = pool.visibility[held_out.objects[:, 0], held_out.objects[:, 1]].T
    seen, hidden = truth >= LEAST_CELLS, truth == 0
    later = np.arange(len(seen))[:, None] > 0
    again = seen & (np.cumsum(hidden, 0) > 0)
    late = seen & (np.arange(len(seen))[:, None] >= 0.75 * len(seen))
    crossed = seen & later & (visibility < 0.5)
    figures = {
        "iou": iou[seen & later],
        "iou_last": iou[late],
        "iou_again": iou[again],
        "again_found": iou[again] >= 0.5,
        "iou_crossed": iou[crossed],
        "seen": score[seen & later] > 0,
        "hidden": score[hidden] <= 0,
    }
    return {name: float(np.mean(values)) for name, values in figures.items() if len(values)}


def _followed(
    tracker: BatchedTracker, pool: WindowPool, chosen: NDArray[np.int64]
) -> tuple[NDArray[np.float32], ...]:
    """IoU, true cells and score of the chosen objects in every frame, ``[t, n]`` each."""
    device = pool.device
    clips, slot = np.unique(chosen[:, 0], return_inverse=True)
    clip = torch.from_numpy(clips).to(device)
    slots = torch.from_numpy(slot).to(device)
    row = torch.from_numpy(chosen).to(device)
    memory, found = Memory(), []
    for frame in range(pool.sizes.frames):
        truth = pool.coverage[row[:, 0], row[:, 1], frame].float() / FULL
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            at = tracker.features(pool.tokens[clip, frame].float()).of(slots)
            if frame == 0:
                shown = (truth >= 0.5).float()[:, None]
                track, mask = tracker.shown_mask(at, shown)
                seen = torch.ones(len(truth), dtype=torch.bool, device=device)
                memory.conditioning.add(0)
            else:
                track = tracker.propagated(at, memory, frame)
                mask = track.mask[:, None]
                seen = (mask > 0).flatten(1).any(1)
            memory.features[frame] = tracker.remember(at, mask, seen, given=frame == 0)
            memory.pointers[frame] = track.pointer
        memory.forget(frame - tracker.most_pointers)
        inside, wanted = track.mask > 0, truth >= 0.5
        both = (inside & wanted).sum((1, 2)) / (inside | wanted).sum((1, 2)).clamp(min=1)
        found.append(torch.stack([both, truth.sum((1, 2)), track.scores]))
    iou, cells, score = torch.stack(found, 1).float().cpu().numpy()
    return iou, cells, score
