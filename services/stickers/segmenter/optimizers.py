"""Who changes which weights: Muon and AdamW for a new model, AdamW alone to fine-tune one.

Every parameter group carries its own ``peak``; the loop multiplies it by the schedule. Frozen
weights are in no group.
"""

from collections.abc import Iterable

import torch
from torch import nn

from services.stickers.segmenter.plan import Plan
from services.stickers.segmenter.student import Student

_BETAS = (0.9, 0.98)
_FINE_RATE = 3.0  # factor on the learning rate


def optimizers(student: Student, plan: Plan) -> tuple[torch.optim.Optimizer, ...]:
    """The optimisers of a plan; together they hold every trainable parameter once.

    Args:
        student: whose parameters. The fine heads, which start late, learn faster than the rest.
        plan: which optimisers, and how fast.
    """
    heads = [] if student.heads is None else [student.heads]
    module = nn.ModuleList([student.model, *heads])
    if plan.matrix_rate is None:
        own: tuple[torch.optim.Optimizer, ...] = (_adamw(module, plan),)
    else:
        own = _muon_and_adamw(module, plan, plan.learning_rate * plan.matrix_rate)
    if student.fine is None:
        return own
    peak = _FINE_RATE * plan.learning_rate
    group = {"params": list(student.fine.parameters()), "peak": peak}
    return (*own, torch.optim.AdamW([group], betas=_BETAS))


def _muon_and_adamw(
    module: nn.Module, plan: Plan, matrix_peak: float
) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of linear layers, AdamW for all else.

    Muon (Jordan et al., 2024) with AdamW's step size (Liu et al., 2025) learns more from each
    of the few examples that a CPU can afford.
    """
    linear = [part.weight for part in module.modules() if isinstance(part, nn.Linear)]
    matrices = [weight for weight in linear if weight.requires_grad]
    chosen = {id(matrix) for matrix in matrices}
    others = [p for p in _trainable(module.parameters()) if id(p) not in chosen]
    return (
        torch.optim.Muon(
            [{"params": matrices, "peak": matrix_peak}],
            weight_decay=plan.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(_groups(others, plan.learning_rate, plan), betas=_BETAS, foreach=True),
    )


def _adamw(module: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    """AdamW, slower for the two encoders: they know most, and least of it is the dataset's."""
    parts: dict[str, list[nn.Parameter]] = {"vision_encoder": [], "text_encoder": [], "": []}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            part = next(part for part in parts if part in name)
            parts[part].append(parameter)
    factors = (plan.vision_rate, plan.text_rate, 1.0)
    groups = [
        group
        for parameters, factor in zip(parts.values(), factors, strict=True)
        for group in _groups(parameters, plan.learning_rate * factor, plan)
    ]
    return torch.optim.AdamW(groups, betas=_BETAS, foreach=True)


def _groups(parameters: Iterable[nn.Parameter], peak: float, plan: Plan) -> list[dict[str, object]]:
    """Up to two groups of a common rate: what is decayed, and vectors, which are not."""
    own = list(parameters)
    decays = (
        (plan.weight_decay, [p for p in own if p.ndim > 1]),
        (0.0, [p for p in own if p.ndim <= 1]),
    )
    return [
        {"params": chosen, "peak": peak, "weight_decay": decay}
        for decay, chosen in decays
        if chosen
    ]


def _trainable(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.requires_grad]
