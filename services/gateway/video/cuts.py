"""Scene cuts, seen where they matter to a plan: between two key frames of a file.

Encoders put a key frame where the scene changes, and key frames can be decoded alone.
"""

import numpy as np
from numpy.typing import NDArray

from services.codecs.videos.cuts import SceneSignature, is_cut

# Longer side of what is compared.
LOOK_SIDE = 64
# Key frames nearer to each other than this are not compared: a file may consist of them.
EVERY_S = 0.5


class CutWatch:
    """Compares each key frame that it is shown to the one before."""

    def __init__(self) -> None:
        self._last: SceneSignature | None = None
        self._seen_s = -EVERY_S

    def due(self, time_s: float) -> bool:
        """Whether a key frame at `time_s` should be looked at."""
        return time_s - self._seen_s >= EVERY_S

    def begins_scene(self, pixels: NDArray[np.uint8], time_s: float) -> bool:
        """Whether a new scene begins with uint8 (H, W, 3), shown at `time_s`."""
        self._seen_s = time_s
        last, self._last = self._last, SceneSignature.of(pixels)
        return last is not None and is_cut(last, self._last)
