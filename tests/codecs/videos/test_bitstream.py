"""`services.codecs.videos.bitstream`: what is read of a frame without decoding it."""

import io

import av
import pytest

from services.codecs.videos.bitstream import is_fresh, is_shown
from services.codecs.videos.demux import Demuxer
from tests.codecs.videos.clips import KINDS, OPEN, Clip


def test_vp8_says_in_its_first_byte_whether_a_frame_is_shown() -> None:
    with Demuxer(io.BytesIO(KINDS["webm-vp8"].make())) as demuxer:
        frame = next(demuxer.gops()).packets[1].data
    assert is_shown("vp8", frame)
    assert not is_shown("vp8", bytes((frame[0] & ~0x10, *frame[1:])))


@pytest.mark.parametrize(
    ("first", "last", "shown"),
    [
        (0b10_00_0_0_1_0, 0, True),  # profile 0, a key frame that is shown
        (0b10_00_0_0_0_0, 0, False),
        (0b10_00_0_1_0_0, 0, False),  # an inter frame that is not
        (0b10_00_1_000, 0, True),  # shows a frame that exists
        (0b10_00_0_0_0_0, 0b110_00_001, True),  # a superframe of two
        (0b10_11_0_0_0_1, 0, True),  # profile 3 has a bit more
        (0b10_11_0_0_0_0, 0, False),
    ],
)
def test_vp9_says_it_in_the_header(first: int, last: int, shown: bool) -> None:
    assert is_shown("vp9", bytes((first, 0, 0, last))) is shown


def test_an_empty_packet_shows_nothing() -> None:
    assert not is_shown("h264", b"")


@pytest.mark.parametrize("container", ["mp4", "mpegts"])
def test_idr_pictures_are_fresh_and_other_key_frames_are_not(container: str) -> None:
    """Both forms of H.264: lengths before the units (MP4), start codes (transport streams)."""
    for options, expected in ((KINDS["mp4-h264"].codec_options, {True}), (OPEN, {True, False})):
        data = Clip(container, codec_options=options).make()
        with av.open(io.BytesIO(data)) as file:
            stream = file.streams.video[0]
            extradata = stream.codec_context.extradata or b""
            assert (extradata[:1] == b"\1") == (container == "mp4")
            found = {
                is_fresh("h264", bytes(packet), extradata)
                for packet in file.demux(stream)
                if packet.is_keyframe and packet.size
            }
        assert found == expected


def test_codecs_that_leave_it_open_are_not_fresh() -> None:
    assert is_fresh("vp9", b"", b"")
    assert not is_fresh("mpeg4", b"\0\0\1\xb0", b"")
