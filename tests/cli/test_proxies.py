"""The commands behind proxies: a local stack is reached past them, and `status` is of one mind."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app

VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy")
SECRET = "hunter2"

Proxied = Callable[[str], None]


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Proxied:
    """Sets one variable to a proxy that is away, and clears all others."""

    def only(variable: str) -> None:
        for name in (*VARIABLES, "no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv(variable, f"http://me:{SECRET}@127.0.0.1:9")

    return only


@pytest.mark.parametrize("variable", [*VARIABLES, *map(str.upper, VARIABLES)])
def test_commands_reach_this_machine_past_a_proxy(
    runner: CliRunner, address: str, picture: Path, proxied: Proxied, variable: str
) -> None:
    proxied(variable)
    status = runner.invoke(app, ["status", "--address", address])
    assert status.exit_code == 0
    assert "proxy" not in status.stdout
    call = ["segment", str(picture), "the dogs", "--address", address]
    assert runner.invoke(app, call).exit_code == 0
    (picture.parent / "in.jsonl").write_text('{"id":1,"image":"photo.png","phrases":["x"]}')
    call = ["batch", "in.jsonl", "--out", "out.jsonl", "--address", address]
    assert runner.invoke(app, call).exit_code == 0


@pytest.mark.parametrize("variable", VARIABLES)
def test_what_is_elsewhere_is_asked_through_the_proxy_which_is_named(
    runner: CliRunner, picture: Path, proxied: Proxied, variable: str
) -> None:
    proxied(variable)
    elsewhere = ["--address", "limelight.example:443"]
    segment = runner.invoke(app, ["segment", str(picture), "the dogs", *elsewhere])
    assert segment.exit_code == 3
    assert "nothing answers at limelight.example:443" in segment.stderr
    assert f"through the proxy http://127.0.0.1:9 ({variable})" in segment.stderr
    assert "no_proxy" in segment.stderr
    status = runner.invoke(app, ["status", *elsewhere])
    assert status.exit_code == 3
    assert f"through the proxy http://127.0.0.1:9 ({variable})" in status.stdout
    report = json.loads(runner.invoke(app, ["status", "--json", *elsewhere]).stdout)
    assert report["proxy"] == f"http://127.0.0.1:9 ({variable})"
    for result in (segment, status):
        assert SECRET not in result.output


def test_an_exception_is_heeded(
    runner: CliRunner, picture: Path, proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied("https_proxy")
    monkeypatch.setenv("no_proxy", ".example")
    call = ["segment", str(picture), "x", "--address", "limelight.example:443"]
    result = runner.invoke(app, call)
    assert result.exit_code == 3
    assert "nothing answers at limelight.example:443" in result.stderr
    assert "proxy" not in result.stderr
