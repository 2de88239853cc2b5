"""The numbers of a training run, each with its word on the command line, and the schedule.

A trainer's recipe is a frozen subclass of `Recipe`; every field made by `number` becomes an option
of the same name.
"""

import math
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

R = TypeVar("R", bound="Recipe")

_FIRST_STEP = 0.01  # share of the peak learning rate that a warm-up begins with


def number(default: float | None, text: str, kind: type = int) -> Any:
    """A field that the command line can change; `text` says what it is."""
    return field(default=default, metadata={"kind": kind, "text": text})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The numbers of a run in two stages: dense targets alone, then the model's whole task.

    Raises:
        ValueError: the numbers contradict each other.
    """

    steps: int | None = number(1_000, "optimizer steps")
    minutes: float | None = number(
        None,
        "wall clock instead of steps; with --steps as well, whichever ends first. The weights "
        "then depend on how fast the machine is",
        float,
    )
    batch: int = number(8, "images in a batch")
    accumulate: int = number(1, "batches in a step, where memory holds no larger one")
    learning_rate: float = number(1e-3, "peak learning rate of AdamW", float)
    muon_learning_rate: float = number(
        0.0, "peak learning rate of Muon, for matrices; 0 leaves them to AdamW", float
    )
    weight_decay: float = number(0.0, "of matrices", float)
    warm_up: float = number(
        0.05, "share of each stage in which the learning rate rises to its peak", float
    )
    final_rate: float = number(0.0, "share of the peak learning rate at the end", float)
    clip: float = number(1.0, "largest norm of the gradient", float)
    ema: float = number(0.998, "decay of the weights' exponential moving average", float)
    dense_share: float = number(
        0.0, "share of the run that trains the vision encoder alone, on dense targets", float
    )
    dense_weight: float = number(
        0.0, "factor on the dense losses after that; 0 does without them", float
    )
    log_every: int = number(20, "steps between two lines of the log")
    checkpoint_minutes: float = number(5.0, "minutes between two checkpoints", float)
    validate_every: int = number(500, "steps between two validations")
    validation_scenes: int = number(40, "held-out scenes in a validation; 0 does without")
    seed: int = number(0, "of random weights")

    def __post_init__(self) -> None:
        if not self.steps and not self.minutes:
            raise ValueError("a run needs a number of steps or of minutes")

    def progress(self, step: int, minutes: float) -> float:
        """The share of the run that is done after some steps and minutes, 0 to 1."""
        by_step = step / self.steps if self.steps else 0.0
        by_clock = minutes / self.minutes if self.minutes else 0.0
        return min(1.0, max(by_step, by_clock))

    def rate(self, progress: float, start: float) -> float:
        """The factor on a peak learning rate: linear warm-up, then a cosine.

        Args:
            progress: share of the run that is done.
            start: share of the run at which the cosine begins, with a warm-up; before it the
                learning rate stays at its peak.
        """
        began = start if progress >= start else 0.0
        done = (progress - began) / (1.0 - began)
        warm = min(1.0, done / self.warm_up + _FIRST_STEP) if self.warm_up else 1.0
        turn = math.pi * (done if progress >= start else 0.0)
        return warm * (self.final_rate + (1.0 - self.final_rate) * 0.5 * (1.0 + math.cos(turn)))

    def settings(self) -> Mapping[str, object]:
        """All of it by name, for the run's log."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def add_options(parser: ArgumentParser, presets: Mapping[str, Recipe]) -> None:
    """Add an option for every number of a recipe.

    Args:
        parser: gets a group of them.
        presets: recipes of one class by what they are for; their numbers are the defaults.
    """
    group = parser.add_argument_group("recipe", f"defaults: {' / '.join(presets)}")
    for entry in fields(next(iter(presets.values()))):
        if "kind" in entry.metadata:
            values = [getattr(preset, entry.name) for preset in presets.values()]
            shown = ["none" if value is None else f"{value:g}" for value in values]
            group.add_argument(
                f"--{entry.name.replace('_', '-')}",
                type=entry.metadata["kind"],
                dest=f"recipe.{entry.name}",
                metavar="N",
                help=f"{entry.metadata['text']} ({' / '.join(dict.fromkeys(shown))})",
            )


def chosen(recipe: R, arguments: Namespace) -> R:
    """The recipe with the numbers that the command line gives; minutes alone replace its steps.

    Raises:
        ValueError: the numbers contradict each other.
    """
    given = {
        name.removeprefix("recipe."): value
        for name, value in vars(arguments).items()
        if name.startswith("recipe.") and value is not None
    }
    if "minutes" in given:
        given.setdefault("steps", None)
    return replace(recipe, **given)
