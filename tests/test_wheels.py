"""The two distributions hold what they should, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def wheel_of(project: Path, folder: Path) -> Path:
    """Build the project's wheel into `folder`."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=project,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def files_of(wheel: Path) -> set[str]:
    """Its files, but for the metadata."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def requirements_of(wheel: Path) -> set[str]:
    """The names of the distributions that it needs without an extra."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().splitlines()
    needed = [line for line in lines if line.startswith("Requires-Dist: ") and "extra" not in line]
    return {line.split()[1].split(">")[0].split("=")[0].split("<")[0] for line in needed}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(ROOT / "protos" / "python", tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(ROOT, tmp_path_factory.mktemp("server"))


@pytest.mark.slow
def test_the_client_is_small_and_needs_little(client: Path) -> None:
    assert client.stat().st_size < 1 << 20
    files = files_of(client)
    assert {name.split("/")[0] for name in files} == {"limelight"}
    assert {"limelight/py.typed", "limelight/v1/limelight_pb2.pyi"} <= files
    assert requirements_of(client) == {
        "googleapis-common-protos",
        "grpcio",
        "numpy",
        "protobuf",
    }


def test_the_client_works_from_its_wheel_alone(client: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(client).extractall(tmp_path)
    code = (
        "import limelight, limelight.client, sys;"
        "print(limelight.__file__, sorted({'services', 'PIL', 'torch', 'ray'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": str(tmp_path)},
    )
    assert result.stdout.split() == [str(tmp_path / "limelight" / "__init__.py"), "[]"]


def test_the_server_holds_services_with_their_data(server: Path) -> None:
    files = files_of(server)
    assert {name.split("/")[0] for name in files} == {"services"}
    for data in (
        "services/planner/checkpoints/sticker-gemma4/model.safetensors",
        "services/segmenter/checkpoints/sticker-sam3/model.safetensors",
        "services/segmenter/checkpoints/sticker-sam3-video/model.safetensors",
        "services/cli/pictures/fruit.png",
        "services/cli/pictures/walk.mp4",
    ):
        assert data in files
    assert "limelight" in requirements_of(server)
