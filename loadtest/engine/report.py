"""What a run of the bench found: rows for people, and the same as JSON for programs."""

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


class WrongAnswer(AssertionError):
    """Two ways to the same answer differ by more than they may."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One row.

    Attributes:
        name: what was measured.
        value, unit: the figure.
        baseline: the same by the card's loop, where there is one.
        note: what else there is to say.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    note: str = ""


@dataclass(slots=True)
class BenchReport:
    """The rows of a run, its failures, and the time that it may still take."""

    seconds: float
    figures: list[Figure] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        return self.began + self.seconds - time.monotonic()

    def add(
        self, name: str, value: float, unit: str, baseline: float | None = None, note: str = ""
    ) -> None:
        """Keep a figure, and print it at once: a run may be cut off."""
        figure = Figure(name, value, unit, baseline, note)
        self.figures.append(figure)
        print(_line(figure), flush=True)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part that may fail without losing the others; a wrong answer ends the run."""
        print(f"-- {name} ({self.left_s:.0f} s left)", flush=True)
        try:
            yield
        except WrongAnswer:
            raise
        except Exception:
            self.failures[name] = traceback.format_exc(limit=4)
            print(self.failures[name], flush=True)

    def run(self, name: str, work: Callable[[], Any], needs_s: float) -> None:
        """Run a part if `needs_s` seconds are left for it."""
        if self.left_s < needs_s:
            self.skipped.append(name)
            print(f"-- {name}: skipped, {self.left_s:.0f} s left", flush=True)
            return
        with self.part(name):
            work()

    def table(self) -> str:
        """Markdown."""
        lines = ["| what | ours | card's loop | ratio | |", "| --- | --: | --: | --: | --- |"]
        for figure in self.figures:
            unit = f" {figure.unit}" if figure.unit else ""
            base = "" if figure.baseline is None else f"{figure.baseline:.4g}{unit}"
            ratio = "" if not figure.baseline else f"{figure.value / figure.baseline:.2f}"
            lines.append(
                f"| {figure.name} | {figure.value:.4g}{unit} | {base} | {ratio} | {figure.note} |"
            )
        return "\n".join(lines)


def _line(figure: Figure) -> str:
    base = "" if figure.baseline is None else f" (card's loop {figure.baseline:.4g})"
    return f"{figure.name}: {figure.value:.4g} {figure.unit}{base} {figure.note}".rstrip()
