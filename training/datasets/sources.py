"""Where training scenes come from: sticker world's renderer, or pictures that people annotated.

Flow: seed -> `SceneSource.scene` -> a trainer's data module -> batches. Both trainers consume
`Scene`s and never ask who made them. Each has a source that draws sticker scenes for its training;
`training.datasets.coco.CocoScenes` reads a COCO-style dataset for either.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from training.world.scenes import Scene, random_scene
from training.world.vocabulary import Vocabulary


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
            crowded: as much in one picture as the source can show, which is hardest to read.
                A wish as well.
        """


@dataclass(frozen=True)
class WorldScenes:
    """Scenes exactly after sticker world's definition, as a trainer's validation asks for them.

    Attributes:
        vocabulary: the shipped one.
        size: of every scene, width and height in pixels; by default drawn, 256 to 1600 a side.
    """

    vocabulary: Vocabulary = field(default_factory=Vocabulary.load)
    size: tuple[int, int] | None = None

    def scene(
        self,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] | None = None,
        crowded: bool = False,
    ) -> Scene:
        """See `SceneSource.scene`; no scene of the world is more crowded than another."""
        return random_scene(rng, concepts=self.vocabulary.concepts, size=size or self.size)
