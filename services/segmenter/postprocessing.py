"""From raw detections to exact masks, the same for every engine and without torchvision.

`pick` runs in the decoder's worker thread, where the tensors are: scores, threshold, suppression of
what is there twice and of what a negative exemplar shows. Only what it keeps leaves the device.
`draw` runs in the mask pool: upsampling to the image's size, box, area, run lengths, in bounded
memory.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limelight.masks import Mask, encode_rle
from limelight.values import Box
from services.codecs.images import IMAGE_CONTENT
from services.domain import Detection, QueryResult
from services.errors import Reason, TooLarge
from services.segmenter.engines import RawDetections

# Rows of a mask are drawn in bands of about this many bytes of float32: they stay in the L2 cache.
_BAND_BYTES = 1 << 20
# Bytes a pixel that a drawn mask takes: itself, and the comparison that finds its run lengths.
_MASK_BYTES = 2

Measure = Literal["iou", "iom"]

# An instance is what a box shows where the boxes of both have at least this IoU, with which COCO
# counts a thing as found (Lin et al., "Microsoft COCO", 2014).
SHOWN_IOU = 0.5
# Or, for boxes drawn loosely, where at least this share of its pixels lies in the box, and its own
# box fills at least this share of it: a small thing before a large one is not what is shown.
SHOWN_COVER = 0.9
SHOWN_FILL = 0.25


NO_BOXES: NDArray[np.float32] = np.empty((0, 4), np.float32)
NO_LABELS: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Suppression:
    """Which of two overlapping masks of one query goes, see `SegmenterSettings.nms_threshold`."""

    threshold: float
    measure: Measure


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """What is left of one pair's raw detections, best first.

    `scores` float32 (k,), presence counted in; `masks` float32 (k, h, w), logits.
    """

    presence: float
    scores: NDArray[np.float32]
    masks: NDArray[np.float32]


def pick(
    raw: RawDetections,
    score_threshold: float,
    limit: int,
    mask_threshold: float,
    suppression: Suppression,
    boxes: NDArray[np.float32] = NO_BOXES,
    labels: NDArray[np.int64] = NO_LABELS,
) -> Candidates:
    """The at most `limit` best of `raw` with a score of `score_threshold` or more.

    score = sigmoid(logit) * sigmoid(presence), as SAM 3 defines it. `boxes` and `labels` are the
    query's exemplars, as in `Pair`: an instance that a negative one shows is left out, whatever the
    model made of the box.
    """
    presence = _tensor(raw.presence).sigmoid()
    scores = _tensor(raw.logits).sigmoid() * presence
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= score_threshold]
    masks = torch.as_tensor(raw.masks)[order].float()
    unwanted = _negated(masks > mask_threshold, raw.boxes, order, boxes, labels)
    kept = _suppress(masks > mask_threshold, limit, suppression, unwanted)
    return Candidates(
        presence=float(presence),
        scores=scores[order][kept].cpu().numpy(),
        masks=masks[kept].cpu().numpy(),
    )


def all_finite(raw: RawDetections) -> bool:
    """Whether every number of a model's answer is finite."""
    parts = (raw.logits, raw.presence, raw.boxes, raw.masks)
    return all(bool(_tensor(part).isfinite().all()) for part in parts)


def _tensor(values: object) -> Tensor:
    return torch.as_tensor(values).float()


