"""`services.codecs.videos.demux`: what is said of a video, and which times its frames have."""

import io
from dataclasses import replace
from fractions import Fraction

import pytest

from services.codecs.videos.decode import DecodedFrame, VideoDecoder
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.gops import VideoInfo
from services.codecs.videos.limits import VideoLimits
from services.codecs.videos.selection import FrameSelection
from services.errors import Cancelled, InvalidMedia, Reason, ServiceError, TooLarge
from tests.codecs.videos.clips import KINDS, X264, Clip, animated_webp, number_in


def read(data: bytes, limits: VideoLimits | None = None) -> tuple[VideoInfo, list[DecodedFrame]]:
    limits = limits or VideoLimits()
    with Demuxer(io.BytesIO(data), limits) as demuxer:
        decoder = VideoDecoder(demuxer.header, limits)
        frames = [frame for gop in demuxer.gops() for frame in decoder.decode(gop)]
        assert demuxer.fault is None
        return demuxer.info, frames


def test_what_is_said_of_a_video() -> None:
    info, _ = read(KINDS["mp4-h264"].make())
    assert info == VideoInfo(
        container="mp4",
        codec="h264",
        width=96,
        height=64,
        coded_width=96,
        coded_height=64,
        rotation=0,
        mirrored=False,
        average_rate=25.0,
        duration_s=1.6,
        frames=40,
        start_s=0.0,
        pixel_format="yuv420p",
        bit_depth=8,
        hdr="",
        interlaced=False,
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mp4-hevc-open-10", ("mp4", "hevc", "yuv420p10le", 10)),
        ("mp4-av1", ("mp4", "av1", "yuv420p", 8)),
        ("webm-vp9", ("matroska", "vp9", "yuv420p", 8)),
        ("mkv-ffv1", ("matroska", "ffv1", "yuv444p", 8)),
        ("avi-mjpeg", ("avi", "mjpeg", "yuvj420p", 8)),
        ("mov-prores", ("mp4", "prores", "yuv422p10le", 10)),
        ("gif", ("gif", "gif", "bgra", 8)),
    ],
)
def test_container_codec_and_pixels_are_named(kind: str, expected: tuple[object, ...]) -> None:
    info, _ = read(KINDS[kind].make())
    assert (info.container, info.codec, info.pixel_format, info.bit_depth) == expected


def test_animated_webp_is_named() -> None:
    info, _ = read(animated_webp())
    assert (info.container, info.codec, info.width, info.height) == ("webp", "webp", 96, 64)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_uneven_times_are_kept(container: str) -> None:
    ticks = [0, 40, 80, 240, 250, 260, 700, 1500, 1510, 2000]
    data = Clip(container, frames=10, ticks=ticks, codec_options=X264).make()
    _, frames = read(data)
    assert [frame.index for frame in frames] == list(range(10))
    assert [frame.time_s for frame in frames] == pytest.approx(
        [tick / 1000 for tick in ticks], abs=1e-3
    )


def test_times_count_from_the_first_frame() -> None:
    ticks = [5000 + 40 * number for number in range(10)]
    data = Clip("matroska", frames=10, ticks=ticks, codec_options=X264).make()
    info, frames = read(data)
    assert info.start_s == pytest.approx(5.0, abs=0.1)
    assert [frame.time_s for frame in frames] == pytest.approx(
        [0.04 * number for number in range(10)], abs=1e-3
    )


def with_edit(data: bytes, media_time: int) -> bytes:
    """An MP4 whose edit list begins at `media_time`, in the track's ticks."""
    at = data.index(b"elst")
    assert data[at + 4 : at + 12] == b"\0\0\0\0\0\0\0\1"  # version 0, one entry
    return data[: at + 16] + media_time.to_bytes(4, "big") + data[at + 20 :]


def test_edit_lists_are_applied() -> None:
    """What an edit list cuts off at the beginning is decoded and not shown."""
    data = KINDS["mp4-h264"].make()
    at = data.index(b"elst")
    before = int.from_bytes(data[at + 16 : at + 20], "big")
    cut = with_edit(data, before + 5 * 512)  # five frames of 1/12800 s * 512
    _, frames = read(cut)
    assert [number_in(frame.pixels) for frame in frames] == list(range(5, 40))
    assert [frame.index for frame in frames] == list(range(35))
    assert frames[0].time_s == 0.0
    assert frames[1].time_s == pytest.approx(0.04)


def test_the_size_is_the_one_that_viewers_show() -> None:
    data = Clip(codec_options=X264, aspect=Fraction(4, 3), frames=3).make()
    info, frames = read(data)
    assert (info.width, info.height, info.coded_width) == (128, 64, 96)
    assert frames[0].pixels.shape == (64, 128, 3)
    assert number_in(frames[2].pixels) == 2
    tall = Clip(codec_options=X264, aspect=Fraction(1, 2), frames=3).make()
    info, frames = read(tall)
    assert (info.width, info.height) == (96, 128)


