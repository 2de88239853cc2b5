"""The evaluator's command, whole: a stack of its own, every figure, a threshold that is missed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = pytest.mark.serve


def evaluate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "training.evaluation", *arguments),
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "NO_COLOR": "1"},
    )


@pytest.mark.slow
def test_three_scenes_of_each_world_through_a_stack_of_its_own(tmp_path: Path) -> None:
    figures = tmp_path / "new" / "eval.json"
    # The fake engines know colors, not stickers: no sensible threshold is reached.
    run = evaluate(
        *("--engine", "fake", "--scenes", "3", "--json", str(figures)),
        *("--sheet", str(tmp_path / "worst.png"), "--confusion", str(tmp_path / "taken.png")),
        *("--reliability", str(tmp_path / "scores.png"), "--reliability-scenes", "2"),
        *("--min-phrase-f1", "0.0", "--min-instructions", "1.0"),
    )
    assert run.returncode == 1, run.stderr
    for world in ("own", "second"):
        assert f"{world} world: instructions exactly right is" in run.stderr
        assert f"{world} world: asked about 5 of 5" in run.stderr
    assert "phrase F1" not in run.stderr
    assert "own world, 3 scenes, held-out seeds 10000000 to 10000002" in run.stdout
    assert "second world, 3 scenes, held-out seeds 30000000 to 30000002" in run.stdout
    reports = json.loads(figures.read_text(encoding="utf-8"))["worlds"]
    assert {name: report["world"] for name, report in reports.items()} == {
        "own": "own",
        "second": "second",
    }
    for report in reports.values():
        measured = report["figures"]
        assert measured["errors"] == {}
        assert measured["calls"] > 15
        assert measured["instructions"]["asked"] >= 6
        assert report["calibration"]["queries"] > 5
        assert {model["engine"] for model in report["models"]} == {"fake"}
    assert reports["own"]["backgrounds"] == {}
    assert len(reports["second"]["backgrounds"]) == 3
    for name in ("worst", "taken", "scores"):
        for world in ("own", "second"):
            with Image.open(tmp_path / f"{name}-{world}.png") as opened:
                assert opened.width > 100


def test_the_second_world_has_no_other_seeds_to_ask() -> None:
    run = evaluate("--split", "validation", "--engine", "fake")
    assert run.returncode == 2
    assert "--world own" in run.stderr
