"""The table, for the terminal, a page and a document, and a plot a fault."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from loadtest.chaos.trials import Trial
from loadtest.overload.report import png_text
from training.evaluation.cards import inserted

COLUMNS = ("fault", "promised", "seen")
# Where the table stands in a document.
BEGIN = "<!-- faults of one machine: written by python -m loadtest.chaos -->"
END = "<!-- end of the faults of one machine -->"


def rows(trials: Sequence[Trial], not_tried: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """A row a fault, those that were not tried with the reason."""
    tried = [(trial.fault.name, trial.fault.promise, seen(trial)) for trial in trials]
    return tried + [(name, "", why) for name, why in not_tried.items()]


def seen(trial: Trial) -> str:
    """What was seen, in words."""
    parts = [
        f"{trial.lost} of {len(trial.load.samples)} failed",
        f"slowest answer {trial.slowest_s:.1f} s",
    ]
    if trial.recovered_s > 0:
        parts.append(f"well again after {trial.recovered_s:.0f} s")
    if trial.evidence:
        parts.append(trial.evidence)
    if trial.unmet:
        parts.append(f"**the limit was not met as promised: {trial.unmet}**")
    if not trial.well:
        parts.append("**a part never came back**")
    return ", ".join(parts)


def to_dict(trial: Trial) -> dict[str, object]:
    """The figures of one fault, for a file."""
    return {
        "fault": trial.fault.name,
        "promise": trial.fault.promise,
        "calls": len(trial.load.samples),
        "lost": trial.lost,
        "errors": trial.load.errors,
        "slowest_s": round(trial.slowest_s, 2),
        "recovered_s": round(trial.recovered_s, 2),
        "evidence": trial.evidence or trial.unmet,
        "kept": trial.kept,
    }


def show(table_rows: Sequence[tuple[str, ...]], console: Console) -> None:
    """The table in a terminal."""
    table = Table(*COLUMNS, title="Faults under steady calls")
    for row in table_rows:
        table.add_row(*row)
    console.print(table)


def write_into(document: Path, table_rows: Sequence[tuple[str, ...]], machine: str) -> None:
    """Replace what stands between the markers of a document.

    Raises:
        ValueError: it has no markers.
    """
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in table_rows),
        "",
        f"Seen {machine}.",
    ]
    text = inserted(document.read_text("utf-8"), "\n".join(lines), BEGIN, END)
    document.write_text(text, "utf-8")


def page(trials: Sequence[Trial], table_rows: Sequence[tuple[str, ...]], machine: str) -> str:
    """The whole report as one HTML page."""
    head = "".join(f"<th>{name}</th>" for name in COLUMNS)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in table_rows
    )
    parts = [
        "<!doctype html><meta charset=utf-8><title>Limelight when things end</title>",
        "<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left}</style>",
        f"<h1>Limelight when things end</h1><p>{html.escape(machine)}</p>",
        f"<table><tr>{head}</tr>{body}</table>",
    ]
    for trial in trials:
        parts.append(f'<p><img alt="" src="data:image/png;base64,{png_text(_course(trial))}"></p>')
    return "\n".join(parts)


def _course(trial: Trial) -> Figure:
    """Each call's latency by when it was due, and the fault."""
    figure = Figure(figsize=(9, 2.2), layout="constrained")
    axes = figure.subplots()
    for failed, color, label in ((False, "tab:blue", "answered"), (True, "tab:red", "failed")):
        chosen = [one for one in trial.load.samples if (one.error is not None) is failed]
        axes.scatter(
            [one.ended_s - one.latency_s for one in chosen],
            [one.latency_s for one in chosen],
            s=6,
            color=color,
            label=label,
        )
    axes.axvline(trial.at_s, color="black", linestyle=":")
    axes.set_yscale("log")
    axes.set_title(trial.fault.name, fontsize=9)
    axes.set_xlabel("due, s")
    axes.set_ylabel("latency, s")
    axes.legend(fontsize=8)
    return figure
