"""Writes each image's pinned requirements from the environment that the tests run in.

`python docker/requirements.py` (`make docker-requirements`) writes `gateway.txt`, `models.txt` and
`torch-*.txt` beside this file; a test fails when they are not what it would write. Pins come from
what is installed, which `make install` holds to `constraints.txt`.
"""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent

# Installed by a step of its own, in the build for the image's variant.
TORCH = "torch"
# What only its CUDA build needs; that build names the versions itself.
CUDA = ("cuda-", "nvidia-", "triton")
# What torch needs on a GPU and no test installs: the release that goes with the pinned torch.
TORCHVISION = "torchvision==0.28.0"
# The project's own, installed as wheels.
OWN = {"limelight", "limelight-server"}


def closure(requirements: list[Requirement]) -> list[str]:
    """Everything that `requirements` need, as pins, sorted; torch and what is CUDA's are left out.

    Raises:
        metadata.PackageNotFoundError: something needed is not installed.
    """
    pins: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name.startswith(CUDA):
            continue
        package = metadata.distribution(name)
        if name not in OWN and name != TORCH:
            pins[name] = f"{name}=={package.version}"
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in package.requires or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return [pins[name] for name in sorted(pins)]


def requirements() -> dict[str, str]:
    """The text of each file, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = [Requirement(line) for line in project["dependencies"]]
    extras = project["optional-dependencies"]
    gateway = base + [Requirement(line) for line in extras["gateway"]]
    models = gateway + [Requirement(line) for line in extras["models"]]
    torch = f"{TORCH}=={metadata.version(TORCH).partition('+')[0]}"
    return {
        "gateway.txt": _text(closure(gateway)),
        "models.txt": _text(closure(models)),
        "torch-cpu.txt": _text([torch]),
        "torch-cuda.txt": _text([torch, TORCHVISION]),
    }


def _text(pins: list[str]) -> str:
    return "\n".join(["# Written by docker/requirements.py.", *pins, ""])


def main() -> None:
    """Write the files."""
    for name, text in requirements().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
