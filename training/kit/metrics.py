"""The log of a training run: ``metrics.jsonl`` in its folder, and the same for TensorBoard.

One JSON object a line: ``{"recipe": {...}}`` at every start, then ``{"step", "minutes", "losses"}``
and ``{"step", "minutes", "validation"}``. Steps that a killed run logged after its last checkpoint
are logged again by the resumed one; the later line counts.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from services.codecs import strict_json

_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class LogEntry:
    """Figures by name, after `step` optimizer steps and `minutes` of training."""

    step: int
    minutes: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class RunHistory:
    """A run's log: the settings of its latest start, smoothed losses, validation figures."""

    recipe: Mapping[str, object]
    losses: tuple[LogEntry, ...]
    validations: tuple[LogEntry, ...]


class MetricsLog:
    """Appends to the log of the run in a folder, which is made where it is missing."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        _drop_cut_line(folder / _FILE)

    def recipe(self, settings: Mapping[str, object]) -> None:
        """Everything that decides the run's weights and does not depend on the machine."""
        self._append({"recipe": dict(settings)})

    def losses(self, step: int, minutes: float, values: Mapping[str, float]) -> None:
        """Smoothed parts of the loss."""
        self._entry("losses", step, minutes, values)

    def validation(self, step: int, minutes: float, values: Mapping[str, float]) -> None:
        """Figures on held-out scenes."""
        self._entry("validation", step, minutes, values)

    def _entry(self, kind: str, step: int, minutes: float, values: Mapping[str, float]) -> None:
        rounded = {name: float(f"{value:.5g}") for name, value in values.items()}
        self._append({"step": step, "minutes": round(minutes, 3), kind: rounded})
        for name, value in rounded.items():
            self._tensorboard.add_scalar(f"{kind}/{name}", value, step)
        self._tensorboard.flush()

    @cached_property
    def _tensorboard(self) -> SummaryWriter:
        return SummaryWriter(self._folder)

    def _append(self, line: Mapping[str, object]) -> None:
        with (self._folder / _FILE).open("a", encoding="utf-8") as log:
            # A loss that is not finite is a gap here; JSON has no number for it.
            log.write(strict_json.dumps(strict_json.finite(line)) + "\n")


def _drop_cut_line(log: Path) -> None:
    """Remove a last line that a killed run left without its end, so that none is joined to it."""
    if log.exists() and not (content := log.read_bytes()).endswith(b"\n"):
        with log.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def last_recipe(folder: Path) -> Mapping[str, object]:
    """The settings of the latest start of the run in a folder; empty where there was none."""
    return read(folder).recipe if (folder / _FILE).exists() else {}


def read(folder: Path) -> RunHistory:
    """The log of the run in a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a line is broken, other than the last, which a killed run may leave.
    """
    recipe: Mapping[str, object] = {}
    kinds: dict[str, dict[int, LogEntry]] = {"losses": {}, "validation": {}}
    lines = (folder / _FILE).read_text(encoding="utf-8").splitlines()
    for number, text in enumerate(lines, start=1):
        try:
            line = json.loads(text)  # with NaN, as earlier versions wrote it
        except ValueError as error:
            if number == len(lines):
                break
            raise ValueError(f"{folder / _FILE}, line {number}: {error}") from error
        recipe = line.get("recipe", recipe)
        for kind, entries in kinds.items():
            if kind in line:
                values = {
                    name: math.nan if value is None else value for name, value in line[kind].items()
                }
                entries[line["step"]] = LogEntry(line["step"], line["minutes"], values)
    losses, validations = (
        tuple(entries[step] for step in sorted(entries)) for entries in kinds.values()
    )
    return RunHistory(recipe, losses, validations)
