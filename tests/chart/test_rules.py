"""Every alert fires when it should and is quiet when it should be, by promtool; queries parse."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.conftest import CHART, printed

RULES = CHART / "files" / "rules.yaml"
PUBLIC = 'grpc_service="limelight.v1.LimelightService"'
SLOW = "grpc_server_handling_seconds_bucket"
REPLICA = 'application="segmenter",stage="encode"'

# By alert: series that fire it, and series that do not, in promtool's notation, a sample a minute.
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "LimelightGatewayAbsent": ({"up": "1x60"}, {"limelight_in_flight": "0x60"}),
    "LimelightErrors": (
        {
            f'grpc_server_handled_total{{{PUBLIC},grpc_code="OK"}}': "0+90x60",
            f'grpc_server_handled_total{{{PUBLIC},grpc_code="INTERNAL"}}': "0+10x60",
        },
        {
            f'grpc_server_handled_total{{{PUBLIC},grpc_code="OK"}}': "0+90x60",
            # A caller's own mistakes.
            f'grpc_server_handled_total{{{PUBLIC},grpc_code="INVALID_ARGUMENT"}}': "0+90x60",
        },
    ),
    "LimelightShedding": (
        {
            'limelight_shed_total{reason="in_flight"}': "0+10x60",
            f"grpc_server_started_total{{{PUBLIC}}}": "0+100x60",
        },
        {
            'limelight_shed_total{reason="in_flight"}': "0+1x60",
            f"grpc_server_started_total{{{PUBLIC}}}": "0+100x60",
        },
    ),
    "LimelightSlow": (
        {
            f'{SLOW}{{{PUBLIC},grpc_type="unary",le="10"}}': "0+90x60",
            f'{SLOW}{{{PUBLIC},grpc_type="unary",le="30"}}': "0+100x60",
            f'{SLOW}{{{PUBLIC},grpc_type="unary",le="+Inf"}}': ("0+100x60"),
        },
        {
            f'{SLOW}{{{PUBLIC},grpc_type="unary",le="10"}}': "0+100x60",
            f'{SLOW}{{{PUBLIC},grpc_type="unary",le="+Inf"}}': ("0+100x60"),
        },
    ),
    "LimelightModelUnavailable": (
        {
            'grpc_client_handled_total{grpc_service="s",grpc_code="OK"}': "0+10x60",
            'grpc_client_handled_total{grpc_service="s",grpc_code="UNAVAILABLE"}': "0+10x60",
        },
        {'grpc_client_handled_total{grpc_service="s",grpc_code="OK"}': "0+10x60"},
    ),
    "LimelightQueueWait": (
        {
            f'ray_limelight_queue_seconds_bucket{{{REPLICA},le="5"}}': "0+10x60",
            f'ray_limelight_queue_seconds_bucket{{{REPLICA},le="30"}}': "0+100x60",
            f'ray_limelight_queue_seconds_bucket{{{REPLICA},le="+Inf"}}': "0+100x60",
        },
        {
            f'ray_limelight_queue_seconds_bucket{{{REPLICA},le="5"}}': "0+100x60",
            f'ray_limelight_queue_seconds_bucket{{{REPLICA},le="+Inf"}}': "0+100x60",
        },
    ),
    "LimelightBatchFailures": (
        {f"ray_limelight_batch_failures_total{{{REPLICA}}}": "0x20 1+0x40"},
        {f"ray_limelight_batch_failures_total{{{REPLICA}}}": "3x60"},
    ),
    "LimelightOutOfMemory": (
        {f"ray_limelight_batch_halvings_total{{{REPLICA}}}": "0+1x60"},
        {f"ray_limelight_batch_halvings_total{{{REPLICA}}}": "0x30 1+0x30"},
    ),
    "LimelightPlansDegraded": (
        {
            'limelight_plans_total{outcome="ok"}': "0+8x60",
            'limelight_plans_total{outcome="degraded"}': "0+2x60",
        },
        {
            'limelight_plans_total{outcome="ok"}': "0+98x60",
            'limelight_plans_total{outcome="refused"}': "0+2x60",
        },
    ),
}


@pytest.fixture(scope="session")
def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is on no PATH: install Debian's package prometheus")
    return program


def alerts() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def test_every_alert_has_its_cases() -> None:
    assert CASES.keys() == alerts().keys()
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in ("warning", "critical"), name
        assert rule["annotations"].keys() == {"summary", "description"}, name


def firing_at(promtool: str, name: str, series: dict[str, str], folder: Path) -> bool:
    """Whether the alert fires at any minute from the 21st to the 40th."""
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values} for name, values in series.items()
                ],
                # promtool compares with what is expected: nothing, so that a firing alert fails.
                "alert_rule_test": [
                    {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
                    for minute in range(21, 41)
                ],
            }
        ],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(test))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True)
    if done.returncode == 0:
        return False
    output = done.stdout + done.stderr
    assert f'alertname="{name}"' in output, output
    return True


@pytest.mark.parametrize("name", sorted(CASES))
def test_an_alert_fires_and_is_quiet(promtool: str, name: str, tmp_path: Path) -> None:
    fires, quiet = CASES[name]
    assert firing_at(promtool, name, fires, tmp_path)
    assert not firing_at(promtool, name, quiet, tmp_path)


def test_the_dashboard_is_what_the_script_writes() -> None:
    written = printed("import json, dashboard; print(json.dumps(dashboard.dashboard()))")
    committed = (CHART / "files" / "dashboard.json").read_text()
    assert json.loads(committed) == json.loads(written), "run 'make chart-files'"


def test_every_query_of_the_dashboard_parses(promtool: str, tmp_path: Path) -> None:
    panels = json.loads((CHART / "files" / "dashboard.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(queries) > 15
    rules = [{"record": f"q{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    subprocess.run([promtool, "check", "rules", str(file)], check=True, capture_output=True)
