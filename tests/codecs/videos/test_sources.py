"""`services.codecs.videos.sources`: what a person types, and what comes of it."""

import os
import threading
from pathlib import Path

import pytest

from services.codecs.images import decode, encode
from services.codecs.videos.sources import (
    CHUNK_BYTES,
    CameraSource,
    FileSource,
    FolderSource,
    PipeSource,
    source_of,
)
from services.errors import InvalidMedia, Reason
from tests.codecs.videos.clips import number_in, picture


def test_a_file_comes_in_chunks(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    data = os.urandom(2 * CHUNK_BYTES + 17)
    path.write_bytes(data)
    source = source_of(str(path))
    assert isinstance(source, FileSource)
    chunks = list(source.chunks())
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 17]
    assert b"".join(chunks) == data


def test_a_pipe_comes_as_it_is_filled() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        source = source_of("-", pipe=pipe)
        assert isinstance(source, PipeSource)
        chunks = source.chunks()
        os.write(writing, b"first")
        assert next(chunks) == b"first"  # without waiting for more
        closing = threading.Thread(target=lambda: (os.write(writing, b"last"), os.close(writing)))
        closing.start()
        assert b"".join(chunks) == b"last"
        closing.join()


def test_a_folder_comes_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in (0, 1, 2, 10, 11):
        (tmp_path / f"frame{number}.png").write_bytes(encode(picture(number)))
    (tmp_path / "notes.txt").write_text("not a frame")
    source = source_of(str(tmp_path), rate=10)
    assert isinstance(source, FolderSource)
    frames = list(source.frames())
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.time_s for frame in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert [number_in(decode(frame.content)) for frame in frames] == [0, 1, 2, 10, 11]


@pytest.mark.parametrize("name", ["/dev/video97", "camera:97", "device:97"])
def test_a_camera_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(InvalidMedia, match="no camera /dev/video97") as caught:
        source_of(name)
    assert caught.value.reason is Reason.VIDEO_MISSING


def test_a_camera_that_gives_nothing_is_named(tmp_path: Path) -> None:
    device = tmp_path / "video0"
    device.write_bytes(b"not a camera")
    with pytest.raises(InvalidMedia, match="gives no video") as caught:
        next(CameraSource(str(device)).frames())
    assert caught.value.reason is Reason.VIDEO_MISSING


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidMedia, match="no file"):
        source_of(str(tmp_path / "clip.mp4"))
    with pytest.raises(InvalidMedia, match="no picture"):
        source_of(str(tmp_path))
