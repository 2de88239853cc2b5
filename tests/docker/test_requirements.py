"""What goes into the images is what the tests ran with."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


def pins(file: str) -> dict[str, str]:
    lines = (DOCKER / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("file", ["gateway.txt", "models.txt", "torch-cpu.txt"])
def test_every_pin_is_the_tests_own(file: str) -> None:
    tested = {normalized(name): version for name, version in pins("constraints.txt").items()}
    for name, version in pins(file).items():
        assert tested[normalized(name)] == version, name


def test_the_files_are_what_the_script_writes() -> None:
    code = (
        f"import json, sys; sys.path.insert(0, {str(DOCKER)!r}); import requirements; "
        "print(json.dumps(requirements.requirements()))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert output.returncode == 0, output.stderr
    for name, text in json.loads(output.stdout).items():
        assert (DOCKER / name).read_text() == text, f"run 'make docker-requirements' for {name}"


def test_the_gateway_has_neither_torch_nor_ray() -> None:
    assert not {"torch", "ray", "transformers", "scipy"} & {*pins("gateway.txt")}
    assert not [name for name in pins("models.txt") if name.startswith("nvidia-")]


def test_torch_brings_nothing_unpinned() -> None:
    pinned = {*pins("models.txt"), *pins("torch-cpu.txt")}
    for line in metadata.requires("torch") or []:
        needed = Requirement(line)
        name = normalized(needed.name)
        if needed.marker is not None and not needed.marker.evaluate({"extra": ""}):
            continue
        if not name.startswith(("cuda-", "nvidia-", "triton")):
            assert name in pinned


@pytest.mark.parametrize("image", ["gateway", "models"])
def test_a_commit_rebuilds_no_dependencies(image: str) -> None:
    # BuildKit runs a RUN again whenever an ARG above it changes, used or not.
    final = (DOCKER / f"{image}.Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert "ARG REVISION" in final
    assert not re.search(r"^(RUN|COPY) ", final.partition("\nARG ")[2], re.M)


@pytest.mark.parametrize("image", ["gateway", "models"])
def test_the_bill_is_written_from_what_the_image_holds(image: str) -> None:
    text = (DOCKER / f"{image}.Dockerfile").read_text()
    writes = text.partition("docker/sbom.py >")[0]
    assert writes.rpartition("\nFROM ")[2].startswith("trimmed AS bill")
    assert "COPY --from=bill /opt/app /opt/app" in text.rpartition("\nFROM ")[2]


@pytest.mark.parametrize("variant", ["cpu", "cuda"])
def test_make_images_needs_no_image_that_it_does_not_make(variant: str) -> None:
    output = subprocess.run(
        ["make", "-n", "images", f"VARIANT={variant}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    made = re.findall(r"-t (\S+)", output.stdout)
    assert made
    for base in re.findall(r"MODELS_IMAGE=(\S+)", output.stdout):
        assert base in made


def test_the_bill_of_materials_lists_what_is_installed() -> None:
    output = subprocess.run(
        [sys.executable, str(DOCKER / "sbom.py")], capture_output=True, text=True, check=True
    )
    bill = json.loads(output.stdout)
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    found = {normalized(part["name"]): part["version"] for part in bill["components"]}
    for name, version in pins("models.txt").items():
        assert found[normalized(name)] == version
    assert bill["components"] == sorted(bill["components"], key=lambda part: part["name"].lower())


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_run_as_nobody_special_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert not text.startswith("# syntax=")  # an image of its own, from a registry
    for label in ("title", "description"):
        assert f"org.opencontainers.image.{label}=" in text
    if "FROM ${MODELS_IMAGE}" not in text:  # that one's user, and its licenses
        assert "USER 1000:1000" in text
        assert 'image.licenses="Apache-2.0"' in text
        assert "AS build" in text
        assert "sbom.cdx.json" in text


def test_compose_runs_the_local_image_locked_down() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    service = compose["services"]["limelight"]
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    assert service["image"] == f"limelight-local:{version[1]}"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
