"""Backgrounds of the second renderer, written independently of what the trainers draw on.

The first five kinds are the world's (a horizon, gradients, noise, blobs); the others go beyond it,
so that a figure on them tells whether a model learned stickers or one program's backgrounds.
"""

from collections.abc import Callable
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Canvas = NDArray[np.float32]
"""Colors, float32 ``[h, w, 3]`` (one tone: ``[3]``), 0 to 255 but for what a last clip cuts."""

Field = NDArray[np.float32]
"""One number a pixel, float32 ``[h, w]``."""

Painter = Callable[[np.random.Generator, int, int], Canvas]
"""Draws a background of some width and height."""

# Soft patterns are made this large at most, and then enlarged: their detail is no finer.
_SOFT_SIDE = 256


class BackgroundKind(StrEnum):
    """What a background shows."""

    HORIZON = "horizon"
    LINEAR = "linear gradient"
    RADIAL = "radial gradient"
    NOISE = "noise"
    BLOBS = "blobs"
    STRIPES = "stripes"
    CHECKERS = "checkers"
    BRICKS = "bricks"
    WEAVE = "weave"
    CLOUDS = "clouds"
    BOKEH = "bokeh"


def paint(
    rng: np.random.Generator, size: tuple[int, int], kind: BackgroundKind
) -> NDArray[np.uint8]:
    """A background of one kind, uint8 ``[h, w, 3]``, RGB; `size` is width and height."""
    canvas = _PAINTERS[kind](rng, *size)
    if rng.random() < 0.25:
        canvas = canvas * _vignette(rng, *size)[..., None]
    if rng.random() < 0.3:
        grain = rng.normal(0.0, rng.uniform(1.0, 10.0), (*canvas.shape[:2], 1))
        canvas = canvas + grain.astype(np.float32)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)


def _tone(rng: np.random.Generator) -> Canvas:
    """Any color, ``[3]``: hue even, from gray to garish, from nearly black to nearly white."""
    hue, saturation = rng.random() * 6.0, rng.random() ** 1.3
    value = 255.0 * rng.uniform(0.12, 1.0)
    away = np.abs((hue - np.array([0.0, 2.0, 4.0]) + 3.0) % 6.0 - 3.0)
    return np.asarray(value * (1.0 - saturation * np.clip(away - 1.0, 0.0, 1.0)), np.float32)


def _near(rng: np.random.Generator, tone: Canvas, spread: float) -> Canvas:
    """A tone like another, each channel moved by `spread` at most."""
    return np.asarray(np.clip(tone + rng.uniform(-spread, spread, 3), 0, 255), np.float32)


def _mix(share: Field, low: Canvas, high: Canvas) -> Canvas:
    """`low` where `share` is 0, `high` where it is 1."""
    return (low + share[..., None] * (high - low)).astype(np.float32)


def _axes(width: int, height: int) -> tuple[Field, Field]:
    """x and y of each pixel in units of the shorter side, the middle at 0; they broadcast."""
    unit = min(width, height)
    x = (np.arange(width, dtype=np.float32) + 0.5 - width / 2) / unit
    y = (np.arange(height, dtype=np.float32) + 0.5 - height / 2) / unit
    return x.astype(np.float32)[None, :], y.astype(np.float32)[:, None]


def _turned(rng: np.random.Generator, width: int, height: int) -> tuple[Field, Field]:
    """The axes turned by any angle, each ``[h, w]``."""
    x, y = _axes(width, height)
    angle = rng.uniform(0.0, 2 * np.pi)
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    return along.astype(np.float32), across.astype(np.float32)


def _rescaled(field: Field) -> Field:
    """The same field from 0 to 1."""
    low, high = float(field.min()), float(field.max())
    return (field - low) / max(high - low, 1e-6)