def test_limits_are_on_what_comes_out() -> None:
    data = KINDS["mp4-h264"].make()
    cases: list[tuple[dict[str, float], type[ServiceError], Reason]] = [
        ({"max_frames": 39}, TooLarge, Reason.VIDEO_TOO_LONG),
        ({"max_seconds": 1.5}, TooLarge, Reason.VIDEO_TOO_LONG),
        ({"max_pixels": 96 * 64 - 1}, TooLarge, Reason.VIDEO_TOO_LARGE),
        ({"max_side": 95}, TooLarge, Reason.VIDEO_TOO_LARGE),
        ({"min_side": 65}, InvalidMedia, Reason.VIDEO_BAD_SHAPE),
        ({"max_aspect": 1.4}, InvalidMedia, Reason.VIDEO_BAD_SHAPE),
        ({"max_packet_bytes": 200}, TooLarge, Reason.VIDEO_TOO_LARGE),
        ({"max_total_pixels": 96 * 64 * 39}, TooLarge, Reason.VIDEO_TOO_LARGE),
        ({"max_decode_seconds": 0.0}, TooLarge, Reason.VIDEO_TOO_LONG),
    ]
    for change, kind, reason in cases:
        with pytest.raises(kind) as caught:
            read(data, replace(VideoLimits(), **change))
        assert caught.value.reason is reason, change
    exact = {"max_frames": 40, "max_total_pixels": 96 * 64 * 40, "max_pixels": 96 * 64}
    _, frames = read(data, replace(VideoLimits(), **exact))
    assert len(frames) == 40


def test_frames_before_a_limit_come_out() -> None:
    data = Clip(codec_options=X264, frames=60).make()
    limits = replace(VideoLimits(), max_frames=40)
    with Demuxer(io.BytesIO(data), limits) as demuxer:
        found: list[int] = []
        with pytest.raises(TooLarge):
            found.extend(gop.frames for gop in demuxer.gops())
        assert sum(found) >= 12


@pytest.mark.parametrize("kind", ["mp4-h264", "mp4-h264-open", "mp4-h264-one-gop", "gif"])
def test_a_selection_leaves_out_gops_that_it_does_not_need(kind: str) -> None:
    limits = replace(VideoLimits(), max_gop_packets=20)
    selection = FrameSelection(start_s=1.04, end_s=1.2)
    with Demuxer(io.BytesIO(KINDS[kind].make()), limits) as demuxer:
        decoder = VideoDecoder(demuxer.header, limits, selection)
        gops = list(demuxer.gops(selection))
        found = [frame for gop in gops for frame in decoder.decode(gop)] + list(decoder.flush())
    assert [frame.index for frame in found] == [26, 27, 28, 29]
    assert [number_in(frame.pixels) for frame in found] == [26, 27, 28, 29]
    if kind == "mp4-h264":
        assert [gop.index for gop in gops] == [2]  # of four
    if kind == "mp4-h264-one-gop":
        assert gops[0].index == 0
        assert gops[-1].first_frame < 30


@pytest.mark.parametrize("kind", ["mp4-h264", "webm-vp9"])
def test_stop_ends_it_between_packets(kind: str) -> None:
    data = KINDS[kind].make()
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 20

    with pytest.raises(Cancelled), Demuxer(io.BytesIO(data), stop=stop) as demuxer:
        list(demuxer.gops())
    assert asked == 21


def test_a_torn_end_is_told_after_the_frames_before_it() -> None:
    for kind in ("mp4-faststart", "mkv-h264", "webm-vp9", "avi-mjpeg", "gif"):
        data = KINDS[kind].make()
        with Demuxer(io.BytesIO(data[: len(data) * 2 // 3])) as demuxer:
            decoder = VideoDecoder(demuxer.header)
            found = [frame for gop in demuxer.gops() for frame in decoder.decode(gop)]
        assert 5 < len(found) < 40, kind
        assert [frame.index for frame in found] == list(range(len(found))), kind
        assert [number_in(frame.pixels) for frame in found[:-1]] == list(range(len(found) - 1))
    webp = animated_webp()
    with Demuxer(io.BytesIO(webp[: len(webp) * 2 // 3])) as demuxer:
        assert sum(gop.frames for gop in demuxer.gops()) > 5
    assert demuxer.fault is not None
    assert demuxer.fault.reason is Reason.VIDEO_CORRUPT


def test_sound_and_covers_are_left_out() -> None:
    _, frames = read(KINDS["mp4-sound"].make())
    assert [number_in(frame.pixels) for frame in frames] == list(range(40))
