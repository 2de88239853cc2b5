"""Which optimiser trains which weights, and how fast at each point of the run.

Muon (Jordan et al., 2024) with AdamW's step size (Liu et al., 2025) trains the matrices between
hidden states: it learns more from each of the few examples that a CPU can afford. AdamW trains the
rest, and everything where weights that AdamW has made are only fine-tuned. Weights that need no
gradient are left out, so that of a LoRA run only the adapter has state.
"""

import math
from typing import Any

import torch
from torch import nn

from services.stickers.planner.losses import Student
from services.stickers.planner.recipe import Recipe


def optimisers(student: Student, recipe: Recipe) -> tuple[torch.optim.Optimizer, ...]:
    """The optimisers of all weights that are to be trained; see `set_rates` for their groups."""
    towers = [(tower, _trained(student, tower)) for tower in ("vision", "text")]
    muon, adam = [], []
    for tower, weights in towers:
        matrices = [p for name, p in weights.items() if recipe.matrix_rate and _is_matrix(name, p)]
        chosen = {id(matrix) for matrix in matrices}
        others = [p for p in weights.values() if id(p) not in chosen]
        muon.append({"params": matrices, "tower": tower, "peak": recipe.matrix_rate})
        adam.append({"params": others, "tower": tower, "peak": recipe.rate})
    made: list[torch.optim.Optimizer] = []
    if muon := _filled(muon):
        made.append(
            torch.optim.Muon(
                muon,
                lr=0.0,
                weight_decay=recipe.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        )
    if adam := _filled(adam):
        made.append(torch.optim.AdamW(adam, lr=0.0, betas=(0.9, 0.98), weight_decay=0.0))
    return tuple(made)


def set_rates(optimizer: torch.optim.Optimizer, progress: float, recipe: Recipe) -> None:
    """Set the learning rate of each group: its peak, times where its tower's schedule stands."""
    for group in optimizer.param_groups:
        # The language model starts with its phase.
        start = 0.0 if group["tower"] == "vision" else recipe.vision_share
        group["lr"] = group["peak"] * schedule(progress, start, recipe.warm_up)


def schedule(progress: float, start: float, warm_up: float) -> float:
    """Warm-up, then a cosine to nothing: the share of the peak rate.

    Args:
        progress: share of the run that is done.
        start: share of the run at which the schedule begins.
        warm_up: share of what follows in which the rate rises.
    """
    done = (progress - start) / (1.0 - start)
    rising = min(1.0, max(0.0, done) / warm_up + 1e-2)
    return rising * 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, done))))


def _trained(student: Student, tower: str) -> dict[str, nn.Parameter]:
    """The weights of the vision side (with the head), or those of the language model."""
    return {
        name: parameter
        for name, parameter in student.named_parameters()
        if parameter.requires_grad
        and (name.startswith("head.") or "vision" in name) == (tower == "vision")
    }


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether it lies between hidden states, which is what Muon is made for."""
    return parameter.ndim == 2 and ".layers." in name


def _filled(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [group for group in groups if group["params"]]
