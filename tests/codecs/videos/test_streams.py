"""Every container and codec: each frame comes out once, with its number, also after resuming."""

import io
import os
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import pytest

from services.codecs.videos.decode import DecodedFrame, VideoDecoder, decode_key_frame
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.gops import Gop, GopHeader
from services.codecs.videos.limits import VideoLimits
from services.codecs.videos.selection import FrameSelection
from tests.codecs.videos.clips import KINDS, animated_webp, number_in

os.environ.setdefault("SVT_LOG", "0")

ALL = {**{name: clip.make for name, clip in KINDS.items()}, "webp": animated_webp}
# Parts of at most this many packets, so that long GOPs are cut.
LIMITS = VideoLimits(max_gop_packets=20)


@cache
def stream(kind: str) -> tuple[GopHeader, list[Gop]]:
    """The header and the GOPs of a clip, as another process gets them."""
    with Demuxer(io.BytesIO(ALL[kind]()), LIMITS) as demuxer:
        gops = [Gop.decode(gop.encode()) for gop in demuxer.gops()]
        assert demuxer.fault is None
        return GopHeader.decode(demuxer.header.encode()), gops


def decoded(
    header: GopHeader, gops: Sequence[Gop], first_frame: int = 0, **selection: float
) -> Iterator[DecodedFrame]:
    decoder = VideoDecoder(header, LIMITS, FrameSelection(**selection), first_frame=first_frame)
    for gop in gops:
        yield from decoder.decode(gop)
        assert decoder.held == 0 or not gop.drains
    yield from decoder.flush()
    assert decoder.lost == 0
    assert decoder.held == 0


def count(kind: str) -> int:
    return 12 if kind == "webp" else KINDS[kind].frames


@pytest.mark.parametrize("kind", ALL)
def test_every_frame_comes_out_once_with_its_number(kind: str) -> None:
    header, gops = stream(kind)
    frames = list(decoded(header, gops))
    assert [frame.index for frame in frames] == list(range(count(kind)))
    assert [number_in(frame.pixels) for frame in frames] == list(range(count(kind)))
    # GIF counts hundredths of a second, WebM thousandths.
    times = [frame.time_s for frame in frames]
    assert times == pytest.approx([number / 25 for number in range(count(kind))], abs=1e-3)
    info = header.info
    assert {frame.pixels.shape for frame in frames} == {(info.height, info.width, 3)}


@pytest.mark.parametrize("kind", ALL)
def test_gops_follow_each_other(kind: str) -> None:
    _, gops = stream(kind)
    frame = packet = 0
    for index, gop in enumerate(gops):
        assert (gop.index, gop.first_frame, gop.first_packet) == (index, frame, packet)
        assert gop.resume_from <= index
        assert gops[gop.resume_from].key
        frame += gop.frames
        packet += len(gop.packets)
    assert gops[0].key
    assert gops[-1].drains
    assert frame == count(kind)


@pytest.mark.parametrize("kind", ALL)
def test_frames_are_the_same_after_resuming_at_any_gop(kind: str) -> None:
    header, gops = stream(kind)
    whole = list(decoded(header, gops))
    for gop in gops:
        again = list(decoded(header, gops[gop.resume_from :], gop.first_frame))
        assert [frame.index for frame in again] == list(range(gop.first_frame, len(whole)))
        for frame in again:
            before = whole[frame.index]
            assert frame.time_s == before.time_s
            assert np.array_equal(frame.pixels, before.pixels)


@pytest.mark.parametrize("kind", ALL)
def test_a_gop_that_drains_gives_all_its_frames_at_once(kind: str) -> None:
    header, gops = stream(kind)
    decoder = VideoDecoder(header, LIMITS)
    for gop in gops:
        last = [frame.index for frame in decoder.decode(gop)][-1:]
        if gop.drains:
            assert last == [gop.first_frame + gop.frames - 1]


@pytest.mark.parametrize("kind", ALL)
def test_key_frames_are_decoded_alone(kind: str) -> None:
    header, gops = stream(kind)
    whole = list(decoded(header, gops))
    for gop in gops:
        if gop.key:
            frame = decode_key_frame(header, gop, LIMITS)
            assert gop.first_frame <= frame.index < gop.first_frame + gop.frames
            assert number_in(frame.pixels) == frame.index
            assert frame.time_s == whole[frame.index].time_s
        else:
            with pytest.raises(ValueError, match="no key frame"):
                decode_key_frame(header, gop, LIMITS)


def test_what_the_kinds_exercise() -> None:
    """The clips have what they were made for; or the tests above prove less than they seem to."""
    _, opened = stream("mp4-h264-open")
    assert any(gop.resume_from == gop.index - 1 and gop.key for gop in opened)
    assert any(packet.ticks < gop.packets[0].ticks for gop in opened for packet in gop.packets)
    _, hevc = stream("mp4-hevc-open-10")
    assert any(gop.key and not gop.drains for gop in hevc)
    _, long = stream("mp4-h264-one-gop")
    assert len(long) > 4
    assert [gop.key for gop in long] == [True] + [False] * (len(long) - 1)
    assert {gop.resume_from for gop in long} == {0}
    _, closed = stream("mp4-h264")
    assert all(gop.drains and gop.resume_from == gop.index for gop in closed)
    for kind in ("mp4-h264-deep-b", "avi-h264"):
        assert stream(kind)[0].reorder_depth >= 2
    assert stream("avi-h264")[0].by_order
