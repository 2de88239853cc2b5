"""`buf breaking`, as `make lint` runs it, lets the contract grow and stops what would break it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASELINE = ROOT / "protos" / "baseline.binpb"


def passes(protos: Path) -> bool:
    """Whether the command of the Makefile accepts `protos`."""
    (line,) = re.findall(r"buf (breaking .*)", (ROOT / "Makefile").read_text())
    words = line.replace("$(BASELINE)", str(BASELINE)).split()
    words = [str(protos) if word == "protos" else word for word in words]
    buf = Path(sys.executable).with_name("buf")
    return subprocess.run([buf, *words], capture_output=True, timeout=120).returncode == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "sound"),
    [
        ("v1/limelight.proto", "string summary = 7", "string summary = 7", True),
        ("v1/limelight.proto", "string summary = 7", "string summary = 7; bytes more = 99", True),
        ("v1/limelight.proto", "string summary = 7", "string digest = 7", False),
        ("v1/limelight.proto", "string summary = 7", "string summary = 77", False),
        ("v1/limelight.proto", "int32 width = 2", "int64 width = 2", False),
        ("v1/limelight.proto", "rpc Segment(", "rpc Divide(", False),
        ("v1/plan.proto", "SELECT_BY_LEFTMOST = 1", "SELECT_BY_LEFT = 1", False),
        ("internal/v1/planner.proto", "bool cached = 3", "bool kept = 3", False),
    ],
)
def test_a_change(tmp_path: Path, file: str, old: str, new: str, sound: bool) -> None:
    protos = tmp_path / "protos"
    shutil.copytree(ROOT / "protos", protos, ignore=shutil.ignore_patterns("python"))
    path = protos / "limelight" / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    assert passes(protos) is sound
