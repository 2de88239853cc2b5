import io
from pathlib import Path

import av
import numpy as np
import pytest

from training.world.clip_files import write_mp4
from training.world.clips import Clip, ClipFrame, ClipWorld


@pytest.fixture(scope="module")
def clip() -> Clip:
    return ClipWorld().clip(11, size=(128, 96), frame_count=30)


@pytest.fixture(scope="module")
def frames(clip: Clip) -> list[ClipFrame]:
    return list(clip.frames())


@pytest.mark.parametrize(("gop", "b_frames"), [(12, 2), (30, 0), (100, 3)])
def test_files_show_the_clip_with_the_key_frames_asked_for(
    clip: Clip, frames: list[ClipFrame], tmp_path: Path, gop: int, b_frames: int
) -> None:
    write_mp4(clip, tmp_path / "clip.mp4", gop=gop, b_frames=b_frames)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert float(stream.average_rate) == clip.rate
        read = list(container.decode(stream))
    assert [index for index, frame in enumerate(read) if frame.key_frame] == list(range(0, 30, gop))
    assert len(read) == 30
    for frame, true in zip(read, frames, strict=True):
        assert frame.time == pytest.approx(true.time_s, abs=1e-3)
        shown = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(shown - true.image).mean() < 6


def test_more_quality_takes_more_bytes(clip: Clip, frames: list[ClipFrame]) -> None:
    sizes = []
    for quality in (12, 35):
        file = io.BytesIO()
        write_mp4(clip, file, quality=quality, frames=frames)
        sizes.append(len(file.getvalue()))
    assert sizes[0] > 1.5 * sizes[1]


def test_the_rate_can_be_another(clip: Clip, frames: list[ClipFrame]) -> None:
    file = io.BytesIO()
    write_mp4(clip, file, rate=12.5, frames=frames)
    file.seek(0)
    with av.open(file) as container:
        assert float(container.streams.video[0].average_rate) == 12.5


def test_odd_sides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="127 x 96"):
        write_mp4(ClipWorld().clip(1, size=(127, 96)), tmp_path / "clip.mp4")
