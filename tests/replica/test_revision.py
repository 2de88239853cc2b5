"""A checkpoint's revision follows its contents."""

from pathlib import Path

import pytest

from services.replica import revision
from services.replica.revision import folder_revision


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(bytes(3_000_000))
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"\1" * 100)
    (tmp_path / "notes.txt").write_text("not part of it")
    return tmp_path


def test_same_contents_same_revision(folder: Path) -> None:
    before = folder_revision(folder)
    (folder / "notes.txt").write_text("changed")
    assert folder_revision(folder) == before
    assert len(before) == 16


@pytest.mark.parametrize("name", ["config.json", "model-00002-of-00002.safetensors"])
def test_any_file_changes_it(folder: Path, name: str) -> None:
    before = folder_revision(folder)
    (folder / name).write_bytes(b"\2" * 100)
    assert folder_revision(folder) != before


def test_large_files_are_sampled_from_end_to_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revision, "_WHOLE", 2 << 20)
    before = folder_revision(folder)
    large = folder / "model-00001-of-00002.safetensors"
    for place in (0, -1):
        contents = bytearray(large.read_bytes())
        contents[place] ^= 0xFF
        large.write_bytes(contents)
        assert folder_revision(folder) != before
        before = folder_revision(folder)
