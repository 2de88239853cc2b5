"""What a run trains, as the loop sees it: each trainer implements `TrainingTask`."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from training.kit.recipe import Recipe


@dataclass(frozen=True)
class ParameterGroup:
    """Weights that share an optimizer and a learning rate.

    Attributes:
        parameters: trainable ones; none means no group.
        peak: learning rate.
        weight_decay: decoupled, as AdamW's.
        muon: whether Muon trains them, which takes matrices only; otherwise AdamW.
        start: share of the run at which the learning rate begins to fall.
    """

    parameters: Sequence[nn.Parameter]
    peak: float
    weight_decay: float = 0.0
    muon: bool = False
    start: float = 0.0


class TrainingTask(nn.Module, ABC):
    """A model, the heads that are thrown away after training, and what they learn from.

    Everything random in it follows from the step's number, so that a resumed run continues as an
    uninterrupted one would.

    Attributes:
        name: of the trainer, for its log lines.
        recipe: the run's numbers.
    """

    name: str
    recipe: Recipe

    @abstractmethod
    def groups(self) -> Sequence[ParameterGroup]:
        """Every trainable parameter, once."""

    @abstractmethod
    def batches(self, step: int, progress: float) -> Iterator[Any]:
        """The `accumulate` batches of a step: dataclasses of tensors."""

    @abstractmethod
    def losses(self, batch: Any, step: int) -> Mapping[str, Tensor]:
        """Scalars by name: the parts of the loss, and figures to be logged beside them."""

    @abstractmethod
    def total(self, losses: Mapping[str, Tensor], dense: bool) -> Tensor:
        """What is minimized, a scalar; `dense` says that the run is in its first stage."""

    @abstractmethod
    def validate(self) -> Mapping[str, float]:
        """Figures of the model, which is in evaluation mode, on held-out scenes; may be empty."""

    @abstractmethod
    def export(self, folder: Path, *, final: bool) -> None:
        """Write a checkpoint that `from_pretrained` and the service load.

        Args:
            folder: made where it is missing.
            final: whether training has ended; before, a task may write nothing.
        """
