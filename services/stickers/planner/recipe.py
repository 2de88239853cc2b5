"""Everything that decides how a run goes, in one place.

`Recipe()` trains sticker world's tiny planner; `ADAPTING` fine-tunes a checkpoint that can see and
plan already, through LoRA, and `FINE_TUNING` all its weights.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """The numbers of a run.

    Attributes:
        steps: the run's length, over which the learning rate falls to nothing; None where only
            the clock counts.
        minutes: budget of wall clock. Where both are given, whichever is nearer its end counts.
            The weights then depend on the machine's speed, and so does a restart.
        vision_share: of the run, spent on the vision phase.
        scenes: a step.
        questions: a scene.
        accumulate: so many batches of `scenes` are one step, where memory holds no larger one.
        review_every: each so many steps of the second phase is one of candidate reviews.
        own_share: of a step's scenes, pictures of one's own examples, where there are any.
        matrix_rate: peak learning rate of Muon, which trains the layers' matrices; 0 leaves them
            to AdamW.
        rate: peak learning rate of AdamW, which trains everything else.
        warm_up: share of a phase in which its learning rate rises.
        weight_decay: Muon's.
        clip: the gradient's norm, at most.
        average: how slowly the averaged weights follow, which are what is exported.
        present_weight: of the presence loss, beside the dense loss.
        dense_weight: of both in the second phase. 0, without a vision phase: there is no head.
        answer_weight: of the answers.
        seed: first part of every scene's seed; lies in `splits.TRAINING`.
    """

    steps: int | None = 6000
    minutes: float | None = None
    vision_share: float = 0.3
    scenes: int = 8
    questions: int = 5
    accumulate: int = 1
    review_every: int = 10
    own_share: float = 0.5
    matrix_rate: float = 5e-3
    rate: float = 1.5e-3
    warm_up: float = 0.02
    weight_decay: float = 0.05
    clip: float = 1.0
    average: float = 0.998
    present_weight: float = 0.3
    dense_weight: float = 0.3
    answer_weight: float = 2.0
    seed: int = 1_000_000_000

    def __post_init__(self) -> None:
        if not self.steps and not self.minutes:
            raise ValueError("a run needs a number of steps or of minutes")

    @property
    def looks(self) -> bool:
        """Whether the head that tells concepts apart is trained at all."""
        return self.vision_share > 0 or self.dense_weight > 0


FINE_TUNING = Recipe(
    steps=1000,
    vision_share=0.0,
    scenes=4,
    questions=6,
    matrix_rate=0.0,
    rate=1e-5,
    warm_up=0.05,
    average=0.99,
    dense_weight=0.0,
    answer_weight=1.0,
)
ADAPTING = replace(FINE_TUNING, rate=2e-4)
