"""`limelight demo` draws its pictures and shows what a service answers."""

from pathlib import Path

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from services.cli.demo import SHOWPIECES
from services.cli.main import app
from services.errors import InvalidRequest, Reason
from tests.client.stand_in import StandIn


def test_every_picture_is_drawn_asked_and_shown(
    runner: CliRunner, address: str, service: StandIn, tmp_path: Path
) -> None:
    result = runner.invoke(app, ["demo", "--address", address])
    assert result.exit_code == 0
    assert [task.instruction for task in service.tasks] == [
        piece.instruction for piece in SHOWPIECES
    ]
    assert "put the main subjects in the spotlight" in service.tasks[0].instruction
    for piece in SHOWPIECES:
        assert f"“{piece.instruction}”" in result.stdout
        picture = Image.open(tmp_path / "out/demo" / f"{piece.name}.png")
        assert picture.size == piece.size
        assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 100
        for kind in ("overlay", "spotlight", "cutout"):
            assert (tmp_path / "out/demo" / f"{piece.name}-{kind}.png").exists()


def test_a_failure_ends_it(runner: CliRunner, address: str, service: StandIn) -> None:
    service.faults = [InvalidRequest(Reason.INSTRUCTION_INVALID, "no")]
    result = runner.invoke(app, ["demo", "--address", address])
    assert result.exit_code == 1
    assert "INSTRUCTION_INVALID" in result.stderr
