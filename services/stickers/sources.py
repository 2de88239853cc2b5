"""Where training scenes come from: sticker world's renderer, or pictures that people annotated.

Flow: seed -> `SceneSource.scene` -> a trainer's data module -> batches. Both trainers consume
`Scene`s and never ask who made them. Each has a source of its own that draws sticker scenes with
that trainer's habits; `services.stickers.coco.CocoScenes` reads a COCO-style dataset for either.
"""

from typing import Protocol

import numpy as np

from services.stickers.scenes import Scene
from services.stickers.vocabulary import Vocabulary


class SceneSource(Protocol):
    """Gives scenes; the same state of the generator gives the same scene.

    An instance's ``concept.index`` indexes ``vocabulary.concepts``.
    """

    @property
    def vocabulary(self) -> Vocabulary:
        """The concepts that the scenes can show."""

    def scene(
        self,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] | None = None,
        crowded: bool = False,
    ) -> Scene:
        """One scene with at least one instance, which may be a "don't care" one.

        Args:
            rng: source of all choices.
            size: width and height in pixels. A wish: a source of photographs has its own sizes,
                so callers read ``Scene.size``.
            crowded: as much in one picture as the source can show, for stages that only look.
                A wish as well.
        """
