"""`services.codecs.videos.writing`: what is written can be read again, at the same times."""

from pathlib import Path

import av
import numpy as np
import pytest

from services.codecs.videos.decode import VideoDecoder
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.writing import CutoutWriter, OverlayWriter
from tests.codecs.videos.clips import number_in, picture

UNEVEN = [0.0, 0.04, 0.1, 0.35, 0.36, 1.2]


def read(path: Path) -> tuple[list[float], list[np.ndarray]]:
    with path.open("rb") as file, Demuxer(file) as demuxer:
        decoder = VideoDecoder(demuxer.header)
        frames = [frame for gop in demuxer.gops() for frame in decoder.decode(gop)]
    return [frame.time_s for frame in frames], [frame.pixels for frame in frames]


@pytest.mark.parametrize("size", [(96, 64), (97, 63)])
def test_an_overlay_keeps_times_and_colors(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "out.mp4"
    with OverlayWriter(path, rate=25) as writer:
        for number, time_s in enumerate(UNEVEN):
            writer.write(picture(number, *size), time_s)
        assert not path.exists()
    assert writer.frames == len(UNEVEN)
    times, frames = read(path)
    assert times == pytest.approx(UNEVEN, abs=1e-4)
    width, height = size
    for number, pixels in enumerate(frames):
        assert number_in(pixels[:height, :width]) == number
        assert pixels.shape[:2] == (height + height % 2, width + width % 2)
        error = np.abs(pixels[:height, :width].astype(int) - picture(number, *size))
        assert error.mean() < 10
    with av.open(str(path)) as written:
        assert written.streams.video[0].codec_context.name in ("h264", "mpeg4")


def test_a_cutout_has_alpha(tmp_path: Path) -> None:
    path = tmp_path / "out.webm"
    rgba = np.zeros((64, 96, 4), np.uint8)
    rgba[16:48, 32:64] = (200, 60, 30, 255)
    with CutoutWriter(path, rate=25) as writer:
        for time_s in UNEVEN:
            writer.write(rgba, time_s)
    times, _ = read(path)
    assert times == pytest.approx(UNEVEN, abs=1e-3)
    decoder = av.CodecContext.create("libvpx-vp9", "r")
    with av.open(str(path)) as written:
        stream = written.streams.video[0]
        assert stream.metadata["ALPHA_MODE"] == "1"
        for packet in written.demux(stream):
            for frame in decoder.decode(packet if packet.size else None):
                again = frame.to_ndarray(format="rgba")
                alpha = again[..., 3].astype(int)
                assert np.abs(alpha - rgba[..., 3]).mean() < 6
                inside = again[24:40, 40:56, :3].reshape(-1, 3).mean(axis=0)
                assert inside == pytest.approx((200, 60, 30), abs=12)


@pytest.mark.parametrize("kind", [OverlayWriter, CutoutWriter])
def test_frames_that_do_not_fit_are_refused(
    tmp_path: Path, kind: type[OverlayWriter | CutoutWriter]
) -> None:
    channels = kind._channels
    frame = np.zeros((32, 32, channels), np.uint8)
    with kind(tmp_path / "out") as writer:
        writer.write(frame, 0.0)
        with pytest.raises(ValueError, match="in a video of"):
            writer.write(np.zeros((32, 34, channels), np.uint8), 1.0)
        with pytest.raises(ValueError, match="not after"):
            writer.write(frame, 0.0)
        with pytest.raises(ValueError, match="uint8"):
            writer.write(np.zeros((32, 32, 2), np.uint8), 1.0)


def test_what_fails_leaves_no_file(tmp_path: Path) -> None:
    def fail() -> None:
        with OverlayWriter(tmp_path / "out.mp4") as writer:
            writer.write(picture(0), 0.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with OverlayWriter(tmp_path / "empty.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="No such file"),
        OverlayWriter(tmp_path / "missing" / "out.mp4") as writer,
    ):
        writer.write(picture(0), 0.0)
