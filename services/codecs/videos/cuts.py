"""Scene cuts: whether a frame shows another scene than the one before.

The measure is the content value of PySceneDetect's `ContentDetector` (Brandon Castellano,
scenedetect.com): the mean change of hue, saturation and brightness over all pixels, on OpenCV's
8-bit scales (hue 0 to 179), with equal weights and its threshold of 27. Two things differ: frames
are made small first, as it does for large ones, here always to 64 x 64; and hue is taken as the
circle that it is, so that red next to red is no change.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CUT_THRESHOLD = 27.0
"""PySceneDetect's default."""

_SIDE = 64
_HUES = 180.0


@dataclass(frozen=True, slots=True)
class SceneSignature:
    """A frame, small, as hue, saturation and brightness: float32 (64, 64, 3)."""

    hsv: NDArray[np.float32]

    @classmethod
    def of(cls, pixels: NDArray[np.uint8]) -> "SceneSignature":
        """The signature of a frame, uint8 (H, W, 3) RGB."""
        small = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        hsv = np.asarray(small.convert("HSV")).astype(np.float32)
        hsv[..., 0] *= _HUES / 256
        return cls(hsv)


def cut_score(previous: SceneSignature, current: SceneSignature) -> float:
    """The mean change from one frame to the next, 0 to about 200."""
    change = np.abs(current.hsv - previous.hsv)
    change[..., 0] = np.minimum(change[..., 0], _HUES - change[..., 0])
    return float(change.mean())


def is_cut(
    previous: SceneSignature, current: SceneSignature, threshold: float = CUT_THRESHOLD
) -> bool:
    """Whether `current` begins another scene."""
    return cut_score(previous, current) >= threshold
