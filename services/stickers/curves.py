"""A training run as a picture and a table: ``python -m services.stickers.curves RUN``.

Flow: ``metrics.jsonl`` (`services.stickers.runlog`) -> `publish` -> ``curves.png`` and
``figures.md`` beside it. Both trainers call `publish` after every validation and at the end.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from services.stickers.runlog import Entry, Run, read

_PANEL = (760, 480)
_PLOT = (64, 40, 560, 430)  # x0 y0 x1 y1 in a panel; the legend is on its right
_FINER = 2  # drawn so many times larger, then shrunk: Pillow's lines are not smooth
_COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#7f7f7f",
    "#bcbd22",
    "#17becf",
    "#444444",
)
_INK, _GRID = "#222222", "#dddddd"
_FALLING = ("false", "error", "loss")  # figures whose names begin so are better when lower


def publish(folder: Path) -> None:
    """Write ``curves.png`` and ``figures.md`` into a run's folder.

    Raises:
        FileNotFoundError: the folder has no log.
        ValueError: its log is broken.
    """
    run = read(folder)
    draw(run, folder.name).save(folder / "curves.png", optimize=True)
    (folder / "figures.md").write_text(table(run, folder.name), encoding="utf-8")


def draw(run: Run, title: str) -> Image.Image:
    """Losses on a logarithmic scale on the left, validation figures on the right; RGB."""
    panels = [
        _panel(f"{title}: losses", run.losses, logarithmic=True),
        _panel(f"{title}: validation", run.validations, logarithmic=False),
    ]
    picture = Image.new("RGB", (_PANEL[0] * len(panels), _PANEL[1]), "white")
    for number, panel in enumerate(panels):
        picture.paste(panel, (number * _PANEL[0], 0))
    return picture


def table(run: Run, title: str) -> str:
    """The run in Markdown: length, recipe, last and best validation figures."""
    entries = (*run.losses, *run.validations)
    last = max(entries, key=lambda entry: entry.step, default=Entry(0, 0.0, {}))
    lines = [
        f"# {title}",
        "",
        f"{last.step} steps in {last.minutes:.1f} minutes of training on its machine.",
        "",
        "| recipe | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in run.recipe.items()),
        "",
        "| validation | last | best | at step |",
        "|---|---|---|---|",
    ]
    for name in _names(run.validations):
        having = [entry for entry in run.validations if name in entry.values]
        # Of equals the latest: it has seen most.
        best = max(having, key=lambda entry: (_merit(name, entry.values[name]), entry.step))
        lines.append(
            f"| {name} | {having[-1].values[name]:.3f} | {best.values[name]:.3f} | {best.step} |"
        )
    return "\n".join(lines) + "\n"


def _merit(name: str, value: float) -> float:
    return -value if name.startswith(_FALLING) else value


def _names(entries: Sequence[Entry]) -> list[str]:
    """All names, in the order of their first appearance."""
    return list(dict.fromkeys(name for entry in entries for name in entry.values))


@dataclass(frozen=True)
class _Axes:
    """Where values lie in a panel's plot, in pixels of the finer drawing."""

    steps: tuple[float, float]
    values: tuple[float, float]
    scale: Callable[[float], float]

    def at(self, step: float, value: float) -> tuple[float, float]:
        x0, y0, x1, y1 = (side * _FINER for side in _PLOT)
        (first, last), (low, high) = self.steps, self.values
        along = (step - first) / (last - first)
        up = (self.scale(value) - self.scale(low)) / (self.scale(high) - self.scale(low))
        return x0 + along * (x1 - x0), y1 - min(1.0, max(0.0, up)) * (y1 - y0)


