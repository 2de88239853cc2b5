"""A training run as a chart and a table: ``python -m training.kit.curves RUN``.

``metrics.jsonl`` -> `publish` -> ``curves.png`` and ``figures.md`` beside it; the loop calls it
after every line of the log.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.kit.metrics import LogEntry, RunHistory, read

_FALLING = ("false", "error", "loss")  # figures whose names begin so are better when lower


def publish(folder: Path) -> None:
    """Write ``curves.png`` and ``figures.md`` into a run's folder.

    Raises:
        FileNotFoundError: the folder has no log.
        ValueError: its log is broken.
    """
    run = read(folder)
    draw(run, folder.name).savefig(folder / "curves.png")
    (folder / "figures.md").write_text(table(run, folder.name), encoding="utf-8")


def draw(run: RunHistory, title: str) -> Figure:
    """Losses on a logarithmic scale on the left, validation figures on the right."""
    figure = Figure((15.2, 4.8), layout="constrained")
    losses, validation = figure.subplots(1, 2)
    _plot(losses, f"{title}: losses", run.losses)
    # A logarithmic scale needs a positive value.
    if any(value > 0 for entry in run.losses for value in entry.values.values()):
        losses.set_yscale("log")
    _plot(validation, f"{title}: validation", run.validations, marker="o")
    validation.set_ylim(0, max(1.0, validation.get_ylim()[1]))
    return figure


def table(run: RunHistory, title: str) -> str:
    """The run in Markdown: length, recipe, last and best validation figures."""
    entries = (*run.losses, *run.validations)
    last = max(entries, key=lambda entry: entry.step, default=LogEntry(0, 0.0, {}))
    lines = [
        f"# {title}\n\n{last.step} steps in {last.minutes:.1f} minutes of training.",
        "\n| recipe | |\n|---|---|",
        *(f"| {name} | {value} |" for name, value in run.recipe.items()),
        "\n| validation | last | best | at step |\n|---|---|---|---|",
    ]
    for name in _names(run.validations):
        having = [entry for entry in run.validations if name in entry.values]
        sign = -1 if name.startswith(_FALLING) else 1
        # Of equals the latest: it has seen most.
        best = max(having, key=lambda entry: (sign * entry.values[name], entry.step))
        figures = f"{having[-1].values[name]:.3f} | {best.values[name]:.3f}"
        lines.append(f"| {name} | {figures} | {best.step} |")
    return "\n".join(lines) + "\n"


def _plot(axes: Axes, title: str, entries: Sequence[LogEntry], marker: str = "") -> None:
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    for name in _names(entries):
        points = [(entry.step, entry.values[name]) for entry in entries if name in entry.values]
        axes.plot(*zip(*points, strict=True), marker=marker, label=f"{name} {points[-1][1]:.3g}")
    if entries:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small", frameon=False)


def _names(entries: Sequence[LogEntry]) -> list[str]:
    """All names, in the order of their first appearance."""
    return list(dict.fromkeys(name for entry in entries for name in entry.values))


def main() -> None:
    """Draw the run named on the command line."""
    parser = argparse.ArgumentParser(
        description="Draw a training run's losses and validation figures (curves.png) and "
        "tabulate them (figures.md), in its folder."
    )
    parser.add_argument("run", type=Path, help="a trainer's folder, with metrics.jsonl in it")
    folder = parser.parse_args().run
    try:
        publish(folder)
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    print(f"{folder / 'curves.png'}\n{folder / 'figures.md'}")


if __name__ == "__main__":
    main()
