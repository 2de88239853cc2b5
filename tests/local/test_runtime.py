"""The runtime profile: one place, precedence, and what the command prints."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.local.runtime import RUNTIME, local_environment, with_allocator

ROOT = Path(__file__).parent.parent.parent
READERS = ("services", "training", "loadtest", "tests", "docker")


def printed(*arguments: str) -> str:
    command = [sys.executable, "-m", "services.local.runtime", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_a_persons_allocator_settings_stay() -> None:
    environment = with_allocator({"MALLOC_TOP_PAD_": "1", "HOME": "/root"})
    assert environment == {**RUNTIME.allocator, "MALLOC_TOP_PAD_": "1", "HOME": "/root"}


def test_rays_flags_are_those_of_the_profile_whatever_is_exported() -> None:
    first = local_environment({"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "1"})
    second = local_environment({})
    assert first.items() >= {**RUNTIME.ray, **RUNTIME.loopback}.items()
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]


@pytest.mark.parametrize(
    ("given", "excepted"),
    [
        ({"http_proxy": "http://p:1"}, "localhost,127.0.0.1,::1"),
        ({"HTTPS_PROXY": "http://p:1"}, "localhost,127.0.0.1,::1"),
        ({"all_proxy": "socks5://p:1", "no_proxy": ".example"}, ".example,localhost,127.0.0.1,::1"),
        ({"http_proxy": "http://p:1", "NO_PROXY": "*"}, "*,localhost,127.0.0.1,::1"),
    ],
)
def test_proxies_stay_but_for_loopback(given: dict[str, str], excepted: str) -> None:
    environment = local_environment(given)
    assert environment["no_proxy"] == environment["NO_PROXY"] == excepted
    assert environment.items() >= {k: v for k, v in given.items() if "no_" not in k.lower()}.items()
    assert "no_grpc_proxy" not in environment


def test_grpcs_own_exceptions_are_added_to() -> None:
    environment = local_environment({"grpc_proxy": "http://p:1", "no_grpc_proxy": ".example"})
    assert environment["no_grpc_proxy"] == ".example,localhost,127.0.0.1,::1"


def test_without_proxies_there_are_no_exceptions() -> None:
    assert not any(name.lower().endswith("_proxy") for name in local_environment({"HOME": "/root"}))


def test_the_servicers_exist() -> None:
    for path in RUNTIME.grpc_servicers:
        module, _, function = path.rpartition(".")
        assert callable(getattr(importlib.import_module(module), function))


def test_variables_print_as_lines_and_as_json() -> None:
    lines = printed("--print", "allocator", "--print", "loopback").splitlines()
    assert dict(line.split("=") for line in lines) == {**RUNTIME.allocator, **RUNTIME.loopback}
    assert json.loads(printed("--format", "json")) == {**RUNTIME.allocator, **RUNTIME.ray}


def test_servicers_print_as_lines_and_as_json_and_alone() -> None:
    assert printed("--print", "servicers").splitlines() == list(RUNTIME.grpc_servicers)
    as_json = printed("--print", "servicers", "--format", "json")
    assert json.loads(as_json) == list(RUNTIME.grpc_servicers)
    with pytest.raises(subprocess.CalledProcessError):
        printed("--print", "servicers", "--print", "ray")


def test_the_makefile_sets_the_allocator_from_it() -> None:
    """The prefix of the training recipes, run before `env` instead of a trainer."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (prefix,) = re.findall(r"^WITH_ALLOCATOR = (.*)$", makefile, re.MULTILINE)
    command = prefix.replace("$(BIN)/python", sys.executable).replace("$$", "$") + " env"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert {f"{name}={value}" for name, value in RUNTIME.allocator.items()} <= set(
        done.stdout.splitlines()
    )
    assert makefile.count("\t$(WITH_ALLOCATOR) $(BIN)/python -m training.") == 3


def test_nothing_sets_its_variables_or_servicers_a_second_time() -> None:
    names = {*RUNTIME.allocator, *RUNTIME.ray, *RUNTIME.loopback, *RUNTIME.grpc_servicers}
    files = [path for folder in READERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    files = [path for path in files if path.suffix in {".py", ".md", ".yaml", ".sh", ".txt", ""}]
    allowed = {ROOT / "services" / "local" / "runtime.py", Path(__file__)}
    # What the chart makes of the profile, held against it by tests of its own.
    allowed |= {*(ROOT / "tests" / "chart" / "golden").iterdir()}
    copies = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in {*files, ROOT / "Makefile", *ROOT.glob("*.md")} - allowed
        for name in names
        if name in path.read_text(encoding="utf-8", errors="replace")
    }
    assert copies == set()
