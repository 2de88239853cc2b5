"""`up`, `down` and `status` around a killed run, without Ray: a supervisor with quick stand-ins."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.local import processes, ray_folder
from services.local.processes import MARK_VARIABLE
from services.local.state import Phase, StackFolder, StackState

_SUPERVISE = """
import asyncio, sys
from pathlib import Path
from services.local.state import StackConfig, StackFolder
from services.local.supervisor import Parts, Supervisor

async def main():
    folder = StackFolder(Path(sys.argv[1]), "default")
    folder.make()
    stand_ins = ("-m", "tests.local.parts")
    parts = Parts((*stand_ins, "serve", "child"), (*stand_ins, "gateway"))
    await Supervisor(folder, StackConfig(port=0, metrics_port=0), sys.argv[2], parts=parts).run()

asyncio.run(main())
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def stand_in(root: Path) -> Iterator[StackState]:
    """A stack of stand-ins that is ready, in processes of its own."""
    mark = f"test-{os.getpid()}"
    child = subprocess.Popen(
        [sys.executable, "-c", _SUPERVISE, str(root), mark],
        env={**os.environ, MARK_VARIABLE: mark},
        start_new_session=True,
    )
    folder = StackFolder(root, "default")
    until = time.monotonic() + 60
    while (state := folder.read()) is None or state.phase is not Phase.READY:
        assert child.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    yield state
    processes.end(processes.marked(mark), 0.0)
    ray_folder.remove(state.ray_dir)
    child.wait()


def test_status_shows_a_healthy_stack(runner: CliRunner, stand_in: StackState) -> None:
    result = runner.invoke(app, ["status", "--json"])
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["phase"] == "ready"
    assert report["address"] == stand_in.addresses["gateway"]
    assert [service["health"] for service in report["services"]] == ["serving"] * 3
    table = runner.invoke(app, ["status"])
    assert table.exit_code == 0
    assert "segmenter   serving" in table.stdout
    assert "\x1b" not in table.output


def test_segment_finds_the_local_stack(
    runner: CliRunner, stand_in: StackState, picture: Path
) -> None:
    result = runner.invoke(app, ["segment", str(picture), "the dogs", "--json"])
    assert result.exit_code == 0
    assert len(json.loads(result.stdout)["instances"]) == 2


def test_up_while_it_runs_says_so(runner: CliRunner, stand_in: StackState) -> None:
    result = runner.invoke(app, ["up"])
    assert result.exit_code == 0
    assert f"already running at {stand_in.addresses['gateway']}" in result.stderr
    assert stand_in.supervisor.alive


@pytest.mark.slow
def test_down_ends_everything_and_may_be_repeated(
    runner: CliRunner, stand_in: StackState, root: Path
) -> None:
    assert "stopped" in runner.invoke(app, ["down"]).stderr
    assert not processes.marked(stand_in.mark)
    assert StackFolder(root, "default").read() is None
    again = runner.invoke(app, ["down"])
    assert again.exit_code == 0
    assert "nothing was running" in again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["status", "down"])
def test_remains_of_a_killed_supervisor_are_cleared(
    runner: CliRunner, stand_in: StackState, command: str
) -> None:
    os.kill(stand_in.supervisor.pid, signal.SIGKILL)
    assert processes.wait_gone(stand_in.supervisor, 5.0)
    # The parts live on, and so does the child in a session of its own.
    assert len(processes.marked(stand_in.mark)) == 3
    runner.invoke(app, [command])
    assert not processes.marked(stand_in.mark)
    assert not Path(stand_in.ray_dir).exists()
    assert runner.invoke(app, ["status"]).exit_code == 3


def test_a_base_install_is_told_what_it_lacks(
    runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    result = runner.invoke(app, ["up"])
    assert result.exit_code == 1
    assert "pip install 'limelight-server[models]'" in result.stderr


def test_status_of_a_deployment(runner: CliRunner, address: str) -> None:
    assert runner.invoke(app, ["status", "--address", address]).exit_code == 0
    assert runner.invoke(app, ["status", "--address", "127.0.0.1:9"]).exit_code == 3


def test_a_checkpoint_that_is_not_there_is_wrong_usage(runner: CliRunner) -> None:
    result = runner.invoke(app, ["up", "--planner-model", "./no/such/folder"])
    assert result.exit_code == 2
    assert "no checkpoint at ./no/such/folder" in result.stderr
