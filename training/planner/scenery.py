"""Sticker scenes as the planner's trainer wants them: wider than the world draws them.

Flow: seed -> `PlannerScenes.scene` -> `training.planner.examples`. There are backgrounds
and weather that the world does not know, stickers that reach over the edge, crowds, and more small
things and people than there would be by chance, since those are what a planner overlooks or mixes
up. PlannerFigures are measured on `training.datasets.sources.WorldScenes`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.world.backgrounds import WIDE, draw_background
from training.world.scenes import Scene, compose, random_placements, random_size
from training.world.vocabulary import Concept, Vocabulary
from training.world.weather import weathered
from training.world.wording import pick, weighted

_SIDES = (256, 600)  # pixels; the model sees about 380, larger scenes only cost rendering
# Share of the scenes that show hardly anything but people and animals.
_SUBJECT_SHARE = 0.4
# Share of those that show hardly anything but people; it lies within the above.
_PEOPLE_SHARE = 0.12
# Share of the scenes that show one category: things that look most like one another.
_CATEGORY_SHARE = 0.15


@dataclass(frozen=True)
class PlannerScenes:
    """Sticker scenes drawn widely; see `SceneSource`."""

    vocabulary: Vocabulary

    def scene(
        self,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] | None = None,
        crowded: bool = False,
    ) -> Scene:
        """A scene; crowded ones have two scenes' stickers on one background."""
        frame = size or training_size(rng)
        if crowded:
            longest = _longest_side(rng)
            placements = sum(
                (
                    random_placements(rng, self._pool(rng), frame, longest_side=longest)
                    for _ in range(2)
                ),
                (),
            )
        else:
            outside = 0.35 if rng.random() < 0.15 else 0.0
            placements = random_placements(
                rng, self._pool(rng), frame, longest_side=_longest_side(rng), outside=outside
            )
        return weathered(compose(placements, draw_background(rng, frame, WIDE)), rng)

    def _pool(self, rng: np.random.Generator) -> Sequence[Concept]:
        """What a scene draws from: all concepts, one category, mostly subjects or mostly people."""
        concepts = self.vocabulary.concepts
        draw = rng.random()
        if draw > 1 - _CATEGORY_SHARE:
            return pick(rng, list(self.vocabulary.by_category.values()))
        if draw > _SUBJECT_SHARE:
            return concepts
        # Faces differ little, and "the main subjects" depends on them.
        people = draw < _PEOPLE_SHARE
        chosen = [c for c in concepts if (c.category == "person" if people else c.subject)]
        others = [concept for concept in concepts if concept not in chosen]
        picked = rng.choice(len(others), 3 if people else 4, replace=False)
        return (*chosen, *(others[i] for i in picked))


def training_size(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height of a training scene."""
    return random_size(rng, *_SIDES)


def _longest_side(rng: np.random.Generator) -> float:
    """How large a scene's stickers get: small ones are what a planner overlooks."""
    return weighted(rng, {0.2: 0.2, 0.3: 0.35, 0.5: 0.45})
