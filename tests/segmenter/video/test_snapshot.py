"""A session that goes on elsewhere: same ids, no frame missing, none twice."""

import json
import zlib

import numpy as np
import pytest

from limelight.faults import InvalidRequest
from limelight.masks import encode_rle
from limelight.values import Box, ConceptQuery, Exemplar
from services.segmenter.video.results import MaskletFrame
from services.segmenter.video.session import SessionOptions
from tests.segmenter.video.conftest import VideoOpener
from tests.segmenter.video.drawing import BLUE, GREEN, RED, Frame, moving, picture

LIVE = SessionOptions(live=True)
QUERIES = [ConceptQuery("red thing"), ConceptQuery("blue thing")]


def told(frames: list[MaskletFrame]) -> list[tuple[int, tuple[tuple[int, int, Box], ...]]]:
    return [(f.index, tuple((i.object_id, i.concept, i.box) for i in f.instances)) for f in frames]


@pytest.mark.parametrize("options", [LIVE, SessionOptions()], ids=["live", "held back"])
@pytest.mark.parametrize("killed", [1, 5, 17])
@pytest.mark.parametrize("remembered", [True, False], ids=["last frame", "next frame"])
@pytest.mark.parametrize("motion", [False, True], ids=["by masks", "by motion"])
async def test_a_session_goes_on_with_the_ids_it_had(
    open_video: VideoOpener, options: SessionOptions, killed: int, remembered: bool, motion: bool
) -> None:
    frames = [moving(at) for at in range(24)]
    whole = open_video(follow_motion=motion).open(QUERIES, options)
    expected = [a for i, f in enumerate(frames) for a in await whole.add_frame(f, i)]
    expected += await whole.finish()

    first = open_video(follow_motion=motion).open(QUERIES, options)
    answers = []
    for index in range(killed):
        answers += await first.add_frame(frames[index], index)
    state = await first.snapshot()
    await first.add_frame(frames[killed], killed)
    await first.close()
    second = open_video(follow_motion=motion).open(options=options, state=state)
    assert second.last_index == killed - 1
    if remembered:
        await second.remember(frames[killed - 1])
    for index in range(killed, len(frames)):
        answers += await second.add_frame(frames[index], index)
    answers += await second.finish()
    assert told(answers) == told(expected)


async def test_how_objects_move_and_look_goes_along(open_video: VideoOpener) -> None:
    first = open_video(follow_motion=True).open(QUERIES, LIVE)
    for index in range(5):
        await first.add_frame(moving(index), index)
    second = open_video(follow_motion=True).open(options=LIVE, state=await first.snapshot())
    motions = [[item.record.motion for item in s._state.objects] for s in (first, second)]
    assert motions[0] == motions[1]
    assert None not in motions[0]
    looks = [[item.record.look for item in s._state.objects] for s in (first, second)]
    for one, other in zip(*looks, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one.colors, other.colors)
        np.testing.assert_array_equal(one.solid, other.solid)


async def test_an_object_that_is_hidden_at_the_time_comes_back(open_video: VideoOpener) -> None:
    there, gone = picture((20, 20, 35, 35, RED)), picture()
    first = open_video().open(QUERIES, LIVE)
    for index, frame in enumerate([there, there, gone]):
        await first.add_frame(frame, index)
    second = open_video().open(options=LIVE, state=await first.snapshot())
    await second.remember(gone)
    (hidden,) = await second.add_frame(gone, 3)
    (back,) = await second.add_frame(there, 4)
    assert (len(hidden.instances), [i.object_id for i in back.instances]) == (0, [1])


async def test_prompts_and_what_waits_go_along(open_video: VideoOpener) -> None:
    frame = picture((5, 5, 20, 20, RED), (40, 5, 60, 20, GREEN), (40, 35, 60, 50, BLUE))
    mask = np.zeros((60, 80), np.bool_)
    mask[35:50, 40:60] = True
    green = ConceptQuery(exemplars=(Exemplar(Box(42, 7, 55, 15)),))
    first = open_video().open([QUERIES[0], green], LIVE)
    first.add_object([(45.0, 40.0, True)])
    (before,) = await first.add_frame(frame, 0)
    first.remove_phrase("red thing")
    first.add_phrase(QUERIES[1])
    first.add_object(Box(40, 35, 60, 50))
    first.add_object(encode_rle(mask))
    first.remove_object(3)
    second = open_video().open(options=LIVE, state=await first.snapshot())
    (after,) = await second.add_frame(frame, 1)
    assert {i.object_id: i.concept for i in before.instances} == {1: 0, 2: 1, 3: -1}
    assert {i.object_id: i.concept for i in after.instances} == {2: 1, 4: 2, 5: -2, 6: -3}
    assert after.removed == (1, 3)
    assert second.add_object(Box(0, 0, 5, 5)) == -4


async def test_a_state_of_another_model_keeps_masks_and_leaves_tensors_behind(
    open_video: VideoOpener,
) -> None:
    first = open_video().open([ConceptQuery("red thing", (Exemplar(Box(4, 4, 18, 18)),))], LIVE)
    frame = picture((5, 5, 20, 20, RED))
    await first.add_frame(frame, 0)
    written = json.loads(zlib.decompress(await first.snapshot()))
    written["model"][1] = "another"
    state = zlib.compress(json.dumps(written).encode())
    second = open_video().open(options=LIVE, state=state)
    await second.remember(frame)
    (answer,) = await second.add_frame(frame, 1)
    assert [i.object_id for i in answer.instances] == [1]


async def test_a_state_is_small_and_one_that_is_broken_is_refused(
    open_video: VideoOpener,
) -> None:
    segmenter = open_video()
    session = segmenter.open(QUERIES)
    for at in range(20):
        await session.add_frame(moving(at), at)
    state = await session.snapshot()
    assert len(state) < 20_000
    written = json.loads(zlib.decompress(state))
    for fault in ({"version": 99}, {"objects": [{}]}, {"place": "x"}, {"held": 3}):
        content = zlib.compress(json.dumps({**written, **fault}).encode())
        with pytest.raises(InvalidRequest) as refusal:
            segmenter.open(state=content)
        assert str(refusal.value.field) == "state"
    for content in (state[:-20], b"\x00" * 40, zlib.compress(b"{")):
        with pytest.raises(InvalidRequest):
            segmenter.open(state=content)
    assert segmenter.sessions == (session,)


def test_frames_of_the_tests_differ() -> None:
    frames: list[Frame] = [moving(at) for at in range(2)]
    assert (frames[0] != frames[1]).any()
