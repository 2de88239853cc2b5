"""What the tests of video sessions share: clips, a video checkpoint, sessions that are closed."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from services.replica.metrics import RecordedMetrics
from services.segmenter.settings import SHIPPED
from services.segmenter.video.engine import VideoEngine, create_video
from services.segmenter.video.settings import VideoSettings
from services.segmenter.video.tracking import VideoSegmenter

VideoOpener = Callable[..., VideoSegmenter]
Frame = NDArray[np.uint8]
# Of a clip with several objects of two concepts.
SEED = 3
MAX_OBJECTS = 8


@pytest_asyncio.fixture
async def open_video(metrics: RecordedMetrics) -> AsyncIterator[VideoOpener]:
    """Make video segmenters, by settings or with an engine of the test's own, and close them."""
    opened: list[VideoSegmenter] = []

    def make(given: VideoEngine | None = None, **settings: object) -> VideoSegmenter:
        chosen = VideoSettings(**{"engine": "fake", "batch_wait_s": 0.0, **settings})
        engine = given or create_video(chosen)
        if given is None:
            engine.load()
        opened.append(VideoSegmenter(chosen, engine, metrics))
        return opened[-1]

    yield make
    for segmenter in opened:
        await segmenter.close()


@pytest.fixture(scope="session")
def video_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped detector with a tracker of random weights."""
    from training.tracker.models import new_model

    if not SHIPPED.is_dir():
        pytest.skip(f"the shipped checkpoint is missing: {SHIPPED}")
    model, tokenizer = new_model(str(SHIPPED), seed=0)
    # A tracker that was not trained finds nothing again, and every detection is a new object.
    model.config.max_num_objects = MAX_OBJECTS
    folder = tmp_path_factory.mktemp("sam3_video")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class StickerClip:
    """A drawn clip of sticker world, and the phrases for what is in it."""

    frames: list[Frame]
    phrases: tuple[str, ...]


@pytest.fixture(scope="session")
def sticker_clip() -> StickerClip:
    """Twenty frames of several stickers of two concepts."""
    from training.world.clips import ClipWorld

    clip = ClipWorld().clip(SEED, size=(256, 192), frame_count=20)
    names = sorted({member.concept for member in clip.objects})
    return StickerClip([frame.image for frame in clip.frames()], tuple(names[:2]))
