"""Plans executed on a scene's true masks: what a plan is worth with a perfect segmenter.

Flow: a scene and a plan -> `execute` -> the instances it answers, to compare with an
instruction's truth. "Don't care" instances are never found, so they are neither wanted nor
counted against.
"""

from dataclasses import dataclass

import numpy as np

from services.domain import ConceptQuery, Plan, SelectBy
from services.stickers.phrases import PhraseBook
from services.stickers.scenes import Instance, Scene


@dataclass(frozen=True)
class Oracle:
    """Executes plans in the words of one phrase book."""

    phrases: PhraseBook

    def execute(self, plan: Plan, scene: Scene) -> frozenset[int]:
        """Indices into `scene.instances` of what `plan` answers; `review` rejects nothing."""
        found = self._found(plan.include, scene) - self._found(plan.exclude, scene)
        if plan.select is None:
            return frozenset(found)
        by = plan.select.by
        ranked = sorted(found, key=lambda index: _key(scene.instances[index], scene.size, by))
        first = plan.select.rank - 1
        return frozenset(ranked[first : first + plan.select.count])

    def _found(self, queries: tuple[ConceptQuery, ...], scene: Scene) -> set[int]:
        kinds = {
            concept for query in queries for concept in self.phrases.matching_concepts(query.phrase)
        }
        return {
            index
            for index, instance in enumerate(scene.instances)
            if instance.concept.index in kinds and not instance.dont_care
        }


def _key(instance: Instance, size: tuple[int, int], by: SelectBy) -> float:
    x, y = instance.centroid
    match by:
        case SelectBy.LEFTMOST:
            return x
        case SelectBy.RIGHTMOST:
            return -x
        case SelectBy.TOPMOST:
            return y
        case SelectBy.BOTTOMMOST:
            return -y
        case SelectBy.LARGEST:
            return -float(instance.area)
        case SelectBy.SMALLEST:
            return float(instance.area)
        case SelectBy.NEAREST_CENTER:
            return float(np.hypot(x - size[0] / 2, y - size[1] / 2))
        case SelectBy.HIGHEST_SCORE:  # all true masks score alike: the order laid down stands
            return 0.0
