"""Sessions of a replica: places, memory, idle ones, turns."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from limelight.faults import InvalidRequest
from limelight.values import ConceptQuery
from services.errors import Overloaded, TooLarge, Unavailable
from services.segmenter.engines.fake_video import FakeVideoEngine
from services.segmenter.video.engine import TrackingPolicy, VideoTraits
from services.segmenter.video.session import SessionOptions
from services.segmenter.video.settings import VideoSettings
from services.segmenter.video.tracking import warm_up, with_threshold
from tests.conftest import wait_until
from tests.segmenter.video.conftest import VideoOpener
from tests.segmenter.video.drawing import RED, moving, picture

RED_THINGS = ConceptQuery("red thing")
LIVE = SessionOptions(live=True)


async def test_one_session_too_many_is_refused_with_a_time_to_come_again(
    open_video: VideoOpener,
) -> None:
    segmenter = open_video(max_sessions=2, idle_timeout_s=20)
    sessions = [segmenter.open([RED_THINGS]) for _ in range(2)]
    with pytest.raises(Overloaded, match="all 2 places") as refusal:
        segmenter.open([RED_THINGS])
    assert 0 < (refusal.value.retry_after_s or 0) <= 20
    await sessions[0].close()
    segmenter.open([RED_THINGS])


async def test_sessions_are_refused_before_memory_runs_out(open_video: VideoOpener) -> None:
    an_object = 10 * 64 * 1024 + 32 * 6
    segmenter = open_video(session_memory_bytes=100 * an_object, max_objects=200)
    with pytest.raises(TooLarge) as refusal:
        segmenter.open([RED_THINGS])
    assert str(refusal.value.field) == "max_objects"
    segmenter.open([RED_THINGS], SessionOptions(max_objects=60))
    with pytest.raises(Overloaded, match="memory"):
        segmenter.open([RED_THINGS], SessionOptions(max_objects=60))
    segmenter.open([RED_THINGS], SessionOptions(max_objects=40))


async def test_a_session_that_is_sent_no_frame_is_closed(open_video: VideoOpener) -> None:
    segmenter = open_video(idle_timeout_s=0.3)
    idle = segmenter.open([RED_THINGS], LIVE)
    await idle.add_frame(moving(0), 0)
    await wait_until(lambda: idle.closed)
    assert segmenter.sessions == ()
    assert idle.nbytes == 0
    with pytest.raises(Unavailable, match="was sent no frame for"):
        await idle.add_frame(moving(1), 1)


async def test_a_session_at_work_is_not_idle(open_video: VideoOpener) -> None:
    segmenter = open_video(idle_timeout_s=0.2, fake_delay_s=0.5)
    session = segmenter.open([RED_THINGS], LIVE)
    await session.add_frame(moving(0), 0)
    (answer,) = await session.add_frame(moving(1), 1)
    assert len(answer.instances) == 1


async def test_wrong_options_and_queries_are_refused(open_video: VideoOpener) -> None:
    segmenter = open_video()
    for options in (
        SessionOptions(score_threshold=1.5),
        SessionOptions(max_objects=-1),
    ):
        with pytest.raises(InvalidRequest):
            segmenter.open([RED_THINGS], options)
    with pytest.raises(InvalidRequest):
        segmenter.open([ConceptQuery()])
    with pytest.raises(InvalidRequest, match="cannot be read"):
        segmenter.open(state=b"nothing")
    assert segmenter.sessions == ()


async def test_sessions_take_turns_whatever_one_of_them_holds(open_video: VideoOpener) -> None:
    order: list[int] = []

    class Watched(FakeVideoEngine):
        """Notes how many objects of the crowded session each step has."""

        def track(self, recalls: Sequence[Any]) -> list[Any]:
            order.append(len(recalls))
            return super().track(recalls)

    engine = Watched(VideoSettings(engine="fake"))
    segmenter = open_video(engine, max_batch_objects=4)
    crowd = picture(
        *((2 + 10 * x, 2 + 10 * y, 9 + 10 * x, 9 + 10 * y, RED) for x in range(7) for y in range(5))
    )
    crowded = segmenter.open([RED_THINGS], LIVE)
    single = segmenter.open([RED_THINGS], LIVE)
    (answer,), _ = await asyncio.gather(crowded.add_frame(crowd, 0), single.add_frame(moving(0), 0))
    assert len(answer.instances) == 35
    done: list[str] = []

    async def one(name: str, session: Any, frame: Any) -> None:
        await session.add_frame(frame, 1)
        done.append(name)

    await asyncio.gather(one("crowded", crowded, crowd), one("single", single, moving(1)))
    assert done == ["single", "crowded"]
    assert max(order) <= 4


async def test_a_draining_replica_opens_nothing(open_video: VideoOpener) -> None:
    segmenter = open_video()
    session = segmenter.open([RED_THINGS])
    await segmenter.close()
    with pytest.raises(Unavailable, match="shutting down"):
        segmenter.open([RED_THINGS])
    with pytest.raises(Unavailable, match="shutting down"):
        await session.add_frame(moving(0), 0)


def test_a_model_whose_numbers_are_not_finite_is_not_served() -> None:
    class Broken(FakeVideoEngine):
        """Answers every object with numbers that are none."""

        def track(self, recalls: Sequence[Any]) -> list[Any]:
            return [
                replace(mask, logits=mask.logits * float("nan")) for mask in super().track(recalls)
            ]

    warm_up(FakeVideoEngine(VideoSettings(engine="fake")))
    with pytest.raises(RuntimeError, match="not finite"):
        warm_up(Broken(VideoSettings(engine="fake")))


def test_a_threshold_moves_what_it_takes_to_become_an_object() -> None:
    policy = TrackingPolicy()
    assert with_threshold(policy, 0.5) == policy
    assert with_threshold(policy, 0.3).new_object_score == pytest.approx(0.5)
    assert with_threshold(policy, 0.9).new_object_score == pytest.approx(0.95)
    assert with_threshold(policy, 1.0).new_object_score == 1.0


def test_the_fake_tells_what_a_real_engine_tells() -> None:
    traits = FakeVideoEngine(VideoSettings(engine="fake")).describe()
    assert isinstance(traits, VideoTraits)
    assert traits.memory_bytes > 0
