"""Binary masks between arrays, COCO run lengths and polygons.

The segmenter encodes its masks here once, and they travel as `RLE` from then on: the gateway
measures, compares and orders instances on run lengths alone, and decodes one only to draw it or to
answer in another format.

A mask array is bool of shape (height, width). An RLE counts pixels down the columns, left to right,
runs of background and foreground in turn, background first. Its bytes are those of pycocotools
(`maskApi.c`, `rleToString`): from the fourth count on the difference to the count two places
before, in 5-bit groups, least significant first, bit 5 set where more follow, plus 48.

Coordinates follow `limelight.values`: pixel (column x, row y) is the unit square between the
corners (x, y) and (x + 1, y + 1), so its center is at (x + 0.5, y + 0.5).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limelight.faults import InvalidRequest, Reason
from limelight.paths import FieldPath
from limelight.values import RLE, Box

Mask = NDArray[np.bool_]
Runs = NDArray[np.int64]
Polygon = list[tuple[float, float]]

# Where a mask stands if its caller does not say.
MASK = FieldPath(("mask",))
# Larger images are refused everywhere, and 32-bit counts hold this many pixels.
MAX_PIXELS = 1 << 30
# Seven 5-bit groups hold any difference of 32-bit counts.
_MAX_GROUPS = 7


def encode_rle(mask: NDArray[np.generic]) -> RLE:
    """The run lengths of `mask`, (H, W), bool or anything whose truth is its foreground."""
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"a mask is (height, width), not of shape {mask.shape}")
    mask = np.ascontiguousarray(mask, dtype=np.bool_)
    height, width = mask.shape
    # Where a pixel differs from the one before it in column order. The changes are few and found in
    # memory order; sorting them is much cheaper than transposing the mask.
    row, column = np.divmod(np.flatnonzero(mask[1:] != mask[:-1]), width)
    tops = np.flatnonzero(mask[0, 1:] != mask[-1, :-1]) + 1
    changes = np.concatenate((column * height + row + 1, tops * height))
    changes.sort()
    bounds = np.empty(changes.size + 2, np.int64)
    bounds[0], bounds[1:-1], bounds[-1] = 0, changes, mask.size
    counts = np.diff(bounds)
    if mask[0, 0]:
        counts = np.concatenate((np.zeros(1, np.int64), counts))
    return RLE((height, width), _to_string(counts))


def decode_rle(rle: RLE, *, field: FieldPath = MASK) -> Mask:
    """The mask of `rle`: bool (H, W), C-contiguous.

    Raises `InvalidRequest` at `field` where sizes or counts are not those of a mask.
    """
    height, width = _size(rle, field)
    starts, ends = _intervals(rle, field)
    bounds = _bounds(height * width, starts, ends)
    foreground = np.zeros(bounds.size - 1, np.bool_)
    foreground[1::2] = True
    flat = np.repeat(foreground, np.diff(bounds))
    return np.ascontiguousarray(flat.reshape(width, height).T)


def from_counts(size: tuple[int, int], counts: Sequence[int], *, field: FieldPath = MASK) -> RLE:
    """The RLE of COCO's uncompressed form, a plain list of run lengths."""
    runs = np.asarray(counts, np.int64)
    rle = RLE(size, _to_string(runs) if runs.size else b"")
    _intervals(rle, field)
    return rle


def validate_rle(rle: RLE, *, field: FieldPath = MASK) -> None:
    """Raises `InvalidRequest` at `field` unless `rle` is the run lengths of a mask of its size."""
    _intervals(rle, field)


def rle_area(rle: RLE) -> int:
    """How many pixels are foreground."""
    starts, ends = _intervals(rle)
    return int((ends - starts).sum())


