"""Tables for the terminal and one HTML page, whose plots are in it as PNG."""

import base64
import html
import io
from collections.abc import Iterable

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from loadtest.overload.scenarios import KindMeasured, LoadMeasured

COLUMNS = (
    "load",
    "calls/s",
    "goodput/s",
    "of the peak",
    "answered p50/p99 ms",
    "rejected p50/p99 ms",
    "bare",
    "recovered after s",
    "failures",
)


def rows(kind: KindMeasured) -> list[tuple[str, ...]]:
    """One row of text a load."""
    return [_row(kind, load) for load in kind.loads]


def _row(kind: KindMeasured, load: LoadMeasured) -> tuple[str, ...]:
    during = load.during
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(during.reasons.items()))
    return (
        load.name,
        f"{len(during.calls) / during.seconds:.1f}",
        f"{load.goodput:.1f}",
        f"{100 * load.goodput / kind.peak:.0f} %",
        f"{during.answered_ms(0.5):.0f} / {during.answered_ms(0.99):.0f}",
        f"{during.rejected_ms(0.5):.0f} / {during.rejected_ms(0.99):.0f}",
        str(during.bare),
        f"{load.after.recovered_s:.1f}",
        reasons,
    )


def show(kinds: Iterable[KindMeasured], console: Console) -> None:
    """The tables."""
    for kind in kinds:
        table = Table(*COLUMNS, title=_title(kind))
        for row in rows(kind):
            table.add_row(*row)
        console.print(table)


def to_dict(kind: KindMeasured) -> dict[str, object]:
    """The figures, for a file."""
    return {
        "kind": kind.kind,
        "deadline_s": kind.deadline_s,
        "capacity": kind.capacity,
        "peak": kind.peak,
        "loads": [dict(zip(COLUMNS, row, strict=True)) for row in rows(kind)],
    }


def page(kinds: Iterable[KindMeasured], machine: str) -> str:
    """The whole report as one HTML page."""
    parts = [
        "<!doctype html><meta charset=utf-8><title>Limelight under load</title>",
        "<style>body{font:14px sans-serif;margin:2em}table{border-collapse:collapse}"
        "td,th{border:1px solid #ccc;padding:.3em .6em;text-align:left}</style>",
        f"<h1>Limelight under load</h1><p>{html.escape(machine)}</p>",
    ]
    for kind in kinds:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows(kind)
        )
        parts.append(f"<h2>{html.escape(_title(kind))}</h2><table><tr>{head}</tr>{body}</table>")
        for figure in (_shares(kind), _courses(kind)):
            parts.append(f'<p><img alt="" src="data:image/png;base64,{png_text(figure)}"></p>')
    return "\n".join(parts)


def _title(kind: KindMeasured) -> str:
    return (
        f"{kind.kind}: {kind.deadline_s:g} s deadline, capacity {kind.capacity:.1f} answers a "
        f"second, peak {kind.peak:.1f}"
    )


def _shares(kind: KindMeasured) -> Figure:
    """Goodput of each load as a share of the peak."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    shares = [100 * load.goodput / kind.peak for load in kind.loads]
    axes.barh([load.name for load in kind.loads], shares)
    axes.axvline(90, color="black", linestyle=":")
    axes.invert_yaxis()
    axes.set_xlabel("goodput, % of the peak")
    return figure


def _courses(kind: KindMeasured) -> Figure:
    """Answers and rejections second by second, one small plot a load."""
    columns = 4
    lines = -(-len(kind.loads) // columns)
    figure = Figure(figsize=(12, 2.2 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(kind.loads) :]:
        axes.set_axis_off()
    for axes, load in zip(grid.flat, kind.loads, strict=False):
        axes.plot(load.during.per_second(), label="answered")
        axes.plot(load.during.per_second(rejected=True), label="rejected")
        axes.set_yscale("symlog")
        axes.set_title(load.name, fontsize=9)
    grid.flat[0].legend(fontsize=8)
    figure.supxlabel("second")
    figure.supylabel("calls")
    return figure


def png_text(figure: Figure) -> str:
    """The figure as a PNG in base64, for a page that holds its pictures."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=90)
    return base64.b64encode(buffer.getvalue()).decode()
