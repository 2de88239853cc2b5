"""What is written down can be read again, or counts as nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from services.local.processes import ProcessRef
from services.local.state import Phase, StackConfig, StackFolder, StackState

STATE = StackState(
    config=StackConfig(name="mine", planner={"engine": "fake"}),
    mark="m",
    supervisor=ProcessRef(1, 2.5),
    started=3.0,
    phase=Phase.READY,
    processes={"gateway": ProcessRef(4, 5.0)},
    addresses={"gateway": "127.0.0.1:6"},
)


@pytest.fixture
def folder(tmp_path: Path) -> StackFolder:
    folder = StackFolder(tmp_path, "mine")
    folder.make()
    return folder


def test_round_trip(folder: StackFolder) -> None:
    assert folder.read() is None
    folder.write(STATE)
    assert folder.read() == STATE
    folder.forget()
    assert folder.read() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"mark": 1}', '{"config": {"color": 1}}'])
def test_what_cannot_be_read_is_nothing(folder: StackFolder, text: str) -> None:
    (folder.path / "state.json").write_text(text)
    assert folder.read() is None


def test_the_lock_keeps_another_process_out(folder: StackFolder) -> None:
    attempt = (
        "import fcntl, sys\nfcntl.flock(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    )
    call = [sys.executable, "-c", attempt, str(folder.path / "lock")]
    with folder.locked():
        assert b"BlockingIOError" in subprocess.run(call, capture_output=True).stderr
    assert subprocess.run(call).returncode == 0
