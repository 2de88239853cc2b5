"""Pictures judged by their files: what is whole is not decoded, what may not be is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.codecs.images import ImageHeader
from tests.odd.datasets import picture
from training.datasets import pictures
from training.datasets.pictures import PictureFault, inside, judge, size_fault


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("a.jpg", True),
        ("deep/er/a.jpg", True),
        ("./a.jpg", True),
        ("a..b.jpg", True),
        ("12:30.jpg", True),
        ("größe 猫.jpg", True),
        ("../a.jpg", False),
        ("deep/../../a.jpg", False),
        ("/a.jpg", False),
        ("\\a.jpg", False),
        ("C:\\a.jpg", False),
        ("..\\a.jpg", False),
        ("a\0.jpg", False),
    ],
)
def test_names_stay_in_their_folder(name: str, right: bool) -> None:
    folder = Path("pictures")
    assert inside(folder, name) == (folder / name if right else None)


def test_whole_files_are_judged_without_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    monkeypatch.setattr(pictures, "decode", lambda data: decoded.append(len(data)))
    names = ("a.jpg", "a.png", "a.webp", "padded.jpg")
    for name in names:
        picture(1).save(tmp_path / name)
    padded = (tmp_path / "padded.jpg").read_bytes() + b"\0" * 512
    (tmp_path / "padded.jpg").write_bytes(padded)
    found = judge([tmp_path / name for name in names])
    assert all(isinstance(one, ImageHeader) and one.width == 60 for one in found.values())
    assert not decoded
    picture(1).save(tmp_path / "a.bmp")
    cut = (tmp_path / "a.jpg").read_bytes()[:-2]
    (tmp_path / "a.jpg").write_bytes(cut)
    judge([tmp_path / "a.bmp", tmp_path / "a.jpg"])
    assert len(decoded) == 2


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "gif"])
def test_a_file_cut_in_half_is_told_in_every_format(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"cut.{suffix}"
    picture(1).save(file)
    assert isinstance(judge([file])[file], ImageHeader)
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    found = judge([file])[file]
    assert isinstance(found, PictureFault)
    assert found.kind == "picture unreadable"
    assert str(file) in found.message


def test_many_are_judged_each_for_itself(tmp_path: Path) -> None:
    files = []
    for number in range(40):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(np.zeros((20 + number, 30, 3), np.uint8)).save(files[-1])
    files[7].write_bytes(b"no picture")
    files[9].unlink()
    found = judge(files)
    assert {file for file, one in found.items() if isinstance(one, PictureFault)} == {
        files[7],
        files[9],
    }
    for number in (0, 8, 39):
        header = found[files[number]]
        assert isinstance(header, ImageHeader)
        assert header.height == 20 + number


@pytest.mark.parametrize(
    ("orientation", "size", "message"),
    [
        (1, (60, 40), None),
        (6, (60, 40), None),
        (6, (40, 60), "as it is stored, but Exif turns it"),
        (1, (40, 60), "annotated as 40 x 60 pixels, but it has 60 x 40"),
        (3, (40, 60), "but it has 60 x 40"),
        (6, (41, 60), "but it has 60 x 40"),
    ],
)
def test_sizes_are_those_that_show(
    orientation: int, size: tuple[int, int], message: str | None
) -> None:
    fault = size_fault(ImageHeader(60, 40, "JPEG", 1, "RGB", orientation), size)
    assert (fault is None) == (message is None)
    if fault is not None:
        assert str(message) in fault.message
