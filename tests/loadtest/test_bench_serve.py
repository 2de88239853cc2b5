"""The benchmark's command, whole, on the fake engines."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.serve, pytest.mark.slow]


def test_a_quick_run_measures_everything(tmp_path: Path) -> None:
    run = subprocess.run(
        (
            *(sys.executable, "-m", "loadtest", "--quick", "--engine", "fake"),
            *("--out", str(tmp_path)),
        ),
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert run.returncode == 0, run.stderr
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    service = report["service"]
    assert [load["callers"] for load in service["loads"]] == [1, 4, 16, 0]
    for load in service["loads"]:
        assert load["calls"] > 0
        assert load["errors"] == {}
        assert load["cpu_ms"]["segmenter replica"] > 0
        assert load["cpu_ms"]["gateway"] > 0
    assert all(ratio > 0 for ratio in report["ratios"].values())
    same, of = report["same_answers"]
    assert same == of > 0
    assert {batch["stage"] for batch in service["batches"]} == {"encode", "detect"}
    assert service["cache_hits"]["image"][0] == 0, "a picture of the loads was not new"
    assert {model["role"] for model in service["models"]} == {"planner", "segmenter"}
    remembered = service["instructions"][-1]
    assert "plan" in remembered["stages_ms"]
    assert "# Benchmark" in (tmp_path / "bench.md").read_text(encoding="utf-8")
