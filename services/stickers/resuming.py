"""Optimisers that go on where a checkpoint left them."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer


def go_on(optimizers: Sequence[Optimizer], saved: Sequence[Mapping[str, Any]]) -> None:
    """Give optimisers the moments of a checkpoint; in place.

    Rates, decays and whatever else a group says stay as the optimiser's maker set them, so that a
    run which is started again with another rate has that rate.

    Args:
        optimizers: new, over the same weights in the same groups.
        saved: their ``state_dict()``s.

    Raises:
        ValueError: there were other groups, or more or fewer weights in one.
    """
    for optimizer, state in zip(optimizers, saved, strict=True):
        groups = [
            {**own, "params": old["params"]}
            for own, old in zip(optimizer.param_groups, state["param_groups"], strict=True)
        ]
        optimizer.load_state_dict({"state": state["state"], "param_groups": groups})
