"""`services.codecs.videos.color`: known light comes out as known codes."""

import numpy as np
import pytest

from services.codecs.videos.color import tone_mapped


def gray(code: float) -> np.ndarray:
    return np.full((4, 4, 3), round(code * 65535), np.uint16)


def shown(code: float, transfer: str) -> int:
    pixels = tone_mapped(gray(code), transfer, wide=True)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (4, 4, 3))
    assert pixels.max() - pixels.min() <= 1
    return int(pixels[0, 0, 0])


def test_black_and_peak_are_the_ends_of_the_scale() -> None:
    for transfer in ("pq", "hlg"):
        assert shown(0.0, transfer) == 0
        assert shown(1.0, transfer) == 255
    # PQ's code of 1,000 cd/m2 (BT.2100: 0.7518) is as bright as it gets.
    assert shown(0.7518, "pq") >= 254


@pytest.mark.parametrize(
    ("code", "light"),
    # BT.2408, table 1: PQ codes of 26 and 203 cd/m2 (18 % gray card and white).
    [(0.38, 26 / 203)],
)
def test_middle_gray_keeps_its_brightness(code: float, light: float) -> None:
    expected = 255 * (1.055 * light ** (1 / 2.4) - 0.055)
    assert shown(code, "pq") == pytest.approx(expected, abs=4)
    assert shown(code, "hlg") == pytest.approx(expected, abs=6)  # BT.2408: 0.38 too


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_brighter_is_never_darker(transfer: str) -> None:
    ramp = np.repeat(np.linspace(0, 65535, 512).astype(np.uint16)[None, :, None], 3, axis=2)
    mapped = tone_mapped(ramp, transfer, wide=True)[0, :, 1].astype(int)
    assert (np.diff(mapped) >= 0).all()
    assert len(set(mapped)) > 120


def test_colors_of_the_wide_gamut_become_more_vivid() -> None:
    red = np.zeros((1, 1, 3), np.uint16)
    red[..., 0] = round(0.45 * 65535)
    red[..., 1:] = round(0.30 * 65535)
    wide = tone_mapped(red, "pq", wide=True)[0, 0].astype(int)
    same = tone_mapped(red, "pq", wide=False)[0, 0].astype(int)
    assert wide[0] - wide[1] > same[0] - same[1] > 0
