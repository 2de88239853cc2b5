"""The numbers of a planner's run.

`SCRATCH` trains sticker world's tiny planner; `ADAPTING` fine-tunes a checkpoint that can see and
plan already, through LoRA, and `FINE_TUNING` all its weights.
"""

from dataclasses import dataclass, replace

from training.kit.recipe import Recipe, number


@dataclass(frozen=True, kw_only=True)
class PlannerRecipe(Recipe):
    """See `Recipe`; the first stage trains the vision tower, on what its soft tokens show."""

    steps: int | None = number(6_000, "optimizer steps")
    questions: int = number(5, "about an image, packed behind it into one row")
    learning_rate: float = number(1.5e-3, "peak learning rate of AdamW", float)
    muon_learning_rate: float = number(
        5e-3, "peak learning rate of Muon, for matrices; 0 leaves them to AdamW", float
    )
    weight_decay: float = number(0.05, "of matrices", float)
    warm_up: float = number(
        0.02, "share of each stage in which the learning rate rises to its peak", float
    )
    dense_share: float = number(0.3, "share of the run that trains the vision tower alone", float)
    dense_weight: float = number(
        0.3, "factor on the dense losses after that; 0 does without them", float
    )
    present_weight: float = number(0.3, "of the presence loss beside the dense one", float)
    answer_weight: float = number(2.0, "of the answers' loss", float)
    review_every: int = number(10, "every N-th step has reviews of candidates")
    examples_share: float = number(
        0.5, "share of a step's images that come from --examples, with --coco as well", float
    )

    @property
    def dense(self) -> bool:
        """Whether there is a head that reads concepts off the soft tokens."""
        return self.dense_share > 0 or self.dense_weight > 0


SCRATCH = PlannerRecipe()
FINE_TUNING = replace(
    SCRATCH,
    steps=1_000,
    batch=4,
    questions=6,
    learning_rate=1e-5,
    muon_learning_rate=0.0,
    weight_decay=0.0,
    warm_up=0.05,
    ema=0.99,
    dense_share=0.0,
    dense_weight=0.0,
    answer_weight=1.0,
)
ADAPTING = replace(FINE_TUNING, learning_rate=2e-4)
