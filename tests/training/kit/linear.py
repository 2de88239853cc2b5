"""A training task of a few weights, for what the kit does with any."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.kit.recipe import Recipe
from training.kit.task import ParameterGroup, TrainingTask

RECIPE = Recipe(
    steps=6,
    batch=4,
    learning_rate=0.05,
    warm_up=0.0,
    ema=0.9,
    dense_share=0.3,
    dense_weight=0.5,
    log_every=2,
    validate_every=4,
)


@dataclass(frozen=True)
class LinearBatch:
    inputs: Tensor
    dense: bool


class LinearTask(TrainingTask):
    """Learns to negate a vector: a matrix for Muon, a bias for AdamW, dropout, a frozen part."""

    name = "linear"

    def __init__(self, recipe: Recipe = RECIPE, muon: bool = True) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.recipe = recipe
        self.muon = muon
        self.model = nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.dropout = nn.Dropout(0.2)
        self.validated: list[tuple[bool, Tensor]] = []
        self.exported: list[tuple[bool, Tensor]] = []
        self.drawn: list[int] = []

    def groups(self) -> Sequence[ParameterGroup]:
        rate = self.recipe.learning_rate
        return [
            ParameterGroup([self.model.weight], rate, muon=self.muon),
            ParameterGroup([self.model.bias], rate, start=self.recipe.dense_share),
        ]

    def batches(self, step: int, progress: float) -> Iterator[LinearBatch]:
        for part in range(self.recipe.accumulate):
            generator = torch.Generator().manual_seed(step * self.recipe.accumulate + part)
            inputs = torch.randn(self.recipe.batch, 4, generator=generator)
            yield LinearBatch(inputs, progress < self.recipe.dense_share)

    def losses(self, batch: LinearBatch, step: int) -> Mapping[str, Tensor]:
        output = self.dropout(self.frozen(self.model(batch.inputs)))
        dense = {"dense": output.square().mean()}
        error = functional.mse_loss(output, -self.frozen(batch.inputs))
        return dense if batch.dense else dense | {"error": error}

    def total(self, losses: Mapping[str, Tensor], dense: bool) -> Tensor:
        if dense:
            return losses["dense"]
        return self.recipe.dense_weight * 0.01 * losses["dense"] + losses["error"]

    def validate(self) -> Mapping[str, float]:
        self.validated.append((self.training, self.model.weight.detach().clone()))
        return {"f1": 0.25} if self.recipe.validation_scenes else {}

    def export(self, folder: Path, *, final: bool) -> None:
        self.exported.append((final, self.model.weight.detach().clone()))


def linear(**numbers: float) -> LinearTask:
    """A task of `RECIPE`, changed."""
    return LinearTask(replace(RECIPE, **numbers))
