"""Ray's folder is short, private, and the only thing that is ever removed."""

import tempfile
from pathlib import Path

import pytest

from services.local import ray_folder


def test_is_private_and_goes_again() -> None:
    folder = ray_folder.make()
    assert folder.stat().st_mode & 0o077 == 0
    ray_folder.inner(folder).mkdir()
    ray_folder.remove(folder)
    assert not folder.exists()


def test_is_short_where_the_temporary_directory_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = ray_folder.make()
    assert len(str(folder)) < 40
    ray_folder.remove(folder)
    assert not folder.exists()


def test_nothing_else_is_removed(tmp_path: Path) -> None:
    named_alike = tmp_path / "limelight-x"
    named_alike.mkdir()
    ray_folder.remove(named_alike)
    assert named_alike.exists()
    ray_folder.remove(Path(tempfile.gettempdir()))
    assert Path(tempfile.gettempdir()).exists()
