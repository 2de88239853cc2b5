"""The regression gate: the shipped weights, through the public API, on a small fixed part."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.planner.settings import PlannerSettings
from services.replica.revision import folder_revision
from services.segmenter.settings import SegmenterSettings
from training.evaluation.figures import count
from training.evaluation.floors import FLOORS, GATE_SCENES, Bounds
from training.evaluation.worlds import World


@pytest.mark.serve
@pytest.mark.slow
def test_the_shipped_weights_reach_their_floors(tmp_path: Path) -> None:
    figures = tmp_path / "gate.json"
    gate = subprocess.run(
        (sys.executable, "-m", "training.evaluation", "--gate", "--json", str(figures)),
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert gate.returncode == 0, gate.stderr + gate.stdout
    reports = json.loads(figures.read_text(encoding="utf-8"))["worlds"]
    assert set(reports) == {world.value for world in World}
    shipped = {
        folder_revision(Path(settings.model))
        for settings in (PlannerSettings(), SegmenterSettings())
    }
    for report in reports.values():
        assert (report["split"], report["scenes"]) == ("held-out", GATE_SCENES)
        assert report["figures"]["errors"] == {}
        assert {model["revision"] for model in report["models"]} == shipped


@pytest.mark.parametrize("world", World)
def test_every_figure_of_each_world_has_a_floor_that_can_be_missed(world: World) -> None:
    floors = FLOORS[world]
    assert None not in dataclasses.astuple(floors)
    # EvaluationFigures of nothing are all 0: below every floor, and without a false instance.
    nothing = count([], [], [], [])
    assert len(floors.broken(nothing)) == len(dataclasses.fields(Bounds)) - 1
    false = dataclasses.replace(
        nothing, phrases=dataclasses.replace(nothing.phrases, false_per_absent=1.0)
    )
    assert len(floors.broken(false)) == len(dataclasses.fields(Bounds))
