"""Renders the chart with helm, from PATH or from `make tools`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "limelight"
PROFILES = ("laptop", "single-gpu", "pools")
PATH = f"{os.environ.get('PATH', '')}{os.pathsep}{ROOT / '.tools'}"

Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]


class ChartRefused(Exception):
    """helm does not render these values; the message is its own."""


def tool(name: str) -> str:
    """The program's path; skips the test where there is none."""
    program = shutil.which(name, path=PATH)
    if program is None:
        pytest.skip(f"{name} is on no PATH: install it, or run 'make tools'")
    return program


def printed(code: str) -> str:
    """What `code` prints, run beside the scripts that write the chart's files."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT / "helm", capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="session")
def helm() -> Callable[..., str]:
    """Runs helm and gives its output."""
    program = tool("helm")

    def run(*arguments: str) -> str:
        done = subprocess.run([program, *arguments], capture_output=True, text=True)
        if done.returncode:
            raise ChartRefused(done.stdout + done.stderr)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def render(helm: Callable[..., str]) -> Render:
    """The manifests of a profile: `render("laptop", "planner.enabled=false")`."""

    def manifests(
        profile: str, *values: str, apis: tuple[str, ...] = (), files: tuple[Path, ...] = ()
    ) -> list[Manifest]:
        arguments = ["template", "limelight", str(CHART), "--namespace", "masks"]
        arguments += ["--values", str(CHART / f"values-{profile}.yaml")]
        for file in files:
            arguments += ["--values", str(file)]
        for value in values:
            arguments += ["--set", value]
        for api in apis:
            arguments += ["--api-versions", api]
        return [one for one in yaml.safe_load_all(helm(*arguments)) if one]

    return manifests


def named(manifests: list[Manifest], kind: str, ending: str = "") -> Manifest:
    """The only manifest of that kind whose name ends so."""
    (found,) = [
        one for one in manifests if one["kind"] == kind and one["metadata"]["name"].endswith(ending)
    ]
    return found


def pods(manifests: list[Manifest]) -> list[tuple[str, Manifest]]:
    """Every pod that the manifests lead to: where it comes from, and its `spec` and `metadata`."""
    found: list[tuple[str, Manifest]] = []
    for one in manifests:
        name = f"{one['kind']}/{one['metadata']['name']}"
        if one["kind"] == "Pod":
            found.append((name, one))
        elif one["kind"] == "Deployment":
            found.append((name, one["spec"]["template"]))
        elif one["kind"] == "RayService":
            cluster = one["spec"]["rayClusterConfig"]
            found.append((f"{name} head", cluster["headGroupSpec"]["template"]))
            found += [
                (f"{name} {group['groupName']}", group["template"])
                for group in cluster["workerGroupSpecs"]
            ]
    return found
