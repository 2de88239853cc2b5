"""Plans executed on a scene's true masks: what a plan is worth with a perfect segmenter.

"Don't care" instances are never found, so they are neither wanted nor counted against.
"""

from collections.abc import Sequence

from limelight.values import ConceptQuery, Plan, SelectBy
from services.selection import rank_key
from training.world.phrases import PhraseBook
from training.world.scenes import Scene, SceneInstance


def execute(plan: Plan, scene: Scene, phrases: PhraseBook) -> frozenset[int]:
    """Indices into `scene.instances` of what a plan answers; its `review` rejects nothing.

    Args:
        plan: to execute.
        scene: with its true masks.
        phrases: what the plan's phrases mean.
    """

    def found(queries: Sequence[ConceptQuery]) -> set[int]:
        kinds = {kind for query in queries for kind in phrases.matching_concepts(query.phrase)}
        return {
            index
            for index, instance in enumerate(scene.instances)
            if instance.concept.index in kinds and not instance.dont_care
        }

    kept = found(plan.include) - found(plan.exclude)
    if (select := plan.select) is None:
        return frozenset(kept)
    ranked = sorted(kept, key=lambda i: sort_key(scene.instances[i], scene.size, select.by))
    return frozenset(ranked[select.rank - 1 : select.rank - 1 + select.count])


def sort_key(instance: SceneInstance, size: tuple[int, int], by: SelectBy) -> float:
    """Where an instance of an image of `size` (width, height) stands in an order; least first.

    All true masks score alike, so that an order by score is the given one.
    """
    width, height = size
    return rank_key(
        by,
        position=instance.centroid,
        area=int(instance.area),
        score=1.0,
        width=width,
        height=height,
    )
