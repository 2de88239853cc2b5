"""Sticker scenes for training the segmenter: a `SceneSource`.

Small pictures (the model sees 240 px), crowds of few concepts, stickers cut by the edge, every
kind of background and weather: what is hard comes more often than in the world itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.segmenter.sampling import PhraseSampler
from training.world.backgrounds import WIDE, draw_background
from training.world.scenes import Scene, compose, random_placements, random_size
from training.world.vocabulary import Concept, Vocabulary
from training.world.weather import weathered
from training.world.wording import words

_SIDES = (240, 480)
_ANY, _INTRICATE = 0.6, 0.15  # shares of scenes; the rest show what looks alike


@dataclass(frozen=True)
class SegmenterScenes:
    """Draws training scenes.

    Attributes:
        sampler: knows which concepts look alike.
    """

    sampler: PhraseSampler

    @property
    def vocabulary(self) -> Vocabulary:
        return self.sampler.book.vocabulary

    def scene(
        self,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] | None = None,
        crowded: bool = False,
    ) -> Scene:
        """A scene; `crowded` lays the stickers of two, see `SceneSource.scene`."""
        frame = random_size(rng, *_SIDES) if size is None else size
        # Stickers of one concept that touch are what is hardest, and small ones what is missed.
        most_kinds = 2 if rng.random() < 0.5 else 5
        longest_side = 0.3 if rng.random() < 0.35 else 0.5
        outside = 0.35 if rng.random() < 0.15 else 0.0
        placements = [
            placement
            for _ in range(2 if crowded else 1)
            for placement in random_placements(
                rng,
                self._pool(rng),
                frame,
                most_kinds=most_kinds,
                longest_side=longest_side,
                outside=outside,
            )
        ]
        return weathered(compose(placements, draw_background(rng, frame, WIDE)), rng)

    def _pool(self, rng: np.random.Generator) -> Sequence[Concept]:
        """Concepts for a scene: the whole vocabulary, a few that look alike, or intricate ones."""
        concepts = self.vocabulary.concepts
        draw = rng.random()
        if draw < _ANY:
            return concepts
        if draw < _ANY + _INTRICATE:
            return [self.vocabulary.by_name[name] for name in words("intricate")]
        first = concepts[rng.integers(len(concepts))]
        others = [concepts[i] for i in rng.choice(len(concepts), 2, replace=False)]
        chosen = {c.index: c for c in (first, *self.sampler.look_alikes[first.index], *others)}
        return tuple(chosen.values())
