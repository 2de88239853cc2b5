"""The command as a whole: its help, its version, what it imports."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from services.cli.main import app


@pytest.mark.parametrize("command", ["up", "down", "status", "segment", "batch", "demo"])
def test_every_command_has_help(runner: CliRunner, command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"limelight {command}" in result.stdout


def test_no_command_shows_help_with_the_exit_codes(runner: CliRunner) -> None:
    result = runner.invoke(app, [])
    assert result.exit_code == 2
    assert "Exit codes" in result.output


def test_version(runner: CliRunner) -> None:
    assert runner.invoke(app, ["--version"]).stdout.startswith("limelight ")


def test_the_command_and_the_client_import_no_models() -> None:
    code = (
        "import sys, services.cli.main, limelight\n"
        "heavy = {'torch', 'ray', 'transformers', 'pydantic_settings', 'prometheus_client',\n"
        "         'grpc_status', 'pillow_heif'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
