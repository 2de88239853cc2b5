"""Drawn backgrounds for scenes: tones, a horizon, a gradient, noise, blobs.

The first thing a scene is made of; `scenes.py` lays the stickers on top. `PLAIN` is what the
world's definition names; `WIDE` adds kinds that only training sees, so that the models do
not lean on the background.
"""

import colorsys
from collections.abc import Sequence
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

Kind = Literal[
    "horizon",
    "gradient",
    "noise",
    "flat",
    "stripes",
    "patches",
    "slanted",
    "checks",
    "clouds",
    "rings",
]

PLAIN: tuple[Kind, ...] = ("horizon", "gradient", "noise")
WIDE: tuple[Kind, ...] = (
    *PLAIN,
    "flat",
    "stripes",
    "patches",
    "slanted",
    "checks",
    "clouds",
    "rings",
)


def draw_background(
    rng: np.random.Generator, size: tuple[int, int], kinds: Sequence[Kind] = PLAIN
) -> np.ndarray:
    """One background.

    Args:
        rng: source of all choices.
        size: width and height in pixels.
        kinds: which kinds to draw from, equally likely.

    Returns:
        uint8 ``[h, w, 3]``.
    """
    kind = kinds[int(rng.integers(len(kinds)))]
    canvas = _base(rng, size, kind)
    if rng.random() < 0.35:
        canvas = _with_blobs(rng, canvas)
    if kind == "noise" or rng.random() < 0.4:
        canvas = _with_noise(rng, canvas, strength=rng.uniform(4, 30))
    return canvas


def _base(rng: np.random.Generator, size: tuple[int, int], kind: Kind) -> np.ndarray:
    width, height = size
    first, second = _color(rng), _color(rng)
    match kind:
        case "horizon":
            canvas = np.empty((height, width, 3), np.uint8)
            horizon = round(height * rng.uniform(0.3, 0.75))
            canvas[:horizon], canvas[horizon:] = first, second
        case "gradient":
            # Sixteen shades suffice: the enlargement interpolates between them.
            angle = rng.uniform(0, 2 * np.pi)
            steps = np.linspace(0, 1, 16)
            slope = steps[:, None] * np.sin(angle) + steps[None, :] * np.cos(angle)
            share = ((slope - slope.min()) / np.ptp(slope))[..., None]
            canvas = _enlarged(first * (1 - share) + second * share, size)
        case "stripes":
            canvas = np.empty((height, width, 3), np.uint8)
            canvas[:] = first
            period = max(4, round(min(size) * rng.uniform(0.05, 0.4)))
            across = np.arange(width if rng.random() < 0.5 else height) % period < period / 2
            if len(across) == width and (width != height or rng.random() < 0.5):
                canvas[:, across] = second
            else:
                canvas[across] = second
        case "patches":
            cells = rng.integers(2, 8, 2)
            tones = rng.random((*cells, 1)) * (second - first) + first
            tones = tones + rng.normal(0, 20, (*cells, 3))
            soft = Image.Resampling.BICUBIC if rng.random() < 0.5 else Image.Resampling.NEAREST
            canvas = _enlarged(tones, size, soft)
        case "slanted" | "rings":
            canvas = _mixed(first, second, _waves(rng, size, round_ones=kind == "rings"))
        case "checks":
            period = max(4, round(min(size) * rng.uniform(0.04, 0.3)))
            rows, columns = np.arange(height) // period % 2, np.arange(width) // period % 2
            canvas = _mixed(first, second, (rows[:, None] ^ columns).astype(np.float32))
        case "clouds":
            canvas = _mixed(first, second, _clouds(rng, size))
        case _:
            canvas = np.empty((height, width, 3), np.uint8)
            canvas[:] = first
    return canvas


def _waves(rng: np.random.Generator, size: tuple[int, int], round_ones: bool) -> np.ndarray:
    """Slanted stripes, or rings around a point, soft or hard: ``[h, w]``, 0 to 1."""
    width, height = size
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    if round_ones:
        y, x = rng.uniform(-0.2, 1.2, 2) * (height, width)
        phase = np.hypot((rows - y)[:, None], (columns - x)[None])
    else:
        angle = rng.uniform(0, np.pi)
        phase = (rows * np.sin(angle))[:, None] + (columns * np.cos(angle))[None]
    period = min(size) * rng.uniform(0.05, 1.0)
    wave: np.ndarray = 0.5 + 0.5 * np.sin(phase * np.float32(2 * np.pi / period))
    return wave if rng.random() < 0.6 else (wave > 0.5).astype(np.float32)


def _clouds(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Noise of all grains, the finer the fainter, as photographs have: ``[h, w]``, 0 to 1."""
    total = np.zeros((size[1], size[0]), np.float32)
    fading = rng.uniform(0.4, 0.8)
    for octave in range(5):
        cells = 2 ** (octave + 1)
        grain = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
        total += np.asarray(grain.resize(size, Image.Resampling.BICUBIC)) * fading**octave
    total -= total.min()
    clouds: np.ndarray = total / total.max()
    return clouds


def _mixed(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`second` where `share` is 1, `first` where it is 0: uint8 ``[h, w, 3]``."""
    tones: np.ndarray = (first + share[..., None] * (second - first)).astype(np.uint8)
    return tones


def _with_blobs(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, 7)):
        x, y = rng.uniform(0, image.width), rng.uniform(0, image.height)
        a, b = rng.uniform(0.03, 0.25, 2) * min(image.size)
        draw.ellipse((x - a, y - b, x + a, y + b), fill=tuple(int(c) for c in _color(rng)))
    return np.asarray(image)


def _with_noise(rng: np.random.Generator, canvas: np.ndarray, strength: float) -> np.ndarray:
    height, width = canvas.shape[:2]
    grain = rng.uniform(1, max(2.0, min(height, width) / 6))
    cells = (max(2, round(height / grain)), max(2, round(width / grain)))
    tones = 128 + rng.standard_normal((*cells, 1), np.float32) * strength
    if rng.random() < 0.3:
        tones = tones + rng.standard_normal((*cells, 3), np.float32) * strength
    noise = _enlarged(np.broadcast_to(tones, (*cells, 3)), (width, height))
    noisy: np.ndarray = np.clip(canvas.astype(np.int16) + noise - 128, 0, 255)
    return noisy.astype(np.uint8)


def _enlarged(
    tones: np.ndarray,
    size: tuple[int, int],
    resampling: Image.Resampling = Image.Resampling.BILINEAR,
) -> np.ndarray:
    image = Image.fromarray(np.clip(tones, 0, 255).astype(np.uint8))
    return np.asarray(image.resize(size, resampling))


def _color(rng: np.random.Generator) -> np.ndarray:
    hue, saturation, value = rng.random(), rng.uniform(0.05, 0.9), rng.uniform(0.3, 1.0)
    channels = colorsys.hsv_to_rgb(hue, saturation, value)
    return np.array([round(channel * 255) for channel in channels], float)
