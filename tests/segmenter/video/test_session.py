"""A session with the fake engine: order, prompts that change, failures that leave no trace."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from limelight.faults import InvalidRequest, Reason
from limelight.masks import decode_rle, encode_rle
from limelight.values import Box, ConceptQuery, Exemplar
from services.deadline import Deadline
from services.errors import DeadlinePassed, Overloaded, Unavailable
from services.segmenter.engines import Embedding
from services.segmenter.engines.fake_video import FakeVideoEngine
from services.segmenter.video.results import MaskletFrame
from services.segmenter.video.session import SessionOptions, TrackingSession
from services.segmenter.video.settings import VideoSettings
from tests.conftest import wait_until
from tests.segmenter.video.conftest import VideoOpener
from tests.segmenter.video.drawing import BLUE, GREEN, RED, Frame, moving, picture

LIVE = SessionOptions(live=True)
RED_THINGS, BLUE_THINGS = ConceptQuery("red thing"), ConceptQuery("blue thing")


class HeldEngine(FakeVideoEngine):
    """Encodes no frame until it is let to, and fails where it is told to."""

    def __init__(self) -> None:
        super().__init__(VideoSettings(engine="fake"))
        self.go = threading.Event()
        self.go.set()
        self.encoding = 0
        self.fault: Exception | None = None

    def encode_frames(self, images: Sequence[Any]) -> list[Embedding]:
        self.encoding += len(images)
        assert self.go.wait(60)
        return super().encode_frames(images)

    def track(self, recalls: Sequence[Any]) -> list[Any]:
        if self.fault is not None:
            fault, self.fault = self.fault, None
            raise fault
        return super().track(recalls)


async def run(session: TrackingSession, frames: Sequence[Frame], first: int = 0) -> list[Any]:
    answers: list[MaskletFrame] = []
    for index, frame in enumerate(frames, first):
        answers += await session.add_frame(frame, index)
    return answers


def ids(frame: MaskletFrame) -> dict[int, str]:
    return {item.object_id: item.phrase for item in frame.instances}


async def test_phrases_are_concepts_of_their_own_and_ids_last(open_video: VideoOpener) -> None:
    session = open_video().open([RED_THINGS, BLUE_THINGS], LIVE)
    answers = await run(session, [moving(at) for at in range(0, 40, 4)])
    assert [answer.index for answer in answers] == list(range(10))
    for at, answer in zip(range(0, 40, 4), answers, strict=True):
        red, blue = answer.instances
        assert (red.object_id, red.concept, red.phrase) == (1, 0, "red thing")
        assert (blue.object_id, blue.concept, blue.phrase) == (2, 1, "blue thing")
        assert red.box == Box(2 + at, 5, 14 + at, 20)
        assert red.area == 12 * 15 == decode_rle(red.mask).sum()
        assert decode_rle(red.mask)[5:20, 2 + at : 14 + at].all()
        assert min(red.presence, red.score, red.visibility) > 0.9


async def test_answers_held_back_come_out_in_order_each_once(open_video: VideoOpener) -> None:
    session = open_video().open([RED_THINGS])
    told = [len(await session.add_frame(moving(at), at)) for at in range(20)]
    assert told == [0] * 14 + [1] * 6
    left = await session.finish()
    assert [answer.index for answer in left] == list(range(6, 20))


async def test_an_object_that_proves_a_duplicate_never_shows(open_video: VideoOpener) -> None:
    # Two boxes become one: the later object is on the earlier one's detection from then on.
    apart = picture((5, 5, 20, 20, RED), (40, 5, 55, 20, RED))
    flash = picture((5, 5, 20, 20, RED), (23, 5, 27, 20, RED))
    one = picture((5, 5, 20, 20, RED))
    for options, shown in ((LIVE, True), (SessionOptions(), False)):
        session = open_video().open([RED_THINGS], options)
        answers = await run(session, [one, flash, *[one] * 20])
        answers += await session.finish()
        assert [answer.index for answer in answers] == list(range(22))
        assert any(2 in ids(answer) for answer in answers) == shown
        told = [number for answer in answers for number in answer.removed]
        assert told == ([] if shown else [2])
    session = open_video().open([RED_THINGS])
    answers = [*await run(session, [apart] * 20), *await session.finish()]
    assert all(set(ids(answer)) == {1, 2} for answer in answers)


async def test_an_object_that_was_hidden_has_its_id_again(open_video: VideoOpener) -> None:
    session = open_video().open([RED_THINGS], LIVE)
    there, gone = picture((20, 20, 35, 35, RED)), picture()
    answers = await run(session, [there, there, gone, gone, gone, there])
    assert [list(ids(answer)) for answer in answers] == [[1], [1], [], [], [], [1]]


async def test_a_phrase_added_late_and_one_removed(open_video: VideoOpener) -> None:
    session = open_video().open([RED_THINGS], LIVE)
    (first,) = await session.add_frame(moving(0), 0)
    assert session.add_phrase(BLUE_THINGS) == 1
    (second,) = await session.add_frame(moving(2), 1)
    session.remove_phrase("red thing")
    (third,) = await session.add_frame(moving(4), 2)
    assert [ids(f) for f in (first, second, third)] == [
        {1: "red thing"},
        {1: "red thing", 2: "blue thing"},
        {2: "blue thing"},
    ]
    assert third.removed == (1,)
    with pytest.raises(InvalidRequest, match="not tracked"):
        session.remove_phrase("red thing")


async def test_exemplars_stand_for_their_concept_in_later_frames(open_video: VideoOpener) -> None:
    like_this = ConceptQuery(exemplars=(Exemplar(Box(20, 20, 30, 30)),))
    session = open_video().open([like_this], LIVE)
    first = picture((15, 15, 35, 35, GREEN), (50, 5, 60, 15, BLUE))
    later = picture((50, 40, 70, 55, GREEN), (15, 15, 35, 35, BLUE))
    answers = await run(session, [first, later])
    assert [answer.instances[-1].box for answer in answers] == [
        Box(15, 15, 35, 35),
        Box(50, 40, 70, 55),
    ]


@pytest.mark.parametrize("how", ["box", "points", "mask"])
async def test_an_object_is_shown_late(open_video: VideoOpener, how: str) -> None:
    mask = np.zeros((60, 80), np.bool_)
    mask[35:50, 58:70] = True
    shape = {
        "box": Box(56, 33, 72, 52),
        "points": [(64.0, 42.0, True), (5.0, 5.0, False)],
        "mask": encode_rle(mask),
    }[how]
    session = open_video().open([RED_THINGS], LIVE)
    await session.add_frame(moving(0), 0)
    assert session.add_object(shape) == -1
    answers = await run(session, [moving(at) for at in (2, 4, 6)], 1)
    for at, answer in zip((2, 4, 6), answers, strict=True):
        item = answer.instances[-1]
        assert (item.object_id, item.concept, item.phrase, item.presence) == (2, -1, "", 1.0)
        assert item.box == Box(60 - at, 35, 72 - at, 50)


async def test_a_session_begun_by_points_alone(open_video: VideoOpener) -> None:
    session = open_video().open(options=LIVE)
    session.add_object([(64.0, 42.0, True)])
    answers = await run(session, [moving(0), moving(2)])
    assert [list(ids(answer)) for answer in answers] == [[1], [1]]


async def test_an_object_is_corrected_and_removed(open_video: VideoOpener) -> None:
    session = open_video().open([RED_THINGS], LIVE)
    frame = picture((5, 5, 20, 20, RED), (50, 30, 70, 50, BLUE))
    await session.add_frame(frame, 0)
    session.correct(1, [(60.0, 40.0, True)])
    corrected = (await run(session, [frame], 1))[0].instances[0]
    assert (corrected.object_id, corrected.box) == (1, Box(50, 30, 70, 50))
    (after,) = await session.add_frame(frame, 2)
    assert {item.object_id: item.box.x0 for item in after.instances}[1] == 50
    session.remove_object(1)
    (last,) = await session.add_frame(frame, 3)
    assert 1 not in ids(last)
    assert last.removed == (1,)
    for change in (session.remove_object, lambda number: session.correct(number, Box(0, 0, 9, 9))):
        with pytest.raises(InvalidRequest, match="there is no object 1"):
            change(1)


async def test_a_change_that_does_not_fit_is_refused_and_the_frame_may_come_again(
    open_video: VideoOpener,
) -> None:
    session = open_video().open([RED_THINGS], LIVE)
    session.add_object(Box(200, 200, 210, 210))
    with pytest.raises(InvalidRequest, match="outside the frame") as refusal:
        await session.add_frame(moving(0), 0)
    assert refusal.value.reason is Reason.BOX_INVALID
    (answer,) = await session.add_frame(moving(0), 0)
    assert list(ids(answer)) == [1]


async def test_what_is_wrong_with_a_prompt_is_said_at_once(open_video: VideoOpener) -> None:
    session = open_video(max_clicks=2, max_prompts=4, max_objects=1).open([RED_THINGS], LIVE)
    with pytest.raises(InvalidRequest, match="no point"):
        session.add_object([(1.0, 1.0, False)])
    with pytest.raises(InvalidRequest, match="at most 2"):
        session.add_object([(1.0, 1.0, True)] * 3)
    with pytest.raises(InvalidRequest, match="empty"):
        session.add_object(encode_rle(np.zeros((60, 80), np.bool_)))
    session.add_object(Box(0, 0, 5, 5))
    with pytest.raises(InvalidRequest, match="at most 1 objects"):
        session.add_object(Box(0, 0, 5, 5))
    session.add_phrase(BLUE_THINGS)
    session.add_phrase(ConceptQuery("green thing"))
    with pytest.raises(InvalidRequest, match="at most 4"):
        session.add_phrase(ConceptQuery("gray thing"))


async def test_frames_that_are_none_or_out_of_order_are_refused(open_video: VideoOpener) -> None:
    session = open_video().open([RED_THINGS], LIVE)
    await session.add_frame(moving(0), 5)
    for index in (4, 5):
        with pytest.raises(InvalidRequest, match="comes after frame 5"):
            await session.add_frame(moving(0), index)
    with pytest.raises(InvalidRequest) as refusal:
        await session.add_frame(np.zeros((4, 4), np.uint8), 6)
    assert refusal.value.reason is Reason.IMAGE_BAD_SHAPE
    (answer,) = await session.add_frame(moving(1), 9)
    assert answer.index == 9


async def test_frames_under_way_are_taken_in_order_and_no_more_than_allowed(
    open_video: VideoOpener,
) -> None:
    engine = HeldEngine()
    session = open_video(engine, max_frames_ahead=3).open([RED_THINGS], LIVE)
    engine.go.clear()
    waiting = [asyncio.create_task(session.add_frame(moving(at), at)) for at in range(3)]
    await wait_until(lambda: engine.encoding)
    with pytest.raises(Overloaded) as refusal:
        await session.add_frame(moving(3), 3)
    assert refusal.value.retry_after_s
    engine.go.set()
    answers = [answer for answers in await asyncio.gather(*waiting) for answer in answers]
    assert sorted(answer.index for answer in answers) == [0, 1, 2]
    assert all(list(ids(answer)) == [1] for answer in answers)


async def test_a_frame_given_up_leaves_no_trace(open_video: VideoOpener) -> None:
    engine = HeldEngine()
    session = open_video(engine).open([RED_THINGS], LIVE)
    await session.add_frame(moving(0), 0)
    session.add_phrase(BLUE_THINGS)
    engine.go.clear()
    before = engine.encoding
    leaving = asyncio.create_task(session.add_frame(moving(2), 1))
    behind = asyncio.create_task(session.add_frame(moving(4), 2))
    await wait_until(lambda: engine.encoding > before)
    leaving.cancel()
    await asyncio.wait([leaving])
    engine.go.set()
    with pytest.raises(Unavailable, match="frame 1 before it"):
        await behind
    (answer,) = await session.add_frame(moving(2), 1)
    assert ids(answer) == {1: "red thing", 2: "blue thing"}


async def test_a_frame_whose_time_runs_out_or_whose_engine_fails_may_come_again(
    open_video: VideoOpener,
) -> None:
    engine = HeldEngine()
    session = open_video(engine).open([RED_THINGS], LIVE)
    await session.add_frame(moving(0), 0)
    engine.go.clear()
    with pytest.raises(DeadlinePassed):
        await session.add_frame(moving(1), 1, Deadline.after(0.05))
    engine.go.set()
    engine.fault = RuntimeError("no luck")
    with pytest.raises(RuntimeError, match="no luck"):
        await session.add_frame(moving(1), 1)
    (answer,) = await session.add_frame(moving(1), 1)
    assert list(ids(answer)) == [1]


async def test_things_over_the_cap_are_told(open_video: VideoOpener) -> None:
    patches = [(2 + 10 * at, 2, 9 + 10 * at, 9, RED) for at in range(7)]
    session = open_video(max_objects=3).open([RED_THINGS], LIVE)
    answers = await run(session, [picture(*patches)] * 2)
    assert [len(answer.instances) for answer in answers] == [3, 3]
    assert [answer.over_cap for answer in answers] == [4, 4]


async def test_a_finished_or_closed_session_takes_nothing(open_video: VideoOpener) -> None:
    segmenter = open_video()
    finished, closed = segmenter.open([RED_THINGS]), segmenter.open([RED_THINGS])
    await finished.finish()
    await closed.close()
    assert segmenter.sessions == ()
    for session, why in ((finished, "was finished"), (closed, "was closed")):
        with pytest.raises(Unavailable, match=why):
            await session.add_frame(moving(0), 0)
        with pytest.raises(Unavailable, match=why):
            session.add_phrase(RED_THINGS)


async def test_stages_are_timed(open_video: VideoOpener) -> None:
    session = open_video().open([RED_THINGS], LIVE)
    answers = await run(session, [moving(0), moving(1)])
    stages = {"encode", "detect", "track", "associate", "memorize", "masks"}
    assert set(answers[-1].timings_ms) == stages