def _panel(title: str, entries: Sequence[Entry], *, logarithmic: bool) -> Image.Image:
    picture = Image.new("RGB", (_PANEL[0] * _FINER, _PANEL[1] * _FINER), "white")
    pen = ImageDraw.Draw(picture)
    _write(pen, title, (_PLOT[0], 12), size=15)
    values = [
        value
        for entry in entries
        for value in entry.values.values()
        if math.isfinite(value) and (value > 0 or not logarithmic)
    ]
    if values:
        steps = (min(0.0, *(entry.step for entry in entries)), max(1.0, entries[-1].step))
        span, ticks = (_decades if logarithmic else _tenths)(values)
        axes = _Axes((float(steps[0]), float(steps[1])), span, math.log if logarithmic else float)
        _frame(pen, axes, ticks)
        _lines(pen, axes, entries, logarithmic=logarithmic)
    else:
        _write(pen, "nothing yet", (_PLOT[0] + 200, 220))
    return picture.resize(_PANEL, Image.Resampling.LANCZOS)


def _decades(values: Sequence[float]) -> tuple[tuple[float, float], list[float]]:
    """The span of positive values, and 1, 2 and 5 times every power of ten in it."""
    low, high = min(values) / 1.1, max(values) * 1.1
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return (low, high), [tick for tick in ticks if low <= tick <= high]


def _tenths(values: Sequence[float]) -> tuple[tuple[float, float], list[float]]:
    """Shares: 0 to 1, or as far as the values go."""
    high = max(1.0, *values)
    return (min(0.0, *values), high), [high * tenth / 10 for tenth in range(11)]


def _frame(pen: ImageDraw.ImageDraw, axes: _Axes, ticks: Sequence[float]) -> None:
    first, last = axes.steps
    for tick in ticks:
        start, end = axes.at(first, tick), axes.at(last, tick)
        pen.line([start, end], _GRID, _FINER)
        _write(pen, f"{tick:.3g}", (_PLOT[0] - 6, start[1] / _FINER), anchor="rm")
    for fifth in range(6):
        step = first + (last - first) * fifth / 5
        x = axes.at(step, axes.values[0])[0] / _FINER
        _write(pen, f"{step:.0f}", (x, _PLOT[3] + 14), anchor="mm")
    _write(pen, "step", ((_PLOT[0] + _PLOT[2]) / 2, _PLOT[3] + 34), anchor="mm")
    pen.rectangle([side * _FINER for side in _PLOT], outline=_INK, width=_FINER)


def _lines(
    pen: ImageDraw.ImageDraw, axes: _Axes, entries: Sequence[Entry], *, logarithmic: bool
) -> None:
    for number, name in enumerate(_names(entries)):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [
            (entry.step, entry.values[name])
            for entry in entries
            if math.isfinite(entry.values.get(name, math.nan))
        ]
        places = [axes.at(*point) for point in points if point[1] > 0 or not logarithmic]
        pen.line(places, colour, 2 * _FINER, joint="curve")
        for x, y in places if len(places) < 40 else ():
            pen.ellipse([x - 5, y - 5, x + 5, y + 5], fill=colour)
        y = _PLOT[1] + 10 + 20 * number
        legend = f"{name} {points[-1][1]:.3g}" if points else name
        pen.line(
            [((_PLOT[2] + 10) * _FINER, y * _FINER), ((_PLOT[2] + 26) * _FINER, y * _FINER)],
            colour,
            3 * _FINER,
        )
        _write(pen, legend, (_PLOT[2] + 32, y), anchor="lm")


def _write(
    pen: ImageDraw.ImageDraw,
    text: str,
    at: tuple[float, float],
    *,
    size: int = 12,
    anchor: str = "la",
) -> None:
    font = ImageFont.load_default(size * _FINER)
    pen.text((at[0] * _FINER, at[1] * _FINER), text, _INK, font, anchor)


def main() -> None:
    """Draw the run named on the command line."""
    parser = argparse.ArgumentParser(
        description="Draw a training run's losses and validation figures (curves.png) and "
        "tabulate them (figures.md), in its folder."
    )
    parser.add_argument("run", type=Path, help="a trainer's folder, with metrics.jsonl in it")
    arguments = parser.parse_args()
    try:
        publish(arguments.run)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    print(f"{arguments.run / 'curves.png'}\n{arguments.run / 'figures.md'}")


if __name__ == "__main__":
    main()
