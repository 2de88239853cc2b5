"""What a session holds does not grow with the clip, and a tracker that is bad costs no more."""

from dataclasses import replace

import numpy as np

from limelight.values import ConceptQuery
from services.segmenter.engines.fake_video import FakeVideoEngine
from services.segmenter.video.engine import ObjectMask, ObjectRecall
from services.segmenter.video.session import SessionOptions
from services.segmenter.video.settings import VideoSettings
from tests.segmenter.video.conftest import VideoOpener
from tests.segmenter.video.drawing import RED, picture

RED_THINGS = ConceptQuery("red thing")


class UntrainedEngine(FakeVideoEngine):
    """Tracks every object to a place where there is nothing."""

    def track(self, recalls: list[ObjectRecall]) -> list[ObjectMask]:
        astray = []
        for index, mask in enumerate(super().track(recalls)):
            logits = np.full_like(mask.logits, -8)
            logits[-3:, index % 70 : index % 70 + 3] = 8
            astray.append(replace(mask, logits=logits))
        return astray


async def test_a_long_clip_takes_no_more_memory_than_a_short_one(open_video: VideoOpener) -> None:
    for live in (True, False):
        session = open_video().open([RED_THINGS], SessionOptions(live=live))
        sizes = []
        for at in range(400):
            # There and back, so that it stays one object.
            x = 2 + abs(at % 100 - 50)
            await session.add_frame(picture((x, 5, x + 12, 20, RED)), at)
            sizes.append(session.nbytes)
        # A confirmation every 16 frames makes it breathe; from where all conditioning pointers are
        # there, one breath is as deep as the next.
        breaths = [max(sizes[at : at + 16]) for at in range(288, 400, 16)]
        # Held answers' run lengths differ by a few bytes with the place of the mask.
        assert max(breaths) - min(breaths) <= 0.005 * max(breaths)
        assert breaths[0] <= 1.05 * max(sizes[:100])


async def test_a_tracker_that_finds_nothing_again_is_held_at_the_cap(
    open_video: VideoOpener,
) -> None:
    engine = UntrainedEngine(VideoSettings(engine="fake"))
    session = open_video(engine, max_objects=8, lost_frames=10).open(
        [RED_THINGS], SessionOptions(live=True)
    )
    crowd = picture(*((2 + 12 * x, 2, 10 + 12 * x, 12, RED) for x in range(3)))
    over_cap = removed = 0
    for at in range(60):
        (answer,) = await session.add_frame(crowd, at)
        assert len(session.object_ids) <= 8
        over_cap += answer.over_cap
        removed += len(answer.removed)
    assert over_cap > 0
    # Objects lost for long make room for what is really there.
    assert removed > 0