def _enlarged(field: Field, width: int, height: int) -> Field:
    image = Image.fromarray(field.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def _grain(rng: np.random.Generator, width: int, height: int, cell: float) -> Field:
    """Soft noise about 0, its lumps `cell` pixels wide."""
    columns, rows = max(2, round(width / cell)), max(2, round(height / cell))
    return _enlarged(rng.normal(size=(rows, columns)).astype(np.float32), width, height)


def _vignette(rng: np.random.Generator, width: int, height: int) -> Field:
    x, y = _axes(width, height)
    off_x, off_y = rng.normal(0.0, 0.1, 2).astype(np.float32)
    far = (x - off_x) ** 2 + (y - off_y) ** 2
    return np.asarray(1.0 - rng.uniform(0.2, 0.7) * (far / far.max()), np.float32)


def _horizon(rng: np.random.Generator, width: int, height: int) -> Canvas:
    x, y = _axes(width, height)
    line = y - np.float32(rng.uniform(-0.3, 0.3) * height / min(width, height))
    line = line + np.float32(rng.normal(0.0, 0.08)) * x
    edge = np.float32(rng.choice([0.002, 0.01, 0.06]))
    below = 1.0 / (1.0 + np.exp(-np.clip(line / edge, -30, 30)))
    sky, ground = _tone(rng), _tone(rng)
    depth = _rescaled(np.abs(line))
    return _mix(
        below,
        _mix(depth, sky, _near(rng, sky, 60.0)),
        _mix(depth, ground, _near(rng, ground, 60.0)),
    )


def _linear(rng: np.random.Generator, width: int, height: int) -> Canvas:
    along, _ = _turned(rng, width, height)
    return _ramp(rng, _rescaled(along))


def _radial(rng: np.random.Generator, width: int, height: int) -> Canvas:
    x, y = _axes(width, height)
    center_x, center_y = rng.uniform(-0.6, 0.6, 2).astype(np.float32)
    squeeze = np.float32(np.exp(rng.normal(0.0, 0.3)))
    return _ramp(rng, _rescaled(np.hypot((x - center_x) * squeeze, y - center_y)))


def _ramp(rng: np.random.Generator, share: Field) -> Canvas:
    """Two or three tones along a field from 0 to 1."""
    first, second = _tone(rng), _tone(rng)
    if rng.random() < 0.6:
        return _mix(share ** np.float32(rng.uniform(0.6, 1.7)), first, second)
    stop = np.float32(rng.uniform(0.3, 0.7))
    early = _mix(np.clip(share / stop, 0, 1), first, second)
    late = np.clip((share - stop) / (1 - stop), 0, 1)
    return _mix(late, early, _tone(rng))


def _noise(rng: np.random.Generator, width: int, height: int) -> Canvas:
    base = _any(rng, _flat, _linear, _horizon)(rng, width, height)
    cell = float(np.exp(rng.uniform(0.0, np.log(min(width, height) / 4))))
    strength = rng.uniform(5.0, 35.0)
    if rng.random() < 0.5:
        return base + np.float32(strength) * _grain(rng, width, height, cell)[..., None]
    layers = [_grain(rng, width, height, cell) for _ in range(3)]
    return base + np.float32(strength) * np.stack(layers, axis=-1)


def _any(rng: np.random.Generator, *painters: Painter) -> Painter:
    return painters[int(rng.integers(len(painters)))]


def _flat(rng: np.random.Generator, width: int, height: int) -> Canvas:
    return np.tile(_tone(rng), (height, width, 1))


def _blobs(rng: np.random.Generator, width: int, height: int) -> Canvas:
    canvas = _any(rng, _flat, _linear, _radial)(rng, width, height)
    for _ in range(int(rng.integers(2, 11))):
        along, across = _turned(rng, width, height)
        extent = np.array([width, height]) / min(width, height) / 2
        off_along, off_across = rng.uniform(-extent, extent).astype(np.float32)
        long, short = rng.uniform(0.05, 0.45, 2).astype(np.float32)
        far = np.hypot((along - off_along) / long, (across - off_across) / short)
        soft = np.float32(rng.choice([0.03, 0.3]))
        inside = 1.0 / (1.0 + np.exp(np.clip((far - 1.0) / soft, -30, 30)))
        canvas = _mix(inside * np.float32(rng.uniform(0.3, 1.0)), canvas, _tone(rng))
    return canvas


def _stripes(rng: np.random.Generator, width: int, height: int) -> Canvas:
    along, across = _turned(rng, width, height)
    if rng.random() < 0.3:
        along = along + np.float32(rng.uniform(0.01, 0.06)) * np.sin(
            across * np.float32(rng.uniform(6.0, 25.0))
        )
    wave = np.sin(along * np.float32(2 * np.pi / rng.uniform(0.02, 0.4)))
    sharp = np.float32(rng.choice([0.6, 3.0, 40.0]))
    share = 1.0 / (1.0 + np.exp(-np.clip(sharp * wave, -30, 30)))
    return _mix(share, *_two_tones(rng))


def _two_tones(rng: np.random.Generator) -> tuple[Canvas, Canvas]:
    """Two tones of a pattern, alike as often as not."""
    first = _tone(rng)
    return first, (_near(rng, first, 70.0) if rng.random() < 0.5 else _tone(rng))


def _checkers(rng: np.random.Generator, width: int, height: int) -> Canvas:
    along, across = _turned(rng, width, height)
    side = np.float32(rng.uniform(0.03, 0.3))
    odd = (np.floor(along / side) + np.floor(across / side)) % 2
    return _mix(odd.astype(np.float32), *_two_tones(rng))


def _bricks(rng: np.random.Generator, width: int, height: int) -> Canvas:
    x, y = _axes(width, height)
    tall = rng.uniform(0.04, 0.15)
    long = tall * rng.uniform(1.6, 3.2)
    rows = y / np.float32(tall) + 100
    row = np.floor(rows).astype(int)
    columns = x / np.float32(long) + 100 + 0.5 * (row % 2)
    column = np.floor(columns).astype(int)
    shades = rng.normal(0.0, rng.uniform(0.03, 0.15), (97, 89)).astype(np.float32)
    brick = (1.0 + shades[row % 97, column % 89])[..., None] * _tone(rng)
    joint = np.float32(rng.uniform(0.03, 0.1))
    mortar = (rows - row < joint) | (columns - column < joint * np.float32(tall / long))
    return _mix(mortar.astype(np.float32), brick, _tone(rng))


def _weave(rng: np.random.Generator, width: int, height: int) -> Canvas:
    along, across = _turned(rng, width, height)
    thread = np.float32(np.pi / rng.uniform(0.015, 0.08))
    warp, weft = np.abs(np.sin(along * thread)), np.abs(np.sin(across * thread))
    over = (np.floor(along * thread / np.pi) + np.floor(across * thread / np.pi)) % 2
    share = np.where(over > 0, warp, weft).astype(np.float32)
    first, second = _two_tones(rng)
    cloth = np.where((over > 0)[..., None], first, second)
    return np.asarray(cloth * (0.55 + 0.45 * share[..., None]), np.float32)


def _clouds(rng: np.random.Generator, width: int, height: int) -> Canvas:
    """Noise whose spectrum falls as a power of the frequency, as in photographs."""
    side = _SOFT_SIDE
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1.0
    fall = frequency ** -rng.uniform(0.9, 2.0)
    fields = []
    for _ in range(2):
        spectrum = np.fft.rfft2(rng.normal(size=(side, side))) * fall
        field = np.fft.irfft2(spectrum, (side, side)).astype(np.float32)
        # Cut to the frame's aspect, so that lumps are not drawn out.
        rows = max(8, round(side * min(1.0, height / width)))
        columns = max(8, round(side * min(1.0, width / height)))
        fields.append(_rescaled(_enlarged(field[:rows, :columns], width, height)))
    return _mix(fields[1] ** 2, _mix(fields[0], _tone(rng), _tone(rng)), _tone(rng))


def _bokeh(rng: np.random.Generator, width: int, height: int) -> Canvas:
    """Shapes out of focus, as behind the subject of a photograph."""
    scale = min(1.0, _SOFT_SIDE / max(width, height))
    small = (max(8, round(width * scale)), max(8, round(height * scale)))
    image = Image.fromarray(np.clip(_horizon(rng, *small), 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(8, 40))):
        x, y = rng.uniform(0.0, small[0]), rng.uniform(0.0, small[1])
        half_x, half_y = rng.uniform(0.01, 0.2, 2) * min(small)
        box = (x - half_x, y - half_y, x + half_x, y + half_y)
        color = tuple(int(channel) for channel in _tone(rng))
        draw = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        draw(box, fill=color)
    blurred = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.01, 0.06) * min(small)))
    return np.asarray(blurred.resize((width, height), Image.Resampling.BICUBIC), np.float32)


_PAINTERS: dict[BackgroundKind, Painter] = {
    BackgroundKind.HORIZON: _horizon,
    BackgroundKind.LINEAR: _linear,
    BackgroundKind.RADIAL: _radial,
    BackgroundKind.NOISE: _noise,
    BackgroundKind.BLOBS: _blobs,
    BackgroundKind.STRIPES: _stripes,
    BackgroundKind.CHECKERS: _checkers,
    BackgroundKind.BRICKS: _bricks,
    BackgroundKind.WEAVE: _weave,
    BackgroundKind.CLOUDS: _clouds,
    BackgroundKind.BOKEH: _bokeh,
}
