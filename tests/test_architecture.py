"""Which package may import which: loadtest -> training -> services -> limelight, never back.

Inside services: cli -> local, and neither is imported by the services themselves.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From the ground floor up; each may import itself and those before it.
FLOORS = {
    "limelight": ROOT / "protos" / "python" / "limelight",
    "services": ROOT / "services",
    "training": ROOT / "training",
    "loadtest": ROOT / "loadtest",
}

# The layers inside services, from below; each may import itself and those before it.
LAYERS = ("services", "services.local", "services.cli")


def modules(package: str) -> list[Path]:
    """The package's modules written by hand or generated."""
    return sorted(FLOORS[package].rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The full names of all modules that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("package", FLOORS)
def test_no_floor_imports_one_above_it(package: str) -> None:
    names = list(FLOORS)
    above = {*names[names.index(package) + 1 :], "tests"}
    assert modules(package)
    found = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in modules(package)
        for module in imported(path)
        if module.split(".")[0] in above
    }
    assert found == set()


def test_no_layer_of_services_imports_one_above_it() -> None:
    found, seen = set(), set()
    for path in modules("services"):
        layer = layer_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        seen.add(layer)
        above = LAYERS[LAYERS.index(layer) + 1 :]
        found |= {
            f"{path.relative_to(ROOT)} imports {module}"
            for module in imported(path)
            if layer_of(module) in above
        }
    assert seen == set(LAYERS)
    assert found == set()


def layer_of(module: str) -> str:
    """The highest of the layers that the module belongs to; the lowest for anything else."""
    return next(
        (layer for layer in reversed(LAYERS) if f"{module}.".startswith(f"{layer}.")), LAYERS[0]
    )
