"""How long, how fast and on what a run trains: the schedule that the loop follows.

`Plan()` trains the tiny model from scratch, `fine_tuning()` any SAM 3 on a dataset.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from services.stickers.segmenter.losses import LossWeights

_FLOOR = 0.02  # share of the peak at which the learning rate ends


@dataclass(frozen=True)
class Plan:
    """One run, in two stages: dense heads alone, then pairs of image and phrase.

    Attributes:
        steps: at most this many; the default takes about 2.5 hours of one core.
        minutes: at most this much wall clock; the schedule follows whichever share is larger. With
            it, how many steps a run has and where each lies on the schedule depends on the machine.
        dense_images, images: images a step in the dense stage and after it.
        accumulate: batches of so many images whose gradients make one step.
        dense_share: share of the run for the dense stage.
        exemplar_from: share of the run after which some steps show exemplars.
        exemplar_every: one step in so many.
        learning_rate: peak.
        matrix_rate: factor on it for the matrices that Muon trains; None trains all with AdamW.
        vision_rate, text_rate: factors on it for the vision and the text encoder, with AdamW alone.
        weight_decay: of matrices; vectors are not decayed.
        warm_up: steps, at the start and again when the pairs begin.
        average: decay of the weights' moving average.
        checkpoint_every, validate_every: steps.
        dense_weight: factor on the dense losses once pairs are trained; 0 does without dense heads.
        weights: factors on the parts of the loss.
    """

    steps: int = 4_500
    minutes: float = math.inf
    dense_images: int = 16
    images: int = 8
    accumulate: int = 1
    dense_share: float = 0.14
    exemplar_from: float = 0.5
    exemplar_every: int = 4
    learning_rate: float = 1e-3
    matrix_rate: float | None = 2.5
    vision_rate: float = 1.0
    text_rate: float = 1.0
    weight_decay: float = 0.03
    warm_up: int = 150
    average: float = 0.998
    checkpoint_every: int = 200
    validate_every: int = 500
    dense_weight: float = 0.6
    weights: LossWeights = field(default_factory=LossWeights)

    def __post_init__(self) -> None:
        if self.dense_share > 0 and not self.dense:
            raise ValueError("a dense stage (dense_share) needs dense heads (dense_weight)")

    @property
    def dense(self) -> bool:
        """Whether there are dense heads at all."""
        return self.dense_weight > 0

    def progress(self, step: int, minutes: float) -> float:
        """Share of the run that is done after so many steps and minutes, 0 to 1."""
        return min(1.0, max(step / self.steps, minutes / self.minutes))

    def rate(self, progress: float, since: int) -> float:
        """Factor on the peak learning rate: warm-up, then a cosine over the pairs' stage.

        Args:
            progress: share of the run that is done.
            since: steps since the start, or since the pairs began.
        """
        warm = min(1.0, (since + 1) / self.warm_up)
        share = max(0.0, progress - self.dense_share) / (1 - self.dense_share)
        return warm * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * share)))

    def settings(self) -> Mapping[str, object]:
        """All of it by name, for the run's log; what is not JSON is left out."""
        settings = asdict(self)
        del settings["weights"]
        named = {f"weight of {name}": value for name, value in self.weights.by_name.items()}
        return {key: value for key, value in (settings | named).items() if value != math.inf}


def fine_tuning() -> Plan:
    """For a SAM 3 that has learnt the world already.

    Rates and decay are those of Meta's recipe for small datasets (facebookresearch/sam3,
    ``roboflow_v100_full_ft_100_images.yaml``): 8e-5, for the vision encoder 2.5e-5, for the
    text encoder 5e-6.
    """
    return Plan(
        steps=2_000,
        images=1,
        accumulate=4,
        dense_share=0.0,
        exemplar_from=0.0,
        learning_rate=8e-5,
        matrix_rate=None,
        vision_rate=0.3125,
        text_rate=0.0625,
        weight_decay=0.1,
        warm_up=100,
        dense_weight=0.0,
    )
