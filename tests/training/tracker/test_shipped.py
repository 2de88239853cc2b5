"""The shipped tracker: its detector is the shipped segmenter, and it tracks sticker world."""

from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from safetensors.numpy import load_file

from limelight.masks import Mask, decode_rle
from limelight.values import ConceptQuery
from services.replica.checksums import NAME, verify
from services.replica.metrics import RecordedMetrics
from services.segmenter.settings import SHIPPED as DETECTOR
from services.segmenter.video.engine import create_video
from services.segmenter.video.session import SessionOptions
from services.segmenter.video.settings import SHIPPED, VideoSettings
from services.segmenter.video.tracking import VideoSegmenter
from training.evaluation.pairing import pair_clip
from training.evaluation.tracking import TrackingScore, figures, score
from training.world.clips import AnyClip, ClipWorld
from training.world.showpieces import walk
from training.world.splits import HELD_OUT

pytestmark = pytest.mark.slow

# Of a validation clip in which one boy passes in front of another.
BOYS = 20_000_003


@pytest_asyncio.fixture
async def segmenter() -> AsyncIterator[VideoSegmenter]:
    settings = VideoSettings(batch_wait_s=0.0, device="cpu")
    engine = create_video(settings)
    engine.load()
    opened = VideoSegmenter(settings, engine, RecordedMetrics())
    yield opened
    await opened.close()


async def tracked(
    segmenter: VideoSegmenter, frames: Sequence[NDArray[np.uint8]], phrases: Sequence[str]
) -> list[dict[str, dict[int, Mask]]]:
    """Of every frame, by phrase, the masks by id."""
    session = segmenter.open([ConceptQuery(phrase) for phrase in phrases], SessionOptions())
    answers = []
    for index, frame in enumerate(frames):
        answers += await session.add_frame(frame, index)
    answers += await session.finish()
    assert [answer.index for answer in answers] == list(range(len(frames)))
    return [
        {
            phrase: {
                one.object_id: decode_rle(one.mask)
                for one in answer.instances
                if one.phrase == phrase
            }
            for phrase in phrases
        }
        for answer in answers
    ]


async def scored(
    segmenter: VideoSegmenter, clip: AnyClip, asked: Sequence[str] = ()
) -> list[TrackingScore]:
    """A score for each concept that is asked for; by default for all that appear."""
    names = asked or sorted({member.concept for member in clip.objects})
    answers = await tracked(segmenter, [frame.image for frame in clip.frames()], names)
    return [
        score(
            pair_clip(
                clip,
                {one.id for one in clip.objects if one.concept == name},
                [answer[name] for answer in answers],
            )
        )
        for name in names
    ]


def test_its_files_are_what_was_published() -> None:
    assert (SHIPPED / NAME).is_file()
    verify(SHIPPED)
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 20e6


def test_its_detector_is_the_shipped_one() -> None:
    detector, video = (load_file(folder / "model.safetensors") for folder in (DETECTOR, SHIPPED))
    for name, weight in detector.items():
        assert np.array_equal(weight, video[f"detector_model.{name}"]), name


async def test_in_the_demos_clip_all_keep_their_ids(segmenter: VideoSegmenter) -> None:
    """Behind the house and outside the frame."""
    found = figures(await scored(segmenter, walk(), ("dog", "girl")), 1)
    assert (found.reentries, found.recovery) == (1, 1.0)
    assert found.switches == 0
    assert found.mean_iou > 0.8


async def test_look_alikes_that_cover_each_other_keep_their_ids(segmenter: VideoSegmenter) -> None:
    """By masks alone they switch three times in this clip."""
    clip = ClipWorld().clip(BOYS, frame_count=36)
    found = figures(await scored(segmenter, clip), 1)
    assert found.switches == 0
    assert found.idf1 > 0.95


async def test_it_tracks_held_out_clips(segmenter: VideoSegmenter) -> None:
    """A few, for `make eval-clips` takes many: floors a little below what they reach. What is left
    to reach, the card says."""
    clips = [ClipWorld().clip(seed, frame_count=20) for seed in HELD_OUT[:3]]
    found = figures([one for clip in clips for one in await scored(segmenter, clip)], len(clips))
    assert found.idf1 > 0.62
    assert found.hota > 0.5
