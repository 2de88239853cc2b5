"""Pictures for the planner's review: candidates outlined and numbered, and one seen close up.

Flow: the gateway's candidates (decoded masks) -> `numbered_overview` and `zoomed_candidate` -> the
two images of `services.planner.prompt.review_messages`. Numpy and Pillow only.
"""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Rgb: TypeAlias = NDArray[np.uint8]  # (height, width, 3)
Mask: TypeAlias = NDArray[np.bool_]  # (height, width)

# Told apart by hue and lightness; candidate n takes color n modulo their number.
_COLORS = (
    (230, 25, 75),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (60, 180, 75),
    (240, 50, 230),
    (0, 128, 128),
    (170, 110, 40),
)
_MARGIN = 0.25  # of the candidate's longer side, on each side of the zoomed view
_DIMMED = 0.35  # brightness left outside the candidate


def numbered_overview(rgb: Rgb, masks: Sequence[Mask]) -> Rgb:
    """A copy of `rgb` with a thin outline and a number tag for each mask, counted from 1.

    Raises:
        ValueError: a mask's shape is not the image's.
    """
    _check(rgb, masks)
    marked = rgb.copy()
    width = _stroke(rgb.shape[:2])
    for index, mask in enumerate(masks):
        marked[_outline(mask, width)] = _COLORS[index % len(_COLORS)]
    image = Image.fromarray(marked)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(12, min(rgb.shape[:2]) // 24))
    for index, mask in enumerate(masks):
        if mask.any():
            _draw_tag(draw, font, str(index + 1), _anchor(mask), _COLORS[index % len(_COLORS)])
    return np.asarray(image)


def zoomed_candidate(rgb: Rgb, mask: Mask) -> Rgb:
    """`rgb` cropped to `mask` with a margin, dimmed outside of it, the mask outlined.

    Raises:
        ValueError: the mask is empty, or its shape is not the image's.
    """
    _check(rgb, (mask,))
    window = zoom_window(mask)
    view, inside = rgb[window].copy(), mask[window]
    view[~inside] = (view[~inside] * _DIMMED).astype(np.uint8)
    ring = _grown(inside, _stroke(view.shape[:2])) & ~inside
    view[ring] = _COLORS[0]
    return view


def zoom_window(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns that `zoomed_candidate` shows.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("the candidate's mask is empty")
    rows, columns = (_span(np.asarray(mask.any(axis=axis))) for axis in (1, 0))
    margin = max(2, round(_MARGIN * max(rows[1] - rows[0], columns[1] - columns[0])))
    height, width = mask.shape
    return (
        slice(max(0, rows[0] - margin), min(height, rows[1] + margin)),
        slice(max(0, columns[0] - margin), min(width, columns[1] + margin)),
    )


def _check(rgb: Rgb, masks: Sequence[Mask]) -> None:
    for mask in masks:
        if mask.shape != rgb.shape[:2]:
            raise ValueError(f"a mask of {mask.shape} does not fit an image of {rgb.shape[:2]}")


def _stroke(shape: tuple[int, ...]) -> int:
    return max(1, round(min(shape) / 300))


def _span(occupied: NDArray[np.bool_]) -> tuple[int, int]:
    hits = np.flatnonzero(occupied)
    return int(hits[0]), int(hits[-1]) + 1


def _grown(mask: Mask, by: int) -> Mask:
    """`mask` with its 4-neighborhood added `by` times."""
    grown = mask.copy()
    for _ in range(by):
        before = grown.copy()
        grown[1:] |= before[:-1]
        grown[:-1] |= before[1:]
        grown[:, 1:] |= before[:, :-1]
        grown[:, :-1] |= before[:, 1:]
    return grown


def _outline(mask: Mask, width: int) -> Mask:
    return mask & _grown(~np.pad(mask, width), width)[width:-width, width:-width]


def _anchor(mask: Mask) -> tuple[float, float]:
    """(x, y) of the mask's pixel that is nearest to its centroid, so that the tag lies on it."""
    ys, xs = np.nonzero(mask)
    nearest = np.argmin((xs - xs.mean()) ** 2 + (ys - ys.mean()) ** 2)
    return float(xs[nearest]), float(ys[nearest])


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    text: str,
    center: tuple[float, float],
    color: tuple[int, int, int],
) -> None:
    x0, y0, x1, y1 = draw.textbbox(center, text, font=font, anchor="mm")
    draw.rectangle((x0 - 2, y0 - 2, x1 + 2, y1 + 2), fill=color)
    draw.text(center, text, font=font, fill=(255, 255, 255), anchor="mm")
