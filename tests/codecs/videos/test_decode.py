"""`services.codecs.videos.decode`: how frames look, which come out, and what is refused."""

import io
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from services.codecs.videos.decode import DecodedFrame, VideoDecoder
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.gops import EncodedPacket, Gop, GopHeader
from services.codecs.videos.limits import VideoLimits
from services.codecs.videos.selection import FrameSelection
from services.errors import Cancelled, InvalidMedia, Reason
from tests.codecs.videos.clips import (
    KINDS,
    X264,
    Clip,
    animated_webp,
    number_in,
    picture,
    saved,
)


def opened(data: bytes) -> tuple[GopHeader, list[Gop]]:
    with Demuxer(io.BytesIO(data)) as demuxer:
        return demuxer.header, list(demuxer.gops())


def read(data: bytes, **selection: float) -> list[DecodedFrame]:
    header, gops = opened(data)
    decoder = VideoDecoder(header, selection=FrameSelection(**selection))
    frames = [frame for gop in gops for frame in decoder.decode(gop)]
    assert decoder.lost == 0
    return frames


@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_turned_as_viewers_turn_them(rotation: int, hflip: bool) -> None:
    data = Clip(codec_options=X264, frames=3, rotation=rotation, hflip=hflip).make()
    (header, _), frames = opened(data), read(data)
    # PyAV's rotation is counter-clockwise and mirrors after it.
    expected = np.rot90(picture(2), rotation // 90)
    if hflip:
        expected = expected[:, ::-1]
    assert frames[2].pixels.shape == expected.shape
    assert (header.info.height, header.info.width) == expected.shape[:2]
    assert np.abs(frames[2].pixels.astype(int) - expected).mean() < 10
    assert header.info.mirrored == hflip
    wanted = {0: 0, 90: 270, 180: 180, 270: 90}[rotation]
    if not hflip:
        assert header.info.rotation == wanted


def test_turned_frames_are_made_small_too() -> None:
    data = Clip(codec_options=X264, frames=2, rotation=90).make()
    (frame, _) = read(data, max_side=48)
    assert frame.pixels.shape == (48, 32, 3)
    expected = np.asarray(Image.fromarray(picture(0)).resize((48, 32), Image.Resampling.BOX))
    assert np.abs(frame.pixels.astype(int) - np.rot90(expected)).mean() < 10


@pytest.mark.parametrize(
    "kind", ["mp4-h264", "mp4-10-bit", "mp4-hevc", "webm-vp9", "mov-prores", "webp", "gif"]
)
def test_frames_are_made_no_larger_than_asked(kind: str) -> None:
    data = animated_webp() if kind == "webp" else KINDS[kind].make()
    small = read(data, max_side=48)
    assert {frame.pixels.shape for frame in small} == {(32, 48, 3)}
    assert [number_in(frame.pixels) for frame in small] == list(range(len(small)))
    assert {frame.pixels.shape for frame in read(data, max_side=1000)} == {(64, 96, 3)}


@pytest.mark.parametrize("kind", ["mp4-h264", "mp4-h264-open", "webm-vp9", "mp4-av1", "gif"])
def test_a_selection_keeps_numbers_and_times(kind: str) -> None:
    data = KINDS[kind].make()
    frames = read(data, start_s=0.4, end_s=1.2, stride=3)
    assert [frame.index for frame in frames] == [12, 15, 18, 21, 24, 27]
    assert [number_in(frame.pixels) for frame in frames] == [12, 15, 18, 21, 24, 27]
    assert [frame.time_s for frame in frames] == pytest.approx(
        [0.48, 0.6, 0.72, 0.84, 0.96, 1.08], abs=1e-3
    )


@pytest.mark.parametrize("kind", ["mp4-h264", "mp4-10-bit", "mp4-444", "mkv-ffv1", "mov-png"])
def test_colors_are_right(kind: str) -> None:
    clip = KINDS[kind]
    frames = read(clip.make())
    for frame in frames:
        expected = picture(frame.index, *clip.size)
        # Halved colors blur the edges of the columns.
        assert np.abs(frame.pixels.astype(int) - expected).mean() < 8


def test_a_large_stream_that_names_no_matrix_is_of_high_definition() -> None:
    """A flat color, coded by BT.709's matrix and by BT.601's, as its lines suggest."""
    flat = np.full((720, 96, 3), (200, 60, 30), np.uint8)
    clip = Clip(codec_options=X264, frames=2, size=(96, 720), source=(flat, flat))
    (frame, _) = read(clip.make())  # coded by BT.601, and taken as BT.709
    assert np.abs(frame.pixels[300, 40].astype(int) - (200, 60, 30)).max() > 8
    small = replace(clip, size=(96, 320), source=(flat[:320], flat[:320]))
    (frame, _) = read(small.make())
    assert frame.pixels[150, 40] == pytest.approx((200, 60, 30), abs=4)


def test_transparency_is_on_white_and_alpha_tracks_are_ignored() -> None:
    frames = [Image.fromarray(picture(number)).convert("RGBA") for number in range(3)]
    for frame in frames:
        frame.paste((255, 0, 0, 0), (0, 32, 96, 64))
    for format, options in (("GIF", {"disposal": 2, "duration": 40}), ("WEBP", {"duration": 40})):
        found = read(saved(frames, format, **options))
        assert [number_in(frame.pixels) for frame in found] == [0, 1, 2], format
        assert all((frame.pixels[40:] > 250).all() for frame in found), format
    assert number_in(read(KINDS["webm-vp9-alpha"].make())[9].pixels) == 9


def test_interlaced_frames_are_deinterlaced() -> None:
    """Two moments in alternating lines: what combs must not, and numbers stay."""
    moments = [picture(0)]
    for number in range(24):
        woven = picture(number % 8)
        woven[32::2] = 40 if number % 2 else 200
        woven[33::2] = 200 if number % 2 else 40
        moments.append(woven)
    clip = Clip(
        "matroska",
        "mpeg2video",
        frames=24,
        interlaced=True,
        codec_options={"g": "12", "qscale": "2", "bf": "2"},
        source=moments[1:],
    )
    header, gops = opened(clip.make())
    assert header.info.interlaced
    decoder = VideoDecoder(header)
    frames = [frame for gop in gops for frame in decoder.decode(gop)] + list(decoder.flush())
    assert [frame.index for frame in frames] == list(range(24))
    assert [number_in(frame.pixels) for frame in frames] == [n % 8 for n in range(24)]

    def comb(pixels: np.ndarray) -> float:
        area = pixels[36:60].astype(int).mean(axis=2)
        return float(np.abs(area[1:-1] - (area[:-2] + area[2:]) / 2).mean())

    assert comb(moments[5]) > 100
    assert max(comb(frame.pixels) for frame in frames) < 40


@pytest.mark.parametrize(("transfer", "name"), [(16, "pq"), (18, "hlg")])
def test_high_dynamic_range_is_mapped(transfer: int, name: str) -> None:
    clip = Clip(
        codec="libx265",
        pixels="yuv420p10le",
        frames=3,
        transfer=transfer,
        codec_options={
            "preset": "ultrafast",
            "x265-params": f"log-level=none:pools=1:transfer={transfer}:colorprim=9:colormatrix=9",
        },
    )
    header, _ = opened(clip.make())
    assert header.info.hdr == name
    frames = read(clip.make())
    assert [number_in(frame.pixels) for frame in frames] == [0, 1, 2]
    assert frames[0].pixels.dtype == np.uint8


def test_a_fresh_decoder_wants_a_key_frame_and_gops_in_order() -> None:
    header, gops = opened(KINDS["mp4-h264"].make())
    part = replace(gops[1], key=False)
    with pytest.raises(ValueError, match="key frame"):
        list(VideoDecoder(header).decode(part))
    decoder = VideoDecoder(header)
    list(decoder.decode(gops[0]))
    with pytest.raises(ValueError, match="GOP 2 after GOP 0"):
        list(decoder.decode(gops[2]))


def test_stop_ends_it_between_packets() -> None:
    header, gops = opened(KINDS["mp4-h264"].make())
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 5

    with pytest.raises(Cancelled):
        list(VideoDecoder(header, stop=stop).decode(gops[0]))
    assert asked == 6


def spoiled(gop: Gop, *positions: int) -> Gop:
    packets = [
        EncodedPacket(b"\0" * len(packet.data), packet.ticks, packet.shown, packet.key)
        if at in positions
        else packet
        for at, packet in enumerate(gop.packets)
    ]
    return replace(gop, packets=tuple(packets))


def test_frames_that_cannot_be_decoded_are_left_out_with_their_numbers() -> None:
    header, gops = opened(KINDS["avi-mjpeg"].make())
    decoder = VideoDecoder(header)
    found = []
    for gop in [gops[0], spoiled(gops[1], 2, 7), *gops[2:]]:
        found += [frame.index for frame in decoder.decode(gop)]
    assert found == [number for number in range(40) if number not in (10, 15)]
    assert decoder.lost == 2


def test_too_many_of_them_are_an_error() -> None:
    header, gops = opened(KINDS["avi-mjpeg"].make())
    decoder = VideoDecoder(header, replace(VideoLimits(), max_lost_frames=5))
    with pytest.raises(InvalidMedia) as caught:
        deque(frame for gop in gops for frame in decoder.decode(spoiled(gop, 1, 3, 5)))
    assert caught.value.reason is Reason.VIDEO_CORRUPT


def test_a_size_that_changes_in_mid_stream_is_refused() -> None:
    header, gops = opened(KINDS["avi-mjpeg"].make())
    _, other = opened(replace(KINDS["avi-mjpeg"], size=(64, 96)).make())
    decoder = VideoDecoder(header)
    assert len(list(decoder.decode(gops[0]))) == 8
    with pytest.raises(InvalidMedia, match="changes its size to 64x96 at frame 8") as caught:
        list(decoder.decode(other[1]))
    assert caught.value.reason is Reason.VIDEO_UNSUPPORTED