def _negated(
    masks: Tensor,
    predicted: object,
    order: Tensor,
    boxes: NDArray[np.float32],
    labels: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which of `masks`, bool (k, h, w), are what a negative exemplar shows, and no positive better.

    `predicted` are the model's boxes as in `RawDetections`, of which `order` (k,) are the masks'.
    """
    if not len(masks) or labels.all():
        return np.zeros(len(masks), np.bool_)
    shown = _tensor(boxes).to(masks.device)
    shown = torch.cat((shown[:, :2] - shown[:, 2:] / 2, shown[:, :2] + shown[:, 2:] / 2), 1)
    tight = _extents(masks)
    # What the model says of the box is finer than its masks, and these are what is answered.
    iou = torch.maximum(_iou(tight, shown), _iou(_tensor(predicted)[order], shown))
    height, width = masks.shape[1:]
    down = _shares(shown[:, 1], shown[:, 3], height)
    across = _shares(shown[:, 0], shown[:, 2], width)
    pixels = masks.float()
    cover = torch.einsum("khw,nh,nw->kn", pixels, down, across) / pixels.sum((1, 2))[:, None]
    fill = _areas(tight)[:, None] / _areas(shown)[None].clamp(min=1e-9)
    is_shown = (iou >= SHOWN_IOU) | ((cover >= SHOWN_COVER) & (fill >= SHOWN_FILL))
    negative = torch.from_numpy(labels == 0).to(masks.device)
    negated = (is_shown & negative).any(1)
    if not negative.all():
        best_wanted = iou[:, ~negative].amax(1)
        better = (best_wanted >= SHOWN_IOU) & (best_wanted > iou[:, negative].amax(1))
        negated &= ~better
    result: NDArray[np.bool_] = negated.cpu().numpy()
    return result


def _extents(masks: Tensor) -> Tensor:
    """The tight boxes of `masks`, bool (k, h, w): (k, 4) x0 y0 x1 y1 as shares; zeros if empty."""
    sides = []
    for axis in (1, 2):
        used = masks.any(axis)
        cells = used.shape[1]
        at = torch.arange(cells, device=masks.device)
        sides.append(
            (
                torch.where(used, at, cells).amin(1) / cells,
                (torch.where(used, at, -1).amax(1) + 1) / cells,
            )
        )
    (left, right), (top, bottom) = sides
    found = torch.stack((left, top, right, bottom), 1)
    return torch.where((right > left)[:, None], found, 0.0)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]).clamp(min=0) * (boxes[:, 3] - boxes[:, 1]).clamp(min=0)


def _iou(a: Tensor, b: Tensor) -> Tensor:
    """(k, n) of boxes (k, 4) and (n, 4)."""
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(2)
    return shared / (_areas(a)[:, None] + _areas(b)[None] - shared).clamp(min=1e-9)


def _shares(low: Tensor, high: Tensor, cells: int) -> Tensor:
    """(n, cells): the share of each of `cells` along one side that lies in each span."""
    at = torch.arange(cells, device=low.device)
    start = torch.maximum(at[None], low[:, None] * cells)
    return (torch.minimum(at[None] + 1, high[:, None] * cells) - start).clamp(min=0)


def _suppress(
    masks: Tensor, limit: int, suppression: Suppression, unwanted: NDArray[np.bool_]
) -> Tensor:
    """Indices of the `masks`, bool (k, h, w), best first, that non-maximum suppression keeps.

    A mask goes when it overlaps a better kept one by more than the threshold; an empty one goes.
    One that is `unwanted`, bool (k,), goes too, and with it what it overlaps: a worse mask of the
    same thing must not take its place.
    """
    flat = masks.flatten(1).float()
    areas = flat.sum(1)
    if suppression.threshold < 1:
        shared = flat @ flat.T
        smaller = torch.minimum(areas[:, None], areas[None])
        union = areas[:, None] + areas[None] - shared
        overlap = shared / (smaller if suppression.measure == "iom" else union).clamp(min=1)
        clashes = (overlap > suppression.threshold).cpu().numpy()
    else:
        clashes = np.zeros((len(flat), len(flat)), np.bool_)
    standing: list[int] = []
    kept: list[int] = []
    for index, area in enumerate(areas.tolist()):
        if len(kept) == limit:
            break
        if area and not clashes[index, standing].any():
            standing.append(index)
            if not unwanted[index]:
                kept.append(index)
    return torch.tensor(kept, dtype=torch.long, device=masks.device)


def check_room(height: int, width: int, memory: int) -> None:
    """Refuse an image of which not one mask could be drawn within `memory` bytes.

    Raises:
        TooLarge: MASKS_TOO_LARGE.
    """
    needed = _MASK_BYTES * height * width
    if needed > memory:
        raise TooLarge(
            Reason.MASKS_TOO_LARGE,
            f"a mask of {width} x {height} pixels takes {needed} bytes; {memory} are allowed",
            field=IMAGE_CONTENT,
        )


def draw(
    candidates: Candidates, height: int, width: int, mask_threshold: float, memory: int
) -> QueryResult:
    """The detections of one query in an image of `height` x `width` pixels.

    Masks are drawn one at a time, in bands of rows, within `memory` bytes; instances without a
    pixel are left out.
    """
    check_room(height, width, memory)
    canvas = np.zeros((height, width), np.bool_)
    band = min(_BAND_BYTES, max(0, memory - _MASK_BYTES * height * width))
    detections = []
    for score, logits in zip(candidates.scores, candidates.masks, strict=True):
        window = upsample_onto(canvas, logits, mask_threshold, band)
        rows, columns = _extent(canvas[window])
        if len(rows):
            top, left = window[0].start, window[1].start
            detections.append(
                Detection(
                    score=float(score),
                    box=Box(
                        float(left + columns[0]),
                        float(top + rows[0]),
                        float(left + columns[-1] + 1),
                        float(top + rows[-1] + 1),
                    ),
                    mask=encode_rle(canvas),
                    area=int(np.count_nonzero(canvas[window])),
                )
            )
        canvas[window] = False
    return QueryResult(candidates.presence, tuple(detections))


def upsample_onto(
    canvas: Mask, logits: NDArray[np.float32], threshold: float, band_bytes: int
) -> tuple[slice, slice]:
    """Draw where `logits`, (h, w), stretched onto `canvas`, (H, W), are above `threshold`.

    Bilinear with half-pixel centers, as `torch.nn.functional.interpolate(mode="bilinear")`. Only
    the rows and columns that a logit above the threshold can reach are computed, and returned;
    nothing outside of them is touched. `band_bytes` bounds the float32 rows held at a time, beyond
    two of the canvas's own and the logits stretched sideways.
    """
    rows, columns = _extent(logits > threshold)
    if not len(rows):
        return slice(0, 0), slice(0, 0)
    height, width = canvas.shape
    upper, lower, down = _taps(height, logits.shape[0])
    left, right, across = _taps(width, logits.shape[1])
    window = (
        _reached(upper, lower, rows[0], rows[-1]),
        _reached(left, right, columns[0], columns[-1]),
    )
    if any(span.start >= span.stop for span in window):
        # The canvas is coarser than the logits and samples none of them.
        return slice(0, 0), slice(0, 0)
    left, right, across = left[window[1]], right[window[1]], across[window[1]]
    used = slice(int(upper[window[0].start]), int(lower[window[0].stop - 1]) + 1)
    source = logits[used]
    stretched = source[:, left] * (1 - across) + source[:, right] * across
    step = max(1, band_bytes // (3 * stretched.itemsize * len(across)))
    for start in range(window[0].start, window[0].stop, step):
        band = slice(start, min(start + step, window[0].stop))
        above, below = upper[band] - used.start, lower[band] - used.start
        weight = down[band, None]
        drawn = stretched[above] * (1 - weight)
        drawn += stretched[below] * weight
        np.greater(drawn, np.float32(threshold), out=canvas[band, window[1]])
    return window


def _extent(mask: Mask) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The rows and the columns of `mask` that hold a pixel."""
    return np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))


def _taps(size: int, source: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """For each of `size` outputs: the two inputs it lies between, and the weight of the second."""
    scale = np.float32(source) / np.float32(size)
    at = np.maximum(
        scale * (np.arange(size, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5), 0
    )
    first = np.minimum(at.astype(np.intp), source - 1)
    return first, np.minimum(first + 1, source - 1), (at - first).astype(np.float32)


def _reached(first: NDArray[np.intp], second: NDArray[np.intp], low: int, high: int) -> slice:
    """The outputs with a tap within `low` to `high`; taps never decrease, so they are adjacent."""
    return slice(
        int(np.searchsorted(second, low, side="left")),
        int(np.searchsorted(first, high, side="right")),
    )
