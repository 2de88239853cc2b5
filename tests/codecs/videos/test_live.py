"""`services.codecs.videos.live`: the latest frame wins, and what gave way is told."""

import asyncio

import numpy as np
import pytest

from services.codecs.images import encode
from services.codecs.videos.live import LIVE_FRAME, LiveDecoder, LiveFrame, LiveQueue
from services.errors import InvalidMedia, InvalidRequest, Reason, ServiceError, TooLarge
from tests.codecs.videos.clips import number_in, picture


async def test_all_frames_come_when_the_work_keeps_up() -> None:
    queue = LiveQueue()
    for number in range(5):
        queue.put(b"frame", number / 10)
        got = await queue.get()
        assert got is not None
        frame, gone = got
        assert (frame.index, frame.time_s, list(gone)) == (number, number / 10, [])
    queue.close()
    assert await queue.get() is None
    assert queue.dropped == 0


async def test_the_oldest_give_way_and_are_told() -> None:
    queue = LiveQueue(capacity=2)
    for number in range(7):
        queue.put(b"%d" % number, float(number))
    assert queue.dropped == 5
    first = await queue.get()
    second = await queue.get()
    assert first is not None
    assert second is not None
    assert (first[0].index, list(first[1])) == (5, [0, 1, 2, 3, 4])
    assert (second[0].index, list(second[1])) == (6, [])
    for number in range(7, 11):
        queue.put(b"x", float(number))
    third = await queue.get()
    assert third is not None
    assert (third[0].index, list(third[1])) == (9, [7, 8])


async def test_a_reader_that_waits_gets_the_next_frame_and_the_end() -> None:
    queue = LiveQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.put(b"frame", 0.0)
    got = await waiting
    assert got is not None
    assert got[0].content == b"frame"
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.close()
    assert await waiting is None


async def test_memory_is_bounded_however_slow_the_reader() -> None:
    queue = LiveQueue(capacity=3, max_frame_bytes=1000)
    for number in range(10_000):
        queue.put(bytes(1000), float(number))
    assert len(queue._waiting) == 3
    got = await queue.get()
    assert got is not None
    assert got[1] == range(9_997)


@pytest.mark.parametrize(
    ("content", "time_s", "kind", "reason"),
    [
        (b"", 1.0, InvalidMedia, Reason.IMAGE_MISSING),
        (bytes(101), 1.0, TooLarge, Reason.IMAGE_TOO_LARGE),
        (b"x", 0.0, InvalidRequest, Reason.OPTION_INVALID),
        (b"x", float("nan"), InvalidRequest, Reason.OPTION_INVALID),
        (b"x", float("inf"), InvalidRequest, Reason.OPTION_INVALID),
    ],
)
def test_what_is_refused(
    content: bytes, time_s: float, kind: type[ServiceError], reason: Reason
) -> None:
    queue = LiveQueue(max_frame_bytes=100)
    queue.put(b"first", 0.0)
    with pytest.raises(kind) as caught:
        queue.put(content, time_s)
    assert caught.value.reason is reason
    assert caught.value.field is not None
    assert str(caught.value.field).startswith("frame.")
    assert queue.put(b"next", 2.0).index == 1


def test_frames_are_decoded_and_made_small() -> None:
    decoder = LiveDecoder(max_side=48)
    jpeg = encode(picture(77), "jpeg")
    frame = decoder.decode(LiveFrame(3, 1.5, jpeg))
    assert (frame.index, frame.time_s, frame.pixels.shape) == (3, 1.5, (32, 48, 3))
    assert number_in(frame.pixels) == 77
    whole = LiveDecoder().decode(LiveFrame(0, 0.0, jpeg))
    assert whole.pixels.shape == (64, 96, 3)


def test_another_size_in_mid_stream_is_refused() -> None:
    decoder = LiveDecoder()
    decoder.decode(LiveFrame(0, 0.0, encode(picture(0), "jpeg")))
    with pytest.raises(InvalidMedia, match="frame 1 is 64x96") as caught:
        decoder.decode(LiveFrame(1, 0.1, encode(np.zeros((96, 64, 3), np.uint8), "jpeg")))
    assert (caught.value.reason, caught.value.field) == (Reason.IMAGE_BAD_SHAPE, LIVE_FRAME)


def test_a_frame_that_is_no_picture_is_refused() -> None:
    with pytest.raises(InvalidMedia) as caught:
        LiveDecoder().decode(LiveFrame(0, 0.0, b"GET / HTTP/1.1"))
    assert caught.value.reason is Reason.IMAGE_UNSUPPORTED
