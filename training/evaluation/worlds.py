"""The two renderers whose scenes are asked about, behind one small interface.

`own` is the renderer that training draws with, on seeds that training never sees; `second` is one
written apart from it. A figure on the first says how well a model learned its world, one on the
second how much of that was the world and not the renderer.
"""

import io
from enum import StrEnum
from typing import Protocol

import numpy as np
from PIL import Image

from training.evaluation.second_clips import SecondClipWorld
from training.evaluation.second_renderer import SecondRenderer
from training.world.clips import AnyClip, ClipWorld
from training.world.scenes import Scene, random_scene
from training.world.splits import HELD_OUT, SECOND_HELD_OUT

_FILE = 4


class World(StrEnum):
    """Whose scenes."""

    OWN = "own"
    SECOND = "second"

    @property
    def held_out(self) -> range:
        """The seeds that reported figures are measured on."""
        return HELD_OUT if self is World.OWN else SECOND_HELD_OUT

    @property
    def renderer(self) -> "Renderer":
        """Draws this world's scenes."""
        return OwnRenderer() if self is World.OWN else SecondRenderer.load()

    @property
    def clips(self) -> "ClipRenderer":
        """Makes this world's clips."""
        return ClipWorld() if self is World.OWN else SecondClipWorld()


class Renderer(Protocol):
    """Draws scenes with their truth, each from one seed, always the same."""

    def scene(self, seed: int) -> Scene:
        """The scene of a seed."""

    def file(self, scene: Scene, seed: int) -> bytes:
        """That scene as PNG, or as JPEG of quality 60 to 95."""


class ClipRenderer(Protocol):
    """Makes clips with their truth, each from one seed, always the same."""

    def clip(
        self, seed: int, *, size: tuple[int, int] | None = None, frame_count: int | None = None
    ) -> AnyClip:
        """The clip of a seed; its size (width and height) and length can be chosen."""


class OwnRenderer:
    """See `Renderer`: `training.world.scenes`."""

    def scene(self, seed: int) -> Scene:
        return random_scene(np.random.default_rng(seed))

    def file(self, scene: Scene, seed: int) -> bytes:
        rng = np.random.default_rng([seed, _FILE])
        buffer = io.BytesIO()
        if rng.random() < 0.5:
            Image.fromarray(scene.image).save(buffer, "PNG", compress_level=1)
        else:
            Image.fromarray(scene.image).save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
        return buffer.getvalue()
