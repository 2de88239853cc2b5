"""Optimizers: Muon (Jordan et al., 2024) for matrices of new models, AdamW for everything else.

With AdamW's step size (Liu et al., 2025), Muon learns more from each of the few examples that a
CPU can afford. Weights that AdamW has made are fine-tuned with AdamW.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.optim import AdamW, Muon, Optimizer

from training.kit.recipe import Recipe
from training.kit.task import ParameterGroup

_BETAS = (0.9, 0.98)


def optimizers(groups: Iterable[ParameterGroup]) -> tuple[Optimizer, ...]:
    """One optimizer of each kind that the groups ask for; `set_rates` sets learning rates."""
    muon: list[dict[str, Any]] = []
    adamw: list[dict[str, Any]] = []
    for group in groups:
        settings = {"peak": group.peak, "start": group.start, "weight_decay": group.weight_decay}
        if group.parameters:
            (muon if group.muon else adamw).append({"params": list(group.parameters), **settings})
    made: list[Optimizer] = []
    if muon:
        made.append(Muon(muon, lr=0.0, adjust_lr_fn="match_rms_adamw"))
    if adamw:
        made.append(AdamW(adamw, lr=0.0, betas=_BETAS, foreach=True))
    return tuple(made)


def set_rates(made: Sequence[Optimizer], recipe: Recipe, progress: float) -> None:
    """Set the learning rates of optimizers made by `optimizers`, by the recipe's schedule."""
    for optimizer in made:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * recipe.rate(progress, group["start"])


def restore(made: Sequence[Optimizer], saved: Sequence[Mapping[str, Any]]) -> None:
    """Load the moments of a checkpoint, in place.

    Learning rates and weight decay stay as they are, so that a run which is started again with
    other ones has those.

    Args:
        made: over the same weights in the same groups.
        saved: their ``state_dict()``s.

    Raises:
        ValueError: there were other groups, or more or fewer weights in one.
    """
    for optimizer, state in zip(made, saved, strict=True):
        kept = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        optimizer.load_state_dict(dict(state))
        for group, settings in zip(optimizer.param_groups, kept, strict=True):
            group.update(settings)
