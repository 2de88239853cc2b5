"""Pictures of an answer: overlay, spotlight, cut-out, another background.

Last stop of an image: the gateway renders what a request asks for, the command line what a person
asks for. Everything here takes an image as uint8 (H, W, 3) RGB and masks as bool (H, W) of the same
size, scales its lines and letters to the image, and changes none of its arguments.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from limelight.masks import Mask
from limelight.values import Box
from services.codecs import lettering

Rgb = NDArray[np.uint8]
Rgba = NDArray[np.uint8]
Color = tuple[int, int, int]

_GOLDEN_ANGLE = 137.50776
_WHITE: Color = (255, 255, 255)
_INK: Color = (16, 18, 24)
_PALE: Color = (186, 192, 204)


def instance_color(id: int) -> Color:
    """The color of instance `id`, counted from 1: always the same, and far from its neighbors'.

    Hues follow the golden angle in OKLCH (Ottosson 2020), where equal steps look equal, and
    lightness takes turns, so that the first dozen differ also for those who see fewer hues.
    """
    hue = math.radians((256 + _GOLDEN_ANGLE * (id - 1)) % 360)
    lightness = (0.68, 0.74, 0.62)[(id - 1) % 3]
    for step in range(20, 0, -1):  # the strongest chroma that sRGB has there
        color = _oklch_to_srgb(lightness, 0.01 * step, hue)
        if all(-0.002 <= channel <= 1.002 for channel in color):
            break
    red, green, blue = (round(255 * min(1.0, max(0.0, channel))) for channel in color)
    return red, green, blue


def overlay(
    rgb: Rgb,
    masks: Sequence[Mask],
    labels: Sequence[str] = (),
    boxes: Sequence[Box] = (),
    *,
    scores: Sequence[float] = (),
    ids: Sequence[int] = (),
    fill: float = 0.24,
) -> Rgb:
    """`rgb` with each mask tinted and outlined in its instance's color, and tagged.

    `labels`, `boxes`, `scores` and `ids` are empty or as many as `masks`; `ids` default to 1, 2 ...
    and decide the colors; an empty label has no tag; a box is drawn where one is given. `fill` is
    the tint's opacity, 0 to 1. Tags stay inside the image and off each other where there is room.
    """
    _check_image(rgb)
    for name, given in (("labels", labels), ("boxes", boxes), ("scores", scores), ("ids", ids)):
        if given and len(given) != len(masks):
            raise ValueError(f"{len(given)} {name} for {len(masks)} masks")
    colors = [instance_color(id) for id in (ids or range(1, len(masks) + 1))]
    canvas = Image.fromarray(rgb)
    line = _line_width(canvas.size)
    # Masks may be unpacked as they are asked for: each is, once to survey it and once to paint it.
    areas: list[int] = []
    extents: list[_Extent | None] = []
    crowd = _Crowd(rgb.shape[:2])
    for mask in masks:
        _check_mask(rgb, mask)
        areas.append(int(mask.sum()))
        extents.append(_extent(mask))
        crowd.add(mask)
    # Large ones first, so that a small thing before a large one keeps its outline.
    for index in sorted(range(len(masks)), key=lambda i: -areas[i]):
        _paint(canvas, masks[index], extents[index], colors[index], line, fill)
    for box, color in zip(boxes, colors, strict=False):
        _draw_box(canvas, box, color, line)
    tags = [
        _Tag(label, scores[i] if scores else None, colors[i], extent)
        for i, label in enumerate(labels)
        if label and (extent := extents[i]) is not None
    ]
    if tags:
        _draw_tags(canvas, tags, crowd)
    return np.array(canvas)


def spotlight(rgb: Rgb, masks: Sequence[Mask]) -> Rgb:
    """`rgb` with all that is outside the masks dimmed and drained of color, in a fall of light."""
    _check_image(rgb)
    image = Image.fromarray(rgb)
    dark = ImageEnhance.Brightness(ImageEnhance.Color(image).enhance(0.2)).enhance(0.34)
    selected = _union(rgb, masks)
    if not selected.any():
        return np.array(dark)
    # Light spills onto what is near: a wide blur of the selection, made small where it is cheap.
    lit = ImageEnhance.Brightness(ImageEnhance.Color(image).enhance(0.4)).enhance(0.7)
    small = Image.fromarray(selected).convert("L")
    small.thumbnail((384, 384), Image.Resampling.BOX)
    glow = small.filter(ImageFilter.GaussianBlur(0.07 * max(small.size)))
    around = Image.composite(lit, dark, glow.resize(image.size, Image.Resampling.BICUBIC))
    subject = ImageEnhance.Color(ImageEnhance.Brightness(image).enhance(1.03)).enhance(1.06)
    return np.array(Image.composite(subject, around, _smooth(selected)))


def cutout(rgb: Rgb, masks: Sequence[Mask], *, crop: bool = True) -> Rgba:
    """What the masks select, on transparency: uint8 (H, W, 4), cropped to it unless `crop` is off.

    Edges are softened inwards by under a pixel, so nothing of the background shows, and what is
    fully transparent is black. With nothing selected it is transparent and uncropped.
    """
    _check_image(rgb)
    selected = _union(rgb, masks)
    extent = _extent(selected) if crop else None
    if extent is not None:
        rows, columns = slice(extent.y0, extent.y1), slice(extent.x0, extent.x1)
    else:
        rows, columns = slice(None), slice(None)
    alpha = _inner_alpha(selected)[rows, columns]
    rgba = np.zeros((*alpha.shape, 4), np.uint8)
    rgba[..., :3] = np.where(alpha[..., None] > 0, rgb[rows, columns], 0)
    rgba[..., 3] = alpha
    return rgba


def replace_background(rgb: Rgb, masks: Sequence[Mask], background: Color | Rgb) -> Rgb:
    """`rgb` with everything outside the masks replaced by a color, or by an RGB image of any size.

    The image is scaled to cover and cut evenly on both sides.
    """
    _check_image(rgb)
    size = (rgb.shape[1], rgb.shape[0])
    if isinstance(background, np.ndarray):
        behind = ImageOps.fit(Image.fromarray(background), size, Image.Resampling.LANCZOS)
    else:
        behind = Image.new("RGB", size, background)
    alpha = Image.fromarray(_inner_alpha(_union(rgb, masks)))
    return np.array(Image.composite(Image.fromarray(rgb), behind, alpha))


# --- masks as light -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Extent:
    """A half-open pixel rectangle."""

    x0: int
    y0: int
    x1: int
    y1: int

    def shared(self, other: "_Extent") -> int:
        """How many pixels it shares with `other`."""
        across = min(self.x1, other.x1) - max(self.x0, other.x0)
        down = min(self.y1, other.y1) - max(self.y0, other.y0)
        return max(0, across) * max(0, down)


def _check_image(rgb: Rgb) -> None:
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"an image is uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}")


def _check_mask(rgb: Rgb, mask: Mask) -> None:
    if mask.dtype != np.bool_ or mask.shape != rgb.shape[:2]:
        raise ValueError(f"a mask of {mask.dtype} {mask.shape} for an image of {rgb.shape[:2]}")


def _union(rgb: Rgb, masks: Sequence[Mask]) -> Mask:
    selected = np.zeros(rgb.shape[:2], np.bool_)
    for mask in masks:
        _check_mask(rgb, mask)
        selected |= mask
    return selected


def _extent(mask: Mask) -> _Extent | None:
    """The tight rectangle of `mask`; None where it is empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return _Extent(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def _smooth(mask: Mask, sigma: float = 0.8) -> Image.Image:
    """`mask` as an 8-bit image whose steps are blurred by `sigma` pixels."""
    return Image.fromarray(mask).convert("L").filter(ImageFilter.GaussianBlur(sigma))


def _inner_alpha(mask: Mask) -> NDArray[np.uint8]:
    """0 outside `mask`, 255 well inside, less on the pixels that form its edge."""
    # A straight edge's pixels are at 0.73 of the blur, a right angle's at 0.53.
    blurred = np.asarray(_smooth(mask)).astype(np.int16)
    return np.where(mask, np.clip(2 * blurred - 150, 64, 255), 0).astype(np.uint8)


# --- outlines -----------------------------------------------------------------------------------


def _line_width(size: tuple[int, int]) -> float:
    return min(8.0, max(1.6, math.sqrt(size[0] * size[1]) / 270))


def _paint(
    canvas: Image.Image,
    mask: Mask,
    extent: "_Extent | None",
    color: Color,
    line: float,
    fill: float,
) -> None:
    """Tints `mask`, which is within `extent`, and draws its outline, with a white one around it
    that sets it off anywhere.
    """
    if extent is None:
        return
    margin = math.ceil(3 * line) + 2
    height, width = mask.shape
    x0, y0 = max(0, extent.x0 - margin), max(0, extent.y0 - margin)
    x1, y1 = min(width, extent.x1 + margin), min(height, extent.y1 + margin)
    # Beyond the image the mask goes on, or the image's border would be outlined too.
    window = np.pad(mask[y0:y1, x0:x1], margin, mode="edge")
    sigma = max(0.7, 0.55 * line)
    inside = (margin, margin, margin + x1 - x0, margin + y1 - y0)
    field = _smooth(window, sigma).crop(inside)
    # Of a straight edge at distance d the blur is the normal distribution's integral at d / sigma.
    normal = NormalDist(0.0, sigma)
    distance = [normal.inv_cdf((level + 0.5) / 256) for level in range(256)]
    tint = field.point([round(fill * level) for level in range(256)])
    stroke = field.point([_coverage(abs(d), line / 2) for d in distance])
    keyline = field.point([_coverage(abs(d + 0.75 * line), 0.25 * line) for d in distance])
    canvas.paste(color, (x0, y0), tint)
    canvas.paste(_WHITE, (x0, y0), keyline)
    canvas.paste(color, (x0, y0), stroke)


def _coverage(distance: float, half_width: float) -> int:
    """How much of a pixel `distance` from a line's middle the line covers, 0 to 255."""
    return round(255 * min(1.0, max(0.0, half_width - distance + 0.5)))


def _draw_box(canvas: Image.Image, box: Box, color: Color, line: float) -> None:
    draw = ImageDraw.Draw(canvas)
    draw.rectangle(
        (box.x0, box.y0, max(box.x0, box.x1 - 1), max(box.y0, box.y1 - 1)),
        outline=color,
        width=max(1, round(0.7 * line)),
    )


# --- tags ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tag:
    """What to write on the thing at `extent`."""

    label: str
    score: float | None
    color: Color
    extent: _Extent


def _draw_tags(canvas: Image.Image, tags: Sequence[_Tag], crowd: "_Crowd") -> None:
    size = min(44.0, max(11.0, math.sqrt(canvas.width * canvas.height) / 42))
    # A crowd gets smaller letters, down to what can be read.
    size = max(10.0, size * min(1.0, 12 / len(tags)) ** 0.35)
    pictures = [_tag_picture(tag, size, canvas.width) for tag in tags]
    spots = _placed(tags, [picture.size for picture in pictures], canvas.size, crowd)
    for picture, spot in zip(pictures, spots, strict=True):
        canvas.paste(picture, (spot.x0, spot.y0), picture)


def _placed(
    tags: Sequence[_Tag],
    sizes: Sequence[tuple[int, int]],
    image: tuple[int, int],
    crowd: "_Crowd",
) -> list[_Extent]:
    """Where each tag of (width, height) `sizes` covers the least of what matters."""
    placed: dict[int, _Extent] = {}
    for index in sorted(range(len(tags)), key=lambda i: (tags[i].extent.y0, tags[i].extent.x0)):
        size = sizes[index]

        def cost(choice: tuple[float, _Extent], area: int = size[0] * size[1]) -> float:
            base, spot = choice
            hidden = sum(spot.shared(other) for other in placed.values()) / area
            return base + 4.0 * hidden + crowd.share(spot)

        placed[index] = min(_spots(tags[index].extent, size, image), key=cost)[1]
    return [placed[index] for index in range(len(tags))]


def _spots(
    around: _Extent, size: tuple[int, int], image: tuple[int, int]
) -> list[tuple[float, _Extent]]:
    """Where a tag of `size` may go for the thing at `around`, each place with its cost."""
    width, height = size
    gap = max(2, height // 6)
    middle_x = (around.x0 + around.x1 - width) // 2
    middle_y = (around.y0 + around.y1 - height) // 2
    above, below = around.y0 - height - gap, around.y1 + gap
    left, right = around.x0 - width - gap, around.x1 + gap
    wanted = [
        (0.0, middle_x, above), (0.05, around.x0, above), (0.05, around.x1 - width, above),
        (0.2, middle_x, around.y0 + gap), (0.25, middle_x, below), (0.3, around.x0, below),
        (0.3, around.x1 - width, below), (0.3, right, middle_y), (0.3, left, middle_y),
        (0.35, middle_x, middle_y), (0.4, middle_x, around.y1 - height - gap),
        (0.45, right, around.y0), (0.45, left, around.y0),
    ]  # fmt: skip
    spots = []
    for cost, x, y in wanted:
        kept_x = min(max(x, gap), max(gap, image[0] - width - gap))
        kept_y = min(max(y, gap), max(gap, image[1] - height - gap))
        # A place that the image's border pushes away is worse by how far it is pushed.
        cost += (abs(kept_x - x) / width + abs(kept_y - y) / height) * 0.3
        spots.append((cost, _Extent(kept_x, kept_y, kept_x + width, kept_y + height)))
    return spots


class _Crowd:
    """How much of a rectangle masks cover, from a summed area table at a quarter of the size."""

    _STEP = 4

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._covered = np.zeros([-(-side // self._STEP) for side in shape], np.bool_)

    def add(self, mask: Mask) -> None:
        """Count what `mask`, of the shape given, covers."""
        self._covered |= mask[:: self._STEP, :: self._STEP]

    @cached_property
    def _table(self) -> NDArray[np.int64]:
        return np.pad(self._covered.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))

    def share(self, place: _Extent) -> float:
        y0, x0 = place.y0 // self._STEP, place.x0 // self._STEP
        y1 = min(-(-place.y1 // self._STEP), self._table.shape[0] - 1)
        x1 = min(-(-place.x1 // self._STEP), self._table.shape[1] - 1)
        table = self._table
        covered = table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0]
        return float(covered / max(1, (y1 - y0) * (x1 - x0)))


def _tag_picture(tag: _Tag, size: float, image_width: int) -> Image.Image:
    """A dark rounded tag, RGBA: a dot of the instance's color, the label, and the score paler."""
    dot, margin, down, space = 0.62 * size, 0.5 * size, 0.2 * size, 0.4 * size
    left = margin + dot + space
    score = None if tag.score is None else lettering.line(f"{round(100 * tag.score)}%", size)
    right = margin + (0 if score is None else space + score.width)
    label = lettering.line(tag.label, size, 0.9 * image_width - left - right)
    lines = [label] if score is None else [label, score]
    ascent, descent = max(one.ascent for one in lines), max(one.descent for one in lines)
    width = math.ceil(left + label.width + right)
    height = round(2 * down) + ascent + descent
    # Pillow's shapes have hard edges: drawn four times as large and made small, they are smooth.
    shape = Image.new("RGBA", (4 * width, 4 * height), (*_INK, 0))
    draw = ImageDraw.Draw(shape)
    edge = (0, 0, 4 * width - 1, 4 * height - 1)
    draw.rounded_rectangle(edge, radius=1.3 * height, fill=(*_INK, 222))
    top = 2 * height - 2 * dot
    draw.ellipse((4 * margin, top, 4 * (margin + dot), top + 4 * dot), fill=(*tag.color, 255))
    picture = shape.resize((width, height), Image.Resampling.BOX)
    draw = ImageDraw.Draw(picture)
    label.draw(draw, left, down + ascent, (*_WHITE, 255))
    if score is not None:
        score.draw(draw, width - margin - score.width, down + ascent, (*_PALE, 255))
    return picture


# --- color -------------------------------------------------------------------------------------


def _oklch_to_srgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """OKLCH to gamma-encoded sRGB, unclipped (Ottosson, "A perceptual color space", 2020)."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    red, green, blue = (
        12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in linear
    )
    return red, green, blue
