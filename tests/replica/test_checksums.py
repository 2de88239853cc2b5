"""A checkpoint that was changed is refused before its weights are read."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.planner import engines as planner_engines
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.settings import PlannerSettings as PlannerSettings
from services.replica.checksums import NAME, ChecksumError, verify, write
from services.segmenter import engines as segmenter_engines
from services.segmenter.settings import SegmenterSettings as SegmenterSettings

SHIPPED = {
    "planner": Path(PlannerSettings().model),
    "segmenter": Path(SegmenterSettings().model),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    (tmp_path / "README.md").write_text("words")
    write(tmp_path)
    return tmp_path


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_what_was_written_is_sha256sums_format_and_passes(folder: Path) -> None:
    names = ("config.json", "model.safetensors")
    expected = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}" for n in names]
    assert (folder / NAME).read_text().splitlines() == expected
    verify(folder)


def test_the_card_may_change_and_a_folder_may_have_no_sums(folder: Path) -> None:
    (folder / "README.md").write_text("other words")
    verify(folder)
    (folder / NAME).unlink()
    flip(folder / "model.safetensors", 5)
    verify(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_flipped_bit_is_refused_by_its_files_name(folder: Path, name: str) -> None:
    flip(folder / name, 0)
    with pytest.raises(ChecksumError, match=f"{name} is not what {NAME} says"):
        verify(folder)


def test_a_missing_and_an_unlisted_file_are_refused(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ anything }}")
    with pytest.raises(ChecksumError, match=r"chat_template\.jinja is not listed"):
        verify(folder)
    (folder / "chat_template.jinja").unlink()
    (folder / "config.json").unlink()
    with pytest.raises(ChecksumError, match=r"config\.json is missing"):
        verify(folder)


@pytest.mark.parametrize("line", ["model.safetensors", "0" * 64 + "  ../model", "0" * 64 + "  /m"])
def test_lines_that_are_none_of_sha256sums_are_refused(folder: Path, line: str) -> None:
    sums = folder / NAME
    sums.write_text(sums.read_text() + line + "\n")
    with pytest.raises(ChecksumError, match="line 3"):
        verify(folder)


def test_binary_marks_are_read(folder: Path) -> None:
    sums = folder / NAME
    sums.write_text(sums.read_text().replace("  ", " *"))
    verify(folder)


def test_the_command_writes_checks_and_tells(folder: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "services.replica.checksums", str(folder), *arguments)
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert run().returncode == 0
    flip(folder / "config.json", 1)
    refused = run()
    assert refused.returncode == 1
    assert "config.json is not what" in refused.stderr
    assert run("--write").returncode == 0
    assert run().returncode == 0
    (folder / NAME).unlink()
    assert "--write makes it" in run().stderr


@pytest.mark.parametrize("role", SHIPPED)
def test_the_shipped_checkpoints_are_what_their_sums_say(role: str) -> None:
    assert (SHIPPED[role] / NAME).is_file()
    verify(SHIPPED[role])


@pytest.mark.parametrize("role", SHIPPED)
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_flipped_bit_of_the_shipped_ones_stops_the_engines(
    role: str, name: str, tmp_path: Path
) -> None:
    copy = shutil.copytree(SHIPPED[role], tmp_path / "copy")
    engine: planner_engines.Engine | segmenter_engines.Engine
    if role == "planner":
        engine = planner_engines.create(PlannerSettings(model=str(copy)), RecordedPlannerMetrics())
    else:
        engine = segmenter_engines.create(SegmenterSettings(model=str(copy)))
    flip(copy / name, (copy / name).stat().st_size // 2)
    with pytest.raises(ChecksumError, match=name):
        engine.load()
