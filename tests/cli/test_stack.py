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
from services.local.processes import MARK_VARIABLE, ProcessRef
from services.local.state import Phase, StackConfig, StackFolder, StackState

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


def write_state(root: Path, name: str, gateway: str = "127.0.0.1:9") -> None:
    """The state of a stack that is ready, kept together by this very process."""
    folder = StackFolder(root, name)
    folder.make()
    addresses = {"gateway": gateway, "metrics": "127.0.0.1:2", "ray_metrics": "127.0.0.1:3"}
    config = StackConfig(name=name)
    folder.write(
        StackState(
            config, f"mark-{name}", ProcessRef.of(os.getpid()), 0.0, Phase.READY, "", {}, addresses
        )
    )


@pytest.mark.parametrize("command", [["status"], ["segment", "photo.png", "the dogs"]])
@pytest.mark.parametrize(
    ("running", "asked", "says"),
    [
        ([], "x", "no local stack is running"),
        ([], "default", "no local stack is running"),
        (["default"], "x", "no local stack named 'x' is running; running: default"),
        (["b", "a"], "default", "no local stack named 'default' is running; running: a, b"),
        (["größe"], "x", "no local stack named 'x' is running; running: größe"),
    ],
)
def test_a_stack_that_does_not_run_is_named_beside_those_that_do(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    picture: Path,
    command: list[str],
    running: list[str],
    asked: str,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("services.cli.connection.default_root", lambda: tmp_path / "state")
    for name in running:
        write_state(tmp_path / "state", name)
    result = CliRunner().invoke(app, [*command, "--name", asked])
    assert result.exit_code == 3
    assert says in result.stderr
    assert (f"limelight up --name {asked}" in result.stderr) == bool(running)


def test_down_and_json_name_the_stacks_that_run(
    runner: CliRunner, tmp_path: Path, root: Path
) -> None:
    write_state(root, "a")
    StackFolder(root, "gone").make()
    down = runner.invoke(app, ["down", "--name", "x"])
    assert down.exit_code == 0
    assert "nothing was running under the name 'x'; running: a" in down.stderr
    status = runner.invoke(app, ["status", "--name", "x", "--json"])
    assert status.exit_code == 3
    assert json.loads(status.stdout) == {
        "name": "x",
        "phase": "stopped",
        "services": [],
        "running": ["a"],
        "fault": None,
    }


def test_status_of_a_stack_whose_gateway_is_away_does_not_say_ready(
    runner: CliRunner, root: Path
) -> None:
    write_state(root, "default")
    table = runner.invoke(app, ["status"])
    assert table.exit_code == 1
    assert "is unhealthy" in table.stdout
    assert "is ready" not in table.stdout
    assert "unreachable" in table.stdout
    assert json.loads(runner.invoke(app, ["status", "--json"]).stdout)["phase"] == "unhealthy"


def test_status_shows_both_pages_of_metrics(runner: CliRunner, root: Path, address: str) -> None:
    write_state(root, "default", address)
    table = runner.invoke(app, ["status"])
    assert table.exit_code == 0
    assert "is ready" in table.stdout
    assert "http://127.0.0.1:2/metrics" in table.stdout
    assert "by Ray http://127.0.0.1:3/metrics" in table.stdout
    report = json.loads(runner.invoke(app, ["status", "--json"]).stdout)
    assert (report["metrics"], report["ray_metrics"]) == ("127.0.0.1:2", "127.0.0.1:3")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/tmp", "a b", "x" * 65, "a\n"])
@pytest.mark.parametrize("command", [["down"], ["status"], ["segment", "photo.png", "x"]])
def test_a_name_is_not_a_path(
    runner: CliRunner, picture: Path, command: list[str], name: str
) -> None:
    result = runner.invoke(app, [*command, "--name", name])
    assert result.exit_code == 2
    assert "a name is 1 to 64" in result.stderr


def test_a_state_folder_that_is_a_file_is_named(runner: CliRunner, picture: Path) -> None:
    result = runner.invoke(app, ["up", "--engine", "fake", "--state-dir", str(picture)])
    assert result.exit_code == 2
    assert "Not a directory" in result.stderr
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    "address", ["http://localhost:50551", "localhost:99999", ":1", "a b:1", "localhost:"]
)
@pytest.mark.parametrize("command", [["status"], ["segment", "photo.png", "x"], ["verify"]])
def test_an_address_that_is_none_is_wrong_usage(
    runner: CliRunner, picture: Path, command: list[str], address: str
) -> None:
    result = runner.invoke(app, [*command, "--address", address])
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr or "no port from 1" in result.stderr
