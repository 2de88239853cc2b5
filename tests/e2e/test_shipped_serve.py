"""The shipped checkpoints, in the stack that the README has a new user start.

One start serves two: what the README says to try after it, and the evaluation's regression gate.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.local import processes
from services.local.state import StackFolder
from services.planner.settings import PlannerSettings
from services.replica.revision import folder_revision
from services.segmenter.settings import SegmenterSettings
from tests.test_readme import blocks, commands
from training.evaluation.floors import GATE_SCENES
from training.evaluation.worlds import World

pytestmark = [pytest.mark.serve, pytest.mark.slow]

LIMELIGHT = str(Path(sys.executable).with_name("limelight"))
# What the README's block has between these, it has of a stack that runs.
SESSION = [words for words in commands() if words[0].endswith("/limelight")]
UP = SESSION.index([".venv/bin/limelight", "up"])
DOWN = SESSION.index([".venv/bin/limelight", "down"])

Run = Callable[..., str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the commands are typed."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    """Runs a command that must succeed; what it prints."""
    env = {**os.environ, "LIMELIGHT_STATE_DIR": str(home / "state")}

    def run(*words: str) -> str:
        result = subprocess.run(
            words, cwd=home, env=env, capture_output=True, text=True, timeout=280
        )
        assert result.returncode == 0, f"{words}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    return run


@pytest.fixture(scope="module")
def demo(run: Run) -> str:
    """What `limelight demo` prints, which `make demo` runs; it starts and stops a stack."""
    return run(LIMELIGHT, "demo")


@pytest.fixture(scope="module")
def address(run: Run, demo: str, home: Path) -> Iterator[str]:
    """Of the stack that the README's block starts, and at its end stops."""
    folder = StackFolder(home / "state", "default")
    try:
        run(LIMELIGHT, *SESSION[UP][1:])
        yield json.loads(run(LIMELIGHT, "status", "--json"))["address"]
    finally:
        running = folder.read()
        run(LIMELIGHT, *SESSION[DOWN][1:])
    assert running is not None
    assert folder.read() is None
    assert not processes.marked(running.mark)
    assert not Path(running.ray_dir).exists()


def test_the_demo_shows_and_writes_what_it_found(demo: str, home: Path) -> None:
    assert "put the main subjects in the spotlight" in demo
    pictures = sorted(path.name for path in (home / "out" / "demo").iterdir())
    assert len([name for name in pictures if "overlay" in name]) >= 3
    assert len([name for name in pictures if "cutout" in name]) >= 3


def test_what_the_readme_says_to_try_works(address: str, run: Run, home: Path) -> None:
    """The block after `make demo`, then the Python one."""
    for words in SESSION[UP + 1 : DOWN]:
        shown = run(LIMELIGHT, *words[1:])
        if "--json" in words:
            answer = json.loads(shown)
            assert {item["label"] for item in answer["instances"]} == {"red apple", "banana"}
    assert (home / "dog.png").stat().st_size > 0
    (snippet,) = blocks("python")
    snippet = snippet.replace("localhost:50551", address)
    snippet = snippet.replace("street.jpg", "out/demo/street.png")
    run(sys.executable, "-c", snippet)


def test_the_weights_reach_their_floors(address: str, run: Run, tmp_path: Path) -> None:
    """The regression gate: through the public API, on a small fixed part."""
    figures = tmp_path / "gate.json"
    gate = ("-m", "training.evaluation", "--gate", "--address", address)
    run(sys.executable, *gate, "--json", str(figures))
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
