"""`limelight demo` asks about its pictures and shows what a service answers."""

from pathlib import Path

from typer.testing import CliRunner

from services.cli.demo import PICTURES, SHOWPIECES
from services.cli.main import app
from services.errors import InvalidRequest, Reason
from tests.client.stand_in import StandIn


def test_every_picture_is_asked_about_and_shown(
    runner: CliRunner, address: str, service: StandIn, tmp_path: Path
) -> None:
    result = runner.invoke(app, ["demo", "--address", address])
    assert result.exit_code == 0
    assert [task.instruction for task in service.tasks] == list(SHOWPIECES.values())
    assert "put the main subjects in the spotlight" in service.tasks[0].instruction
    for name, instruction in SHOWPIECES.items():
        assert f"“{instruction}”" in result.stdout
        picture = tmp_path / "out/demo" / f"{name}.png"
        assert picture.read_bytes() == (PICTURES / f"{name}.png").read_bytes()
        for kind in ("overlay", "spotlight", "cutout"):
            assert (tmp_path / "out/demo" / f"{name}-{kind}.png").exists()


def test_a_failure_ends_it(runner: CliRunner, address: str, service: StandIn) -> None:
    service.faults = [InvalidRequest(Reason.INSTRUCTION_INVALID, "no")]
    result = runner.invoke(app, ["demo", "--address", address])
    assert result.exit_code == 1
    assert "INSTRUCTION_INVALID" in result.stderr
