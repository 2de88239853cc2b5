"""A stack for the time of a measurement leaves nothing behind, whether it starts or not."""

import signal
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from services.local import processes
from services.local.health import PUBLIC_SERVICE, check
from services.local.models import StackEngine, stack_config
from services.local.stack import StartFailed
from services.local.temporary import temporary_stack


@pytest.fixture(autouse=True)
def _temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_a_start_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    before = signal.getsignal(signal.SIGTERM)
    with (
        pytest.raises(StartFailed, match="limelight-server\\[models\\]"),
        temporary_stack(stack_config("short"), lambda state: None),
    ):
        pass
    assert signal.getsignal(signal.SIGTERM) is before
    assert not list(tmp_path.iterdir())


@pytest.mark.serve
def test_serves_while_it_is_needed(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    config = replace(stack_config("short", engine=StackEngine.FAKE), tracker=None)
    with temporary_stack(config, lambda state: None) as state:
        assert check(state.addresses["gateway"], PUBLIC_SERVICE) == "serving"
    assert not processes.marked(state.mark)
    assert signal.getsignal(signal.SIGTERM) is before
    assert not list(tmp_path.iterdir())
