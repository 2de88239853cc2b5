"""The evaluator's command, whole: a stack of its own, every figure, a threshold that is missed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = [pytest.mark.serve, pytest.mark.slow]


def test_three_scenes_through_a_stack_of_its_own(tmp_path: Path) -> None:
    figures, sheet = tmp_path / "eval.json", tmp_path / "eval.png"
    # The fake engines know colours, not stickers: no sensible threshold is reached.
    run = subprocess.run(
        (
            *(sys.executable, "-m", "services.stickers.evaluation", "--engine", "fake"),
            *("--scenes", "3", "--json", str(figures), "--sheet", str(sheet)),
            *("--min-phrase-f1", "0.0", "--min-instructions", "1.0"),
        ),
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert run.returncode == 1, run.stderr
    assert "instructions is" in run.stderr
    assert "phrase-f1" not in run.stderr
    assert "3 scenes, held-out seeds 10000000 to 10000002" in run.stdout
    report = json.loads(figures.read_text(encoding="utf-8"))
    measured = report["figures"]
    assert measured["errors"] == {}
    assert measured["calls"] > 15
    assert measured["instructions"]["asked"] >= 6
    assert {model["engine"] for model in report["models"]} == {"fake"}
    with Image.open(sheet) as opened:
        assert opened.width > 1000
