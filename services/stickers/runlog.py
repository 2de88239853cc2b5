"""What a training run writes while it runs: ``metrics.jsonl`` in its folder.

Flow: a trainer -> `RunLog` -> ``metrics.jsonl`` -> `read` -> `services.stickers.curves`. One JSON
object a line: ``{"recipe": {...}}`` at every start, then ``{"step", "minutes", "losses"}`` and
``{"step", "minutes", "validation"}`` as they come. Steps that a killed run had logged beyond its
last checkpoint are logged again by the resumed one; the later line counts.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class Entry:
    """Figures of one moment of a run.

    Attributes:
        step: optimiser steps done.
        minutes: of training so far, on whatever machine it ran.
        values: figures by name.
    """

    step: int
    minutes: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """A run's log, read.

    Attributes:
        recipe: the settings of its latest start, by name.
        losses: smoothed parts of the loss and shares that go with them, by step.
        validations: figures on scenes that it did not train on, by step.
    """

    recipe: Mapping[str, object]
    losses: tuple[Entry, ...]
    validations: tuple[Entry, ...]


class RunLog:
    """Appends to the log of the run in a folder, which is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _FILE

    def recipe(self, settings: Mapping[str, object]) -> None:
        """Everything that decides the run's weights and can be told without the machine."""
        self._append({"recipe": dict(settings)})

    def losses(self, step: int, minutes: float, values: Mapping[str, float]) -> None:
        """Smoothed parts of the loss."""
        self._append({"step": step, "minutes": round(minutes, 3), "losses": _rounded(values)})

    def validation(self, step: int, minutes: float, values: Mapping[str, float]) -> None:
        """Figures on held-out scenes, shares of 0 to 1 as far as possible."""
        self._append({"step": step, "minutes": round(minutes, 3), "validation": _rounded(values)})

    def _append(self, line: Mapping[str, object]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")


def last_recipe(folder: Path) -> Mapping[str, object]:
    """The settings of the latest start of the run in a folder; empty where there was none."""
    return read(folder).recipe if (folder / _FILE).exists() else {}


def read(folder: Path) -> Run:
    """The log of the run in a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a line of it is broken, other than the last, which a killed run may leave.
    """
    recipe: Mapping[str, object] = {}
    kinds: dict[str, dict[int, Entry]] = {"losses": {}, "validation": {}}
    lines = (folder / _FILE).read_text(encoding="utf-8").splitlines()
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(f"{folder / _FILE}, line {number}: {error}") from error
        recipe = line.get("recipe", recipe)
        for kind, entries in kinds.items():
            if kind in line:
                entries[line["step"]] = Entry(line["step"], line["minutes"], line[kind])
    losses, validations = (
        tuple(entries[step] for step in sorted(entries)) for entries in kinds.values()
    )
    return Run(recipe, losses, validations)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.5g}") for name, value in values.items()}
