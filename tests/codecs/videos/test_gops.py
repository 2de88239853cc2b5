"""`services.codecs.videos.gops`: the wire format, and where streams are cut."""

import random
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.codecs.videos.gops import (
    DemuxedPacket,
    EncodedPacket,
    Gop,
    GopAssembler,
    GopHeader,
    VideoInfo,
)

INFO = VideoInfo(
    "mp4", "h264", 96, 64, 96, 64, 0, False, 25.0, 1.6, 40, 0.0, "yuv420p", 8, "", False
)
HEADER = GopHeader(
    INFO, "h264", "avc1", b"\1extra", Fraction(1, 12800), 6, Fraction(4, 3), 2, False
)


def packets(*pts: int, size: int = 10, keys: tuple[int, ...] = (0,)) -> list[DemuxedPacket]:
    return [
        DemuxedPacket(
            bytes(size), time, shown=True, key=at in keys, begins=at in keys, fresh=at in keys
        )
        for at, time in enumerate(pts)
    ]


def cut(stream: list[DemuxedPacket], max_packets: int = 60, max_bytes: int = 1 << 20) -> list[Gop]:
    assembler = GopAssembler(max_packets, max_bytes)
    return [gop for packet in stream for gop in assembler.push(packet)] + assembler.finish()


@given(
    st.lists(
        st.builds(
            EncodedPacket,
            st.binary(max_size=20),
            st.integers(-(1 << 63), (1 << 63) - 1),
            st.booleans(),
            st.booleans(),
        )
    ),
    st.booleans(),
    st.booleans(),
)
def test_gops_survive_the_wire(content: list[EncodedPacket], key: bool, drains: bool) -> None:
    gop = Gop(3, 40, 44, 2, key, drains, tuple(content))
    assert Gop.decode(gop.encode()) == gop


def test_headers_survive_the_wire() -> None:
    assert GopHeader.decode(HEADER.encode()) == HEADER
    bare = replace(HEADER, extradata=b"", info=replace(INFO, average_rate=None, frames=None))
    assert GopHeader.decode(bare.encode()) == bare


def test_what_is_damaged_on_the_wire_is_refused() -> None:
    gop = cut(packets(0, 1, 2))[0].encode()
    for data, kind in ((gop, Gop), (HEADER.encode(), GopHeader)):
        for length in range(len(data)):
            with pytest.raises(ValueError, match=r"GOP|header"):
                kind.decode(data[:length])
        with pytest.raises(ValueError, match=r"GOP|header"):
            kind.decode(data + b"x")
        rng = random.Random(0)
        for _ in range(300):
            spoiled = bytearray(data)
            spoiled[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            try:
                kind.decode(bytes(spoiled))
            except ValueError:
                continue


def test_a_key_frame_begins_a_gop() -> None:
    gops = cut(packets(*range(10), keys=(0, 4, 8)))
    assert [(gop.first_frame, gop.frames) for gop in gops] == [(0, 4), (4, 4), (8, 2)]
    assert all(gop.key and gop.drains and gop.resume_from == gop.index for gop in gops)


def test_leading_frames_belong_to_their_gop_and_need_the_one_before() -> None:
    # I0 P3 b1 b2 | I6 b4 b5 P8 b7 | I9
    gops = cut(packets(0, 3, 1, 2, 6, 4, 5, 8, 7, 9, keys=(0, 4, 9)))
    assert [(gop.first_frame, gop.frames) for gop in gops] == [(0, 4), (4, 5), (9, 1)]
    assert [gop.resume_from for gop in gops] == [0, 0, 2]
    assert [gop.drains for gop in gops] == [False, True, True]
    assert gops[1].order() == [1, 2, 0, 4, 3]
    assert [packet.ticks for packet in gops[1].packets] == [6, 4, 5, 8, 7]


def test_a_key_frame_that_is_not_fresh_needs_the_one_before() -> None:
    stream = packets(*range(9), keys=(0, 3, 6))
    stream[3] = replace(stream[3], fresh=False)
    gops = cut(stream)
    assert [gop.resume_from for gop in gops] == [0, 0, 2]
    assert [gop.drains for gop in gops] == [False, True, True]


def test_a_stream_that_begins_with_leading_frames_leaves_them_out() -> None:
    gops = cut(packets(6, 4, 5, 8, 7, keys=(0,)))
    assert [packet.shown for packet in gops[0].packets] == [True, False, False, True, True]
    assert [packet.ticks for packet in gops[0].packets if packet.shown] == [0, 2, 1]


def test_what_is_before_the_first_key_frame_is_left_out() -> None:
    gops = cut(packets(0, 1, 2, 3, keys=(2,)))
    assert [(gop.first_frame, gop.frames, gop.first_packet) for gop in gops] == [(0, 2, 0)]


@pytest.mark.parametrize("bframes", [0, 1, 2, 3, 7])
def test_long_gops_are_cut_where_the_order_allows(bframes: int) -> None:
    times = [0]
    while len(times) < 500:
        last = max(times)
        times += [last + bframes + 1, *range(last + 1, last + bframes + 1)]
    for gops in (cut(packets(*times), max_packets=50), cut(packets(*times), max_bytes=500)):
        assert len(gops) >= len(times) // 50 - 1
        # Each part but the last holds no more than asked, and no part is a sliver.
        assert all(50 - bframes - 1 <= len(gop.packets) <= 50 for gop in gops[:-2])
        assert [gop.key for gop in gops] == [True] + [False] * (len(gops) - 1)
        assert {gop.resume_from for gop in gops} == {0}
        assert [gop.drains for gop in gops] == [False] * (len(gops) - 1) + [True]
        latest = -1
        for gop in gops:
            shown = [gop.packets[at].ticks for at in gop.order()]
            assert shown[0] > latest
            latest = shown[-1]


def test_memory_is_bounded_while_a_long_gop_is_cut() -> None:
    assembler = GopAssembler(60, 1000)
    most = 0
    for packet in packets(*range(5000), size=100):
        assembler.push(packet)
        most = max(most, assembler.pending_bytes)
    assert most <= 100 * (60 + 33)


def test_times_without_order_are_cut_all_the_same() -> None:
    times = list(range(2000))
    random.Random(0).shuffle(times)
    gops = cut(packets(*times))
    assert sum(len(gop.packets) for gop in gops) == 2000
    assert max(len(gop.packets) for gop in gops) <= 60 + 33
