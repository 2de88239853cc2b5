"""Connected areas of masks, for hole filling and the removal of specks; numpy alone.

transformers skips both, with a warning, where its `kernels` package is missing. Areas are joined
over all eight neighbors, as in Meta's `cc_torch` and in scikit-image's default.
"""

import numpy as np
from numpy.typing import NDArray

from services.segmenter.video.engine import Logits

# What a filled hole and a removed speck become, as in SAM 3's own post-processing.
_FILLED = np.float32(0.1)
_REMOVED = np.float32(-0.1)


def fill_and_clean(logits: Logits, max_area: int) -> Logits:
    """`logits`, (n, h, w), with holes filled and specks removed that have up to `max_area` pixels.

    A speck also goes only if it is at most half of its mask, so that a tiny object stays.
    """
    if max_area <= 0 or not logits.size:
        return logits
    hollow = logits <= 0
    filled = np.where(hollow & (component_areas(hollow) <= max_area), _FILLED, logits)
    solid = filled > 0
    most = np.minimum(solid.sum((1, 2)) // 2, max_area)
    specks = solid & (component_areas(solid) <= most[:, None, None])
    return np.where(specks, _REMOVED, filled).astype(np.float32)


def component_areas(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each pixel of `masks`, bool (n, h, w), the size of its area; 0 for background.

    Runs of each row are joined with those they touch in the row above, all masks at once: every
    run takes the least label around it until none changes, with labels halving their path.
    """
    n, height, width = masks.shape
    # A blank row between masks keeps them apart.
    rows = np.zeros((n, height + 1, width + 2), np.int8)
    rows[:, :height, 1:-1] = masks
    edges = np.diff(rows.reshape(n * (height + 1), width + 2), axis=1)
    at, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    labels = _joined(at, starts, ends, n * (height + 1), width)
    sizes = np.bincount(labels, weights=ends - starts, minlength=len(labels)).astype(np.int64)
    areas = np.zeros((n, height + 1, width), np.int64)
    lengths = ends - starts
    first = at * width + starts
    flat = np.repeat(first - np.concatenate(([0], np.cumsum(lengths)[:-1])), lengths)
    areas.reshape(-1)[flat + np.arange(lengths.sum())] = np.repeat(sizes[labels], lengths)
    return areas[:, :height]


def _joined(
    at: NDArray[np.intp],
    starts: NDArray[np.intp],
    ends: NDArray[np.intp],
    rows: int,
    width: int,
) -> NDArray[np.intp]:
    """A label a run, the same for runs that are connected."""
    labels = np.arange(len(at))
    if not len(at):
        return labels
    # Runs are sorted by row and column; positions on one line make searchsorted look in one row.
    line = width + 2
    begin, end = at * line + starts, at * line + ends
    # Runs of the row above that end at or after our start, and start at or before our end: corners
    # that touch count.
    low = np.searchsorted(end, begin - line, side="left")
    high = np.searchsorted(begin, end - line, side="right")
    low = np.maximum(low, np.searchsorted(at, at - 1, side="left"))
    high = np.minimum(high, np.searchsorted(at, at, side="left"))
    counts = np.maximum(high - low, 0)
    below = np.repeat(np.arange(len(at)), counts)
    above = np.repeat(low - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    above = above + np.arange(counts.sum())
    while True:
        least = np.minimum(labels[below], labels[above])
        before = labels.copy()
        np.minimum.at(labels, labels[below], least)
        np.minimum.at(labels, labels[above], least)
        labels = labels[labels]
        if np.array_equal(before, labels):
            return labels
