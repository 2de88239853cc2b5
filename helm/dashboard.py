"""Writes the Grafana dashboard of the chart: `make chart-files`.

A panel is a title, a unit and its queries; places and colors follow from the order.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "limelight" / "files" / "dashboard.json"
PUBLIC = 'grpc_service="limelight.v1.LimelightService"'
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: its queries by the legend of their series."""

    title: str
    unit: str
    queries: dict[str, str]


def quantile(share: float, metric: str, by: str = "", where: str = "") -> str:
    """A quantile of a histogram over five minutes."""
    labels = ", ".join(["le", *([by] if by else [])])
    return f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{where}[5m])))"


ROWS: dict[str, list[Panel]] = {
    "What callers see": [
        Panel(
            "Calls",
            "reqps",
            {
                "{{grpc_method}} {{grpc_code}}": "sum by (grpc_method, grpc_code) "
                f"(rate(grpc_server_handled_total{{{PUBLIC}}}[5m]))"
            },
        ),
        Panel(
            "Latency",
            "s",
            {
                f"p{share * 100:g}": quantile(
                    share, "grpc_server_handling_seconds", where=f"{{{PUBLIC}}}"
                )
                for share in (0.5, 0.95, 0.99)
            },
        ),
        Panel(
            "Images and instances",
            "cps",
            {
                "images": "sum(rate(limelight_images_total[5m]))",
                "instances": "sum(rate(limelight_instances_total[5m]))",
            },
        ),
    ],
    "Gateway": [
        Panel("In flight", "short", {"calls": "sum(limelight_in_flight)"}),
        Panel("Image bytes held", "bytes", {"bytes": "sum(limelight_in_flight_bytes)"}),
        Panel(
            "Time by stage",
            "s",
            {"{{stage}}": quantile(0.95, "limelight_stage_seconds", by="stage")},
        ),
        Panel(
            "Plans",
            "cps",
            {"{{outcome}}": "sum by (outcome) (rate(limelight_plans_total[5m]))"},
        ),
        Panel(
            "Calls to the models",
            "reqps",
            {
                "{{grpc_method}} {{grpc_code}}": "sum by (grpc_method, grpc_code) "
                "(rate(grpc_client_handled_total[5m]))"
            },
        ),
        Panel(
            "Calls by tenant",
            "reqps",
            {"{{tenant}}": "sum by (tenant) (rate(limelight_tenant_calls_total[5m]))"},
        ),
    ],
    "Models": [
        Panel(
            "Busy replicas",
            "short",
            {
                "{{application}} {{stage}}": "sum by (application, stage) "
                "(rate(ray_limelight_busy_seconds_total[5m]))"
            },
        ),
        Panel(
            "Items waiting",
            "short",
            {
                "{{application}} {{stage}}": "sum by (application, stage) "
                "(ray_limelight_queue_depth)"
            },
        ),
        Panel(
            "Wait for a batch",
            "s",
            {
                "{{application}} {{stage}}": quantile(
                    0.95, "ray_limelight_queue_seconds", by="application, stage"
                )
            },
        ),
        Panel(
            "Items in a batch",
            "short",
            {
                "{{application}} {{stage}}": "sum by (application, stage) "
                "(rate(ray_limelight_batch_items_total[5m])) / sum by (application, stage) "
                "(rate(ray_limelight_batch_size_count[5m]))"
            },
        ),
        Panel(
            "Time in a stage",
            "s",
            {
                "{{application}} {{stage}}": quantile(
                    0.95, "ray_limelight_stage_seconds", by="application, stage"
                )
            },
        ),
        Panel(
            "Videos being tracked",
            "short",
            {"{{application}}": "sum by (application) (ray_limelight_track_sessions)"},
        ),
        Panel(
            "Frames tracked",
            "cps",
            {
                "{{application}}": "sum by (application) "
                "(rate(ray_limelight_track_frames_total[5m]))"
            },
        ),
        Panel(
            "Lag of a frame",
            "s",
            {
                "{{application}}": quantile(
                    0.95, "ray_limelight_track_lag_seconds", by="application"
                )
            },
        ),
        Panel(
            "Cache bytes",
            "bytes",
            {
                "{{application}} {{cache}}": "sum by (application, cache) "
                "(ray_limelight_cache_bytes)"
            },
        ),
    ],
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for row, content in ROWS.items():
        panels.append({"type": "row", "title": row, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        for index, panel in enumerate(content):
            column = index % _COLUMNS
            place = {"x": column * _WIDTH, "y": y, "w": _WIDTH, "h": _HEIGHT}
            panels.append(_panel(panel, place))
            if column == _COLUMNS - 1:
                y += _HEIGHT
    for number, one in enumerate(panels, start=1):
        one["id"] = number
    return {
        "title": "Limelight",
        "uid": "limelight",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data"}
            ]
        },
        "panels": panels,
    }


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "type": "timeseries",
        "title": panel.title,
        "gridPos": place,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend}
            for index, (legend, query) in enumerate(panel.queries.items())
        ],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n")
