"""Sessions with real media and the fake engine: answers, order, changes, places, ends."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limelight.masks import decode_rle, rle_iou
from limelight.values import (
    AddQuery,
    Box,
    ConceptQuery,
    DropPhrase,
    ObjectPrompt,
    PromptChange,
    RemoveObject,
    SetObject,
    TimeRange,
)
from services.domain import (
    EncodedFrame,
    FrameTracks,
    MediaEnd,
    PacketGroup,
    SessionState,
    TrackOpened,
    TrackOpening,
    TrackStep,
)
from services.errors import Idle, InvalidMedia, InvalidRequest, Overloaded, Reason, Unavailable
from services.tracker.metrics import RecordedTrackerMetrics
from services.tracker.serving import Tracker, open_tracker
from services.tracker.settings import TrackerSettings
from tests.tracker.clips import RED, demuxed, picture

RED_SQUARE = (ConceptQuery("red square"),)


@pytest.fixture
def metrics() -> RecordedTrackerMetrics:
    return RecordedTrackerMetrics()


@pytest.fixture
async def open_tracker_with(metrics: RecordedTrackerMetrics) -> AsyncIterator[Callable[..., Any]]:
    opened = []

    def make(**settings: Any) -> Tracker:
        tracker = open_tracker(TrackerSettings(engine="fake", **settings), metrics)
        opened.append(tracker)
        return tracker

    yield make
    for tracker in opened:
        async with asyncio.timeout(60):
            await tracker.close()


@pytest.fixture
def tracker(open_tracker_with: Callable[..., Tracker]) -> Tracker:
    return open_tracker_with()


def opening(**fields: Any) -> TrackOpening:
    fields = {"queries": RED_SQUARE, "media_header": demuxed().header, **fields}
    return TrackOpening(**fields)


async def stream(steps: Sequence[TrackStep], then: asyncio.Event | None = None) -> Any:
    for step in steps:
        yield step
    if then is not None:
        await then.wait()


async def track(
    tracker: Tracker, steps: Sequence[TrackStep] | None = None, **fields: Any
) -> list[Any]:
    steps = [*demuxed().groups, MediaEnd()] if steps is None else steps
    async with asyncio.timeout(60):
        return [event async for event in tracker.track(opening(**fields), stream(steps))]


def frames_of(events: list[Any]) -> list[FrameTracks]:
    return [event for event in events if isinstance(event, FrameTracks)]


async def test_every_frame_is_answered_once_in_order(
    tracker: Tracker, metrics: RecordedTrackerMetrics
) -> None:
    events = await track(tracker)
    assert isinstance(events[0], TrackOpened)
    assert events[0].model.engine == "fake"
    frames = frames_of(events)
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.timestamp_s for frame in frames] == pytest.approx([n / 25 for n in range(40)])
    for frame in frames:
        (item,) = frame.objects
        assert (item.object_id, item.query) == (1, 0)
        truth = (picture(frame.index) == RED).all(2)
        assert item.area == truth.sum()
        np.testing.assert_array_equal(decode_rle(item.mask), truth)
    assert metrics.counts["frames",] == 40
    assert metrics.counts["ended", "finished"] == 1
    assert metrics.counts["media",] == sum(len(group.content) for group in demuxed().groups)
    assert len(metrics.seconds["stage", "decode"]) >= 40
    for stage in ("decode", "resize", "encode", "detect", "associate", "masks", "state"):
        assert sum(metrics.seconds["cpu", stage]) > 0, stage
    assert all(frame.timings_ms["decode"] > 0 for frame in frames)
    assert metrics.gauges["sessions",] == 0
    assert tracker.load.live == 0


async def test_the_end_of_the_requests_is_the_end_of_the_media(tracker: Tracker) -> None:
    frames = frames_of(await track(tracker, demuxed().groups))
    assert [frame.index for frame in frames] == list(range(40))


async def test_a_step_without_an_answer_is_acknowledged(
    open_tracker_with: Callable[..., Tracker],
) -> None:
    """Answers are held back for as many frames as a group has, and a change has none at all."""
    tracker = open_tracker_with(state_every_groups=0)
    change = PromptChange(AddQuery(ConceptQuery("blue square")), at_frame=20)
    events = await track(tracker, [change, *demuxed().groups])
    assert events[1] is None
    assert events[2] is None
    assert len(frames_of(events)) == 40


async def test_stride_size_and_range(tracker: Tracker) -> None:
    part = TimeRange(0.4, 1.2)
    frames = frames_of(await track(tracker, stride=4, max_side=48, range=part))
    assert [frame.index for frame in frames] == list(range(12, 30, 4))
    assert {(frame.width, frame.height) for frame in frames} == {(48, 32)}


async def test_changes_apply_at_their_frames(tracker: Tracker) -> None:
    changes = [
        PromptChange(AddQuery(ConceptQuery("blue square")), at_frame=13),
        PromptChange(DropPhrase("red square"), at_frame=31),
    ]
    frames = frames_of(await track(tracker, [*changes, *demuxed().groups]))
    seen = [{item.query for item in frame.objects} for frame in frames]
    assert seen == [{0}] * 13 + [{0, 1}] * 18 + [{1}] * 9


async def test_objects_by_box_are_tracked_and_removed(tracker: Tracker) -> None:
    blue = ObjectPrompt(Box(70, 40, 86, 56), "thing")
    red = ObjectPrompt(Box(24, 10, 40, 26))
    steps: list[TrackStep] = [
        PromptChange(SetObject(red), at_frame=20),
        demuxed().groups[0],
        demuxed().groups[1],
        PromptChange(RemoveObject(1), at_frame=25),
        *demuxed().groups[2:],
    ]
    frames = frames_of(await track(tracker, steps, queries=(), objects=(blue,)))
    seen = [{item.query for item in frame.objects} for frame in frames]
    assert seen == [{-1}] * 20 + [{-1, -2}] * 5 + [{-2}] * 15
    assert frames[25].removed == (1,)


async def test_a_change_of_a_frame_that_has_passed(tracker: Tracker) -> None:
    late = PromptChange(DropPhrase("red square"), at_frame=9)
    with pytest.raises(InvalidRequest) as caught:
        await track(tracker, [demuxed().groups[0], late])
    assert caught.value.reason is Reason.FRAME_PASSED
    assert str(caught.value.field) == "change.at_frame"


async def test_live_pictures_are_answered_at_once(tracker: Tracker) -> None:
    def jpeg(number: int) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(picture(number)).save(buffer, "PNG")
        return buffer.getvalue()

    pictures = [EncodedFrame(jpeg(number), 3 * number, number / 7) for number in range(10)]
    events = await track(tracker, pictures, media_header=b"", live=True)
    assert None not in events
    frames = frames_of(events)
    assert [frame.index for frame in frames] == list(range(0, 30, 3))
    assert frames[3].timestamp_s == 3 / 7
    assert all(len(frame.objects) == 1 for frame in frames)


@pytest.mark.parametrize(
    ("fields", "steps", "kind"),
    [
        ({"media_header": b"LMH1 and nothing"}, [], InvalidRequest),
        ({}, [PacketGroup(b"LMG1", 0)], InvalidRequest),
        ({}, [demuxed().groups[1], demuxed().groups[3]], InvalidRequest),
        ({}, [EncodedFrame(b"x", 0, 0.0)], InvalidRequest),
        ({"media_header": b""}, [demuxed().groups[0]], InvalidRequest),
        ({"media_header": b"", "live": True}, [EncodedFrame(b"no picture", 0, 0.0)], InvalidMedia),
        ({"score_threshold": 2.0}, [], InvalidRequest),
        ({"stride": 0}, [], InvalidRequest),
        ({"queries": (ConceptQuery(),)}, [], InvalidRequest),
        ({}, [PromptChange(RemoveObject(7)), demuxed().groups[0]], InvalidRequest),
    ],
)
async def test_what_is_wrong_is_refused_and_frees_its_place(
    tracker: Tracker,
    metrics: RecordedTrackerMetrics,
    fields: dict[str, Any],
    steps: list[TrackStep],
    kind: type[Exception],
) -> None:
    with pytest.raises(kind):
        await track(tracker, steps, **fields)
    assert tracker.load.live == 0
    assert tracker._segmenter.sessions == ()
    assert metrics.counts["ended", "failed"] == 1


async def test_one_too_many_is_told_when_to_come_again(
    open_tracker_with: Callable[..., Tracker], metrics: RecordedTrackerMetrics
) -> None:
    tracker = open_tracker_with(max_sessions=2)
    leave = asyncio.Event()
    sessions = [tracker.track(opening(), stream([], leave)) for _ in range(2)]
    for session in sessions:
        assert isinstance(await anext(session), TrackOpened)
    assert tracker.load.live == 2
    with pytest.raises(Overloaded) as caught:
        await track(tracker)
    assert caught.value.retry_after_s
    assert tracker.load.figures() == {"sessions": 2, "refused": 1}
    assert tracker.load.figures() == {"sessions": 2, "refused": 0}
    # Who leaves makes room at once.
    await sessions[0].aclose()
    assert len(frames_of(await track(tracker))) == 40
    await sessions[1].aclose()
    assert metrics.counts["ended", "cancelled"] == 2
    assert metrics.counts["ended", "refused"] == 1


async def test_several_sessions_share_the_steps(
    tracker: Tracker, metrics: RecordedTrackerMetrics
) -> None:
    alone = frames_of(await track(tracker))
    metrics.batches.clear()
    together = await asyncio.gather(*(track(tracker) for _ in range(4)))
    for events in together:
        for one, other in zip(alone, frames_of(events), strict=True):
            assert (one.index, one.objects) == (other.index, other.objects)
    assert max(metrics.batches["encode"]) > 1


async def test_a_caller_that_sends_nothing_is_given_up(
    open_tracker_with: Callable[..., Tracker], metrics: RecordedTrackerMetrics
) -> None:
    tracker = open_tracker_with(idle_timeout_s=0.2)
    session = tracker.track(opening(), stream([], asyncio.Event()))
    async with asyncio.timeout(60):
        assert isinstance(await anext(session), TrackOpened)
        with pytest.raises(Idle) as caught:
            await anext(session)
    assert caught.value.reason is Reason.STREAM_IDLE
    assert tracker._segmenter.sessions == ()
    assert metrics.counts["ended", "idle"] == 1


async def test_a_caller_that_takes_nothing_holds_nothing(
    open_tracker_with: Callable[..., Tracker],
) -> None:
    tracker = open_tracker_with(idle_timeout_s=0.2)
    session = tracker.track(opening(), stream([*demuxed().groups]))
    async with asyncio.timeout(60):
        assert isinstance(await anext(session), TrackOpened)
        while tracker._segmenter.sessions:  # noqa: ASYNC110  (its end is another task's)
            await asyncio.sleep(0.02)
        with pytest.raises(Idle):
            await anext(session)


async def test_who_leaves_in_the_middle_of_a_step_frees_everything(
    open_tracker_with: Callable[..., Tracker], metrics: RecordedTrackerMetrics
) -> None:
    tracker = open_tracker_with(fake_delay_s=0.02)
    async with asyncio.timeout(60):
        async with aclosing(tracker.track(opening(), stream(demuxed().groups))) as session:
            async for event in session:
                if isinstance(event, FrameTracks):
                    break
        assert tracker._segmenter.sessions == ()
        task = asyncio.create_task(track(tracker))
        while not tracker._segmenter.sessions:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert tracker._segmenter.sessions == ()
    assert metrics.counts["ended", "cancelled"] == 2


async def test_sessions_finish_while_it_drains(open_tracker_with: Callable[..., Tracker]) -> None:
    tracker = open_tracker_with(fake_delay_s=0.005)
    running = asyncio.create_task(track(tracker))
    async with asyncio.timeout(60):
        while not tracker._segmenter.sessions:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        closing = asyncio.create_task(tracker.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable) as caught:
            await track(tracker)
        assert caught.value.reason is Reason.DRAINING
        assert len(frames_of(await running)) == 40
        await closing


async def told_until(tracker: Tracker, steps: Sequence[TrackStep]) -> list[Any]:
    """What a session tells until it has told its state after the last of `steps`."""
    states = sum(isinstance(step, PacketGroup) for step in steps)
    told: list[Any] = []
    async with (
        asyncio.timeout(60),
        aclosing(tracker.track(opening(), stream(steps, asyncio.Event()))) as session,
    ):
        async for event in session:
            told.append(event)
            if sum(isinstance(item, SessionState) for item in told) == states:
                return told
    raise AssertionError("the session ended before")


@pytest.mark.parametrize("groups", [1, 2, 3])
async def test_a_session_goes_on_elsewhere(
    open_tracker_with: Callable[..., Tracker], groups: int
) -> None:
    """With the same ids, frames and masks as one that was never cut, and no frame twice."""
    late: list[TrackStep] = [
        PromptChange(AddQuery(ConceptQuery("blue square")), at_frame=13),
        PromptChange(DropPhrase("red square"), at_frame=31),
    ]
    whole = frames_of(await track(open_tracker_with(), [*late, *demuxed().groups]))
    told = await told_until(open_tracker_with(), [*late, *demuxed().groups[:groups]])
    state = [event for event in told if isinstance(event, SessionState)][-1]
    before = frames_of(told)
    assert state.changes == 2
    assert state.next_frame == len(before)
    assert state.group == groups - 1
    rest = demuxed().groups[state.group :]
    after = frames_of(
        await track(open_tracker_with(), rest, state=state.content, next_frame=state.next_frame)
    )
    joined = [*before, *after]
    assert [frame.index for frame in joined] == list(range(40))
    for one, other in zip(whole, joined, strict=True):
        assert one.timestamp_s == other.timestamp_s
        for item, same in zip(one.objects, other.objects, strict=True):
            assert (item.object_id, item.query) == (same.object_id, same.query)
            assert rle_iou(item.mask, same.mask) > 0.95


async def test_frames_that_went_out_already_are_not_told_again(tracker: Tracker) -> None:
    frames = frames_of(await track(tracker, next_frame=17))
    assert [frame.index for frame in frames] == list(range(17, 40))
    assert {item.object_id for frame in frames for item in frame.objects} == {1}


async def test_a_state_that_is_none_is_refused(tracker: Tracker) -> None:
    for content in (b"\xff\xff\xff", b"\x0a\x03abc"):
        with pytest.raises(InvalidRequest):
            await track(tracker, state=content)
    assert tracker._segmenter.sessions == ()


async def test_the_state_is_told_as_often_as_is_set(
    open_tracker_with: Callable[..., Tracker],
) -> None:
    for every, states in ((0, 0), (1, 4), (2, 2)):
        events = await track(open_tracker_with(state_every_groups=every))
        assert sum(isinstance(event, SessionState) for event in events) == states
