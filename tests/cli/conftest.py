from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.client.stand_in import SIZE, StandIn, serving


@pytest.fixture
def service() -> StandIn:
    return StandIn()


@pytest.fixture
def address(service: StandIn) -> Iterator[str]:
    with serving(service) as address:
        yield address


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """Runs the command in an empty folder, with a state directory of its own."""
    monkeypatch.chdir(tmp_path)
    return CliRunner(env={"LIMELIGHT_STATE_DIR": str(tmp_path / "state")})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (SIZE[1], SIZE[0]), "teal").save(path)
    return path