def rle_bbox(rle: RLE) -> Box:
    """The tight half-open box of the foreground; `Box(0, 0, 0, 0)` where there is none."""
    starts, ends = _intervals(rle)
    if starts.size == 0:
        return Box(0.0, 0.0, 0.0, 0.0)
    height = rle.size[0]
    first, last = starts // height, (ends - 1) // height
    x0, x1 = int(first[0]), int(last[-1]) + 1
    if (first != last).any():  # a run that goes on into the next column has both edges of the image
        return Box(float(x0), 0.0, float(x1), float(height))
    y0, y1 = int((starts - first * height).min()), int((ends - last * height).max())
    return Box(float(x0), float(y0), float(x1), float(y1))


def centroid(rle: RLE) -> tuple[float, float] | None:
    """The mean (x, y) of the foreground's pixel centers; None where there is none."""
    starts, ends = _intervals(rle)
    area = int((ends - starts).sum())
    if area == 0:
        return None
    height = rle.size[0]

    def sums(stop: Runs) -> tuple[int, int]:
        """The sums of x and of y over the pixels before each of `stop`, in column order."""
        columns, rows = np.divmod(stop, height)
        xs = height * (columns * (columns - 1) // 2) + columns * rows
        ys = columns * (height * (height - 1) // 2) + rows * (rows - 1) // 2
        return sum(xs.tolist()), sum(ys.tolist())

    (x_end, y_end), (x_start, y_start) = sums(ends), sums(starts)
    return (x_end - x_start) / area + 0.5, (y_end - y_start) / area + 0.5


def intersection_area(a: RLE, b: RLE) -> int:
    """How many pixels are foreground in both; the masks must be of one size."""
    return int(intersection_areas([a], [b])[0, 0])


def intersection_areas(a: Sequence[RLE], b: Sequence[RLE]) -> NDArray[np.int64]:
    """The pixels shared by each of `a` and each of `b`: int64 (len(a), len(b)), nothing decoded.

    Each RLE is parsed once, so a whole set is compared with itself in one call.
    """
    if len({rle.size for rle in (*a, *b)}) > 1:
        raise ValueError("masks of different sizes have no intersection")
    areas = np.zeros((len(a), len(b)), np.int64)
    left = [_intervals(rle) for rle in a]
    for j, other in enumerate(b):
        starts, ends = _intervals(other)
        if starts.size == 0:
            continue
        covered = np.concatenate((np.zeros(1, np.int64), np.cumsum(ends - starts)))
        for i, (first, last) in enumerate(left):
            if first.size == 0 or first[0] >= ends[-1] or last[-1] <= starts[0]:
                continue
            areas[i, j] = (
                _covered_before(last, starts, ends, covered)
                - _covered_before(first, starts, ends, covered)
            ).sum()
    return areas


def rle_iou(a: RLE, b: RLE) -> float:
    """Intersection over union; 0 where both are empty."""
    shared = intersection_area(a, b)
    union = rle_area(a) + rle_area(b) - shared
    return shared / union if union else 0.0


def union(rles: Sequence[RLE]) -> RLE:
    """The mask of the pixels that are foreground in any of `rles` (at least one, of one size)."""
    if len({rle.size for rle in rles}) != 1:
        raise ValueError("a union needs at least one mask, and masks of one size")
    intervals = [_intervals(rle) for rle in rles]
    starts = np.concatenate([first for first, _ in intervals])
    ends = np.concatenate([last for _, last in intervals])
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    if starts.size:
        # An interval opens where it starts beyond everything before it; touching ones are one run.
        opens = np.concatenate((np.ones(1, np.bool_), starts[1:] > ends[:-1]))
        starts, ends = starts[opens], ends[np.concatenate((opens[1:], np.ones(1, np.bool_)))]
    return _from_intervals(rles[0].size, starts, ends)


def to_polygons(mask: Mask) -> list[Polygon]:
    """The boundaries of `mask` (H, W) as closed polygons of (x, y) pixel corners.

    Every turn of the boundary is a vertex and nothing is smoothed: filling all polygons together by
    the even-odd rule gives back the mask exactly. Outer boundaries run clockwise on the screen
    (y down: their shoelace area is positive), holes counter-clockwise. Pixels that touch only at a
    corner belong to different boundaries. The first vertex is not repeated at the end.
    """
    mask = np.asarray(mask, np.bool_)
    padded = np.pad(mask, 1)
    # The four pixels around each lattice corner. A boundary turns where an odd number of them is
    # foreground, and twice where two opposite ones are.
    nw, ne, sw, se = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    falling = nw & se & ~ne & ~sw
    rising = ne & sw & ~nw & ~se
    turns = (nw ^ ne ^ sw ^ se) | falling | rising
    y, x = np.nonzero(turns)
    twice = (falling | rising)[y, x]
    corner = np.repeat(np.arange(y.size), 1 + twice)
    y, x, crossed = y[corner], x[corner], rising[y, x][corner]
    second = np.concatenate((np.zeros(1, np.bool_), corner[1:] == corner[:-1]))[: y.size]
    # Along a row the boundary's horizontal edges join turns 1-2, 3-4, ...; along a column likewise.
    # Of a double turn the first copy ends the edge from the left. Which copy ends the edge from
    # above decides what is joined there: each copy goes round its own foreground pixel.
    by_column = np.lexsort((second ^ crossed, y, x))
    along_row = np.arange(y.size) ^ 1
    along_column = np.empty(y.size, np.int64)
    along_column[by_column] = by_column[np.arange(y.size) ^ 1]

    foreground_below = padded[y + 1, x + 1]
    xs, ys = x.astype(np.float64).tolist(), y.astype(np.float64).tolist()
    along, aside = along_row.tolist(), along_column.tolist()
    seen = bytearray(len(xs))
    polygons: list[Polygon] = []
    for start in range(0, len(xs), 2):  # the left end of a horizontal edge
        if seen[start]:
            continue
        # With the foreground on the right-hand side: rightwards where it lies below the edge.
        turn = start if foreground_below[start] else along[start]
        polygon: Polygon = []
        while not seen[turn]:
            end = along[turn]
            seen[turn] = seen[end] = 1
            polygon += ((xs[turn], ys[turn]), (xs[end], ys[end]))
            turn = aside[end]
        polygons.append(polygon)
    return polygons


def vertex_count(rle: RLE) -> int:
    """How many vertices `to_polygons` gives for a mask, all polygons together; nothing is decoded.

    A vertex is where an edge along a row begins or ends: at the ends of each run in a column, but
    for those that the next column has too, at the same height and on the same side.
    """
    height = rle.size[0]
    starts, ends = _intervals(rle)
    if starts.size == 0:
        return 0
    first, last = starts // height, (ends - 1) // height
    pieces = last - first + 1
    run = np.repeat(np.arange(starts.size), pieces)
    column = np.arange(run.size) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[run]
    tops = np.where(column == first[run], starts[run] - column * height, 0)
    bottoms = np.where(column == last[run], ends[run] - column * height, height)
    # One number for each end of a run in a column; the next column's is `width_of_column` on.
    width_of_column = 2 * (height + 1)
    edges = np.concatenate(
        (column * width_of_column + 2 * tops, column * width_of_column + 2 * bottoms + 1)
    )
    shared = np.intersect1d(edges, edges + width_of_column, assume_unique=True).size
    return 2 * (edges.size - shared)


def _to_string(counts: Runs) -> bytes:
    """pycocotools' bytes of run lengths."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    # A value needs another group until what is left is only the sign of the group just written.
    groups = np.ones(values.size, np.int64)
    magnitude = np.where(values < 0, ~values, values) >> 4
    while magnitude.any():
        groups += magnitude != 0
        magnitude >>= 5
    last = np.cumsum(groups)
    place = np.arange(int(last[-1])) - np.repeat(last - groups, groups)
    chunk = (np.repeat(values, groups) >> (5 * place)) & 0x1F
    chunk |= 0x20
    chunk[last - 1] &= 0x1F
    return (chunk + 48).astype(np.uint8).tobytes()


def _from_string(counts: bytes, field: FieldPath) -> Runs:
    """The run lengths in pycocotools' bytes."""
    raw = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if raw.size == 0:
        raise _invalid("the mask's counts are empty", field)
    if raw.min() < 0 or raw.max() > 63:
        raise _invalid("the mask's counts hold a character that no run length has", field)
    last = np.flatnonzero(raw < 32)
    if last.size == 0 or last[-1] != raw.size - 1:
        raise _invalid("the mask's counts end within a run length", field)
    first = np.concatenate((np.zeros(1, np.int64), last[:-1] + 1))
    groups = last - first + 1
    if groups.max() > _MAX_GROUPS:
        raise _invalid("the mask's counts hold a run length of more than 32 bits", field)
    place = np.arange(raw.size) - np.repeat(first, groups)
    values = np.add.reduceat((raw & 0x1F) << (5 * place), first)
    values -= np.where(raw[last] & 0x10, np.int64(1) << (5 * groups), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _size(rle: RLE, field: FieldPath) -> tuple[int, int]:
    height, width = rle.size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise _invalid(f"a mask cannot be {height} high and {width} wide", field)
    return height, width


def _intervals(rle: RLE, field: FieldPath = MASK) -> tuple[Runs, Runs]:
    """Where each foreground run starts and ends (exclusive), in column order; none is empty."""
    height, width = _size(rle, field)
    # Each pixel costs at most one run, and a run at most this many characters.
    if len(rle.counts) > _MAX_GROUPS * (height * width + 1):
        raise _invalid("the mask has more run lengths than pixels", field)
    counts = _from_string(rle.counts, field)
    # Checked one by one before they are summed, so that no sum can overflow.
    if counts.min() < 0 or counts.max() > height * width:
        raise _invalid("the mask's counts hold a run that is negative or beyond its size", field)
    bounds = np.cumsum(counts)
    if bounds[-1] != height * width:
        raise _invalid(
            f"the mask's run lengths cover {int(bounds[-1])} pixels, its size {height * width}",
            field,
        )
    ends = bounds[1::2]
    starts = bounds[0::2][: ends.size]
    solid = ends > starts
    if not solid.all():
        starts, ends = starts[solid], ends[solid]
    # Foreign encoders write empty background runs; what they separate is one run.
    if ends.size and (starts[1:] == ends[:-1]).any():
        opens = np.concatenate((np.ones(1, np.bool_), starts[1:] != ends[:-1]))
        starts, ends = starts[opens], ends[np.concatenate((opens[1:], np.ones(1, np.bool_)))]
    return starts, ends


def _bounds(pixels: int, starts: Runs, ends: Runs) -> Runs:
    """Where runs of background and foreground meet: 0, start, end, start, ..., the last pixel."""
    bounds = np.empty(2 * starts.size + 2, np.int64)
    bounds[0], bounds[1:-1:2], bounds[2:-1:2], bounds[-1] = 0, starts, ends, pixels
    return bounds


def _from_intervals(size: tuple[int, int], starts: Runs, ends: Runs) -> RLE:
    counts = np.diff(_bounds(size[0] * size[1], starts, ends))
    # A last run of background that is empty is not written; the first one always is.
    return RLE(size, _to_string(counts[:-1] if counts.size > 1 and counts[-1] == 0 else counts))


def _covered_before(at: Runs, starts: Runs, ends: Runs, covered: Runs) -> Runs:
    """How much of the intervals lies before each position of `at`."""
    index = np.searchsorted(starts, at, side="right") - 1
    within = np.maximum(index, 0)
    return np.where(index < 0, 0, covered[within] + np.minimum(at, ends[within]) - starts[within])


def _invalid(message: str, field: FieldPath) -> InvalidRequest:
    return InvalidRequest(Reason.CANDIDATE_INVALID, message, field=field)
