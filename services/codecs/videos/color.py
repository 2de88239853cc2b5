"""High dynamic range to what a screen of standard range shows: BT.2100 to 8-bit sRGB.

Light is counted in units of 203 cd/m2, the white of BT.2408, so that what is at most a white sheet
of paper keeps its brightness; what is brighter is compressed by Reinhard's curve with a white point
(Reinhard et al. 2002, equation 4) at 1,000 cd/m2, on the largest of the three channels, which keeps
hues. Below half of white the curve is left out. Colors of BT.2020 that sRGB lacks are clipped.

Sources: SMPTE ST 2084 (PQ), ITU-R BT.2100-2 (HLG, nominal peak 1,000 cd/m2, system gamma 1.2),
BT.2087 (BT.2020 to BT.709), IEC 61966-2-1 (sRGB).
"""

import functools

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float32]

_WHITE = 203.0
_PEAK = 1000.0 / _WHITE
_KNEE = 0.5
_FROM_2020 = np.array(
    [
        [1.6605, -0.5876, -0.0728],
        [-0.1246, 1.1329, -0.0083],
        [-0.0182, -0.1006, 1.1187],
    ],
    np.float32,
)
# BT.2020's share of each channel in luminance.
_LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], np.float32)


def tone_mapped(rgb: NDArray[np.uint16], transfer: str, *, wide: bool) -> NDArray[np.uint8]:
    """uint16 (H, W, 3) full-range RGB of `transfer` (pq or hlg) as uint8 (H, W, 3) sRGB.

    `wide` says that its primaries are BT.2020's.
    """
    out = np.empty(rgb.shape, np.uint8)
    rows = max(1, (1 << 18) // rgb.shape[1])  # what a processor's cache holds
    for top in range(0, rgb.shape[0], rows):
        band = rgb[top : top + rows]
        if transfer == "pq":
            light = _pq()[band]
        else:
            light = _hlg()[band]
            # BT.2100's OOTF: luminance to the power of the system's gamma, less one.
            luminance = np.maximum(light @ _LUMINANCE_2020, 1e-6)
            light = light * (_PEAK * luminance ** np.float32(0.2))[..., None]
        if wide:
            light = light @ _FROM_2020.T
        light = np.maximum(light, 0.0)
        brightest = light.max(axis=-1, keepdims=True)
        light *= _reinhard(brightest) / np.maximum(brightest, 1e-6)
        index = np.minimum(light * 4095.0 + 0.5, 4095.0).astype(np.uint16)
        out[top : top + rows] = _srgb()[index]
    return out


def _reinhard(light: Curve) -> Curve:
    """`light` up to the knee, and above it compressed so that the peak becomes 1."""
    span = 1.0 - _KNEE
    over = np.maximum(light - _KNEE, 0.0) / span
    white = (_PEAK - _KNEE) / span
    curved = over * (1.0 + over / white**2) / (1.0 + over)
    mapped: Curve = np.where(light <= _KNEE, light, _KNEE + span * curved).astype(np.float32)
    return mapped


@functools.cache
def _pq() -> Curve:
    """Light in units of `_WHITE` of each 16-bit PQ code."""
    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = np.linspace(0.0, 1.0, 65536) ** (1 / m2)
    light = 10000.0 * (np.maximum(power - c1, 0.0) / (c2 - c3 * power)) ** (1 / m1)
    return (light / _WHITE).astype(np.float32)


@functools.cache
def _hlg() -> Curve:
    """Scene light, 0 to 1, of each 16-bit HLG code."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    code = np.linspace(0.0, 1.0, 65536)
    light = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return light.astype(np.float32)


@functools.cache
def _srgb() -> NDArray[np.uint8]:
    """The 8-bit sRGB code of light in steps of 1/4095."""
    light = np.linspace(0.0, 1.0, 4096)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(255 * code).astype(np.uint8)
