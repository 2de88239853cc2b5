"""`python -m loadtest.panels`: the chart's dashboard as one picture, from any Prometheus.

For reports and documents: the same queries that Grafana would run, drawn the same way.
"""

import json
import math
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from services.local import web

_COLUMNS = 3
_POINTS = 120
_UNITS = {"s": "s", "bytes": "B", "reqps": "calls/s", "cps": "/s", "short": ""}


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus to ask over HTTP. `address` is host:port."""

    address: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; raises OSError where it cannot be had."""
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        return json.loads(web.get(url, 30))["data"]

    def course(self, query: str, start: float, end: float) -> list[tuple[dict[str, str], Any]]:
        """The query's series between two Unix times: labels, and rows of time and value.

        Steps are counted back from `end`: Prometheus counts from the start, and then the newest
        values, which may be the only ones, lie behind the last step.
        """
        step = max(1, math.ceil((end - start) / _POINTS))
        first = end - step * math.floor((end - start) / step)
        found = self.get("query_range", query=query, start=f"{first}", end=f"{end}", step=f"{step}")
        return [
            (series["metric"], [(float(at), float(value)) for at, value in series["values"]])
            for series in found["result"]
        ]


def draw(dashboard: dict[str, Any], prometheus: Prometheus, seconds: float, file: Path) -> set[str]:
    """Draw every panel over the last `seconds`; the titles of panels that had no data."""
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    rows = math.ceil(len(panels) / _COLUMNS)
    figure = Figure(figsize=(5 * _COLUMNS, 2.6 * rows), layout="constrained")
    end = time.time()
    empty = set()
    for number, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, _COLUMNS, number)
        if not _draw(panel, prometheus, (end - seconds, end), axes):
            empty.add(panel["title"])
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=80)
    return empty


def _draw(
    panel: dict[str, Any], prometheus: Prometheus, between: tuple[float, float], axes: Axes
) -> bool:
    """Draw one panel; whether there was anything to draw."""
    start, end = between
    lines = 0
    for target in panel["targets"]:
        for labels, rows in prometheus.course(target["expr"], start, end):
            points = [(at - start, value) for at, value in rows if math.isfinite(value)]
            if not points:
                continue
            lines += 1
            axes.plot(*zip(*points, strict=True), label=_legend(target["legendFormat"], labels))
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.set_title(panel["title"], fontsize=10, loc="left")
    axes.set_xlim(0, end - start)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(EngFormatter(_UNITS[unit]))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=6, loc="upper left")
    return lines > 0


def _legend(template: str, labels: dict[str, str]) -> str:
    """Grafana's legend: `{{label}}` stands for the label's value."""
    for name, value in labels.items():
        template = template.replace("{{" + name + "}}", value)
    return template


def main(
    file: Annotated[Path, typer.Argument(help="The picture to write: .png or .svg.")],
    prometheus: Annotated[str, typer.Option(help="host:port of a Prometheus.")] = "127.0.0.1:9090",
    minutes: Annotated[float, typer.Option(help="How far back.")] = 15.0,
    dashboard: Annotated[Path, typer.Option(help="The dashboard, as Grafana reads it.")] = Path(
        "helm/limelight/files/dashboard.json"
    ),
) -> None:
    """Draw the dashboard's panels into one picture."""
    content = json.loads(dashboard.read_text())
    try:
        empty = draw(content, Prometheus(prometheus), minutes * 60, file)
    except OSError as error:
        raise typer.BadParameter(f"{prometheus} does not answer: {error}") from error
    for title in sorted(empty):
        typer.echo(f"no data: {title}", err=True)
    typer.echo(f"wrote {file}")


if __name__ == "__main__":
    typer.run(main)
