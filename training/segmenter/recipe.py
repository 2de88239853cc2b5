"""The numbers of a segmenter's run: `SCRATCH` trains the tiny model, `FINE_TUNING` any SAM 3."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from training.kit.recipe import Recipe, number
from training.segmenter.losses import LossWeights


@dataclass(frozen=True, kw_only=True)
class SegmenterRecipe(Recipe):
    """See `Recipe`; the defaults take about 2.5 hours of one core.

    Attributes:
        weights: factors on the parts of the loss.
    """

    steps: int | None = number(4_500, "optimizer steps")
    muon_learning_rate: float = number(
        2.5e-3, "peak learning rate of Muon, for matrices; 0 leaves them to AdamW", float
    )
    weight_decay: float = number(0.03, "of matrices", float)
    warm_up: float = number(
        0.033, "share of each stage in which the learning rate rises to its peak", float
    )
    final_rate: float = number(0.02, "share of the peak learning rate at the end", float)
    dense_share: float = number(
        0.14, "share of the run that trains the encoders alone, without phrases", float
    )
    dense_weight: float = number(
        0.6, "factor on the token-wise losses after that; 0 does without them", float
    )
    dense_batch: int = number(16, "images in a batch of that first stage")
    exemplar_from: float = number(
        0.5, "share of the run after which some steps show exemplar boxes", float
    )
    exemplar_every: int = number(4, "every N-th step shows them")
    vision_rate: float = number(1.0, "factor on AdamW's rate for the vision encoder", float)
    text_rate: float = number(1.0, "factor on AdamW's rate for the text encoder", float)
    log_every: int = number(50, "steps between two lines of the log")
    validation_scenes: int = number(60, "held-out scenes in a validation; 0 does without")
    seed: int = number(1, "of random weights")
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dense_share > 0 and not self.dense_weight:
            raise ValueError("a dense stage (dense_share) needs dense heads (dense_weight)")

    def settings(self) -> Mapping[str, object]:
        """See `Recipe.settings`; each loss weight under its own name."""
        weights = {f"weight of {name}": value for name, value in self.weights.by_name.items()}
        return {k: v for k, v in super().settings().items() if k != "weights"} | weights


SCRATCH = SegmenterRecipe()

# Rates and decay are those of Meta's recipe for small datasets (facebookresearch/sam3,
# `roboflow_v100_full_ft_100_images.yaml`): 8e-5, vision encoder 2.5e-5, text encoder 5e-6.
FINE_TUNING = replace(
    SCRATCH,
    steps=2_000,
    batch=1,
    accumulate=4,
    dense_share=0.0,
    exemplar_from=0.0,
    learning_rate=8e-5,
    muon_learning_rate=0.0,
    vision_rate=0.3125,
    text_rate=0.0625,
    weight_decay=0.1,
    warm_up=0.05,
    dense_weight=0.0,
)
