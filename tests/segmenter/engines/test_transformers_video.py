"""The engine's own promises: batches change nothing, prompts of all kinds give finite masks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from services.segmenter.engines import Embedding, Pair
from services.segmenter.engines.transformers_video import TransformersVideoEngine
from services.segmenter.preprocessing import to_model_input
from services.segmenter.video.engine import (
    Clicks,
    ObjectMask,
    ObjectRecall,
    ObjectStart,
    Observation,
)
from services.segmenter.video.settings import VideoSettings
from services.segmenter.video.tracking import warm_up
from tests.segmenter.video.conftest import StickerClip, sticker_clip, video_checkpoint

__all__ = ["sticker_clip", "video_checkpoint"]

NO_BOXES = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
ONE_BOX = (np.array([[0.4, 0.5, 0.3, 0.4]], np.float32), np.ones(1, np.int64))
TWO_BOXES = (np.array([[0.4, 0.5, 0.3, 0.4], [0.7, 0.2, 0.2, 0.2]], np.float32), np.array([1, 0]))


@pytest.fixture(scope="module")
def engine(video_checkpoint: Path) -> TransformersVideoEngine:
    engine = TransformersVideoEngine(VideoSettings(model=str(video_checkpoint), device="cpu"))
    engine.load()
    return engine


@pytest.fixture(scope="module")
def frames(engine: TransformersVideoEngine, sticker_clip: StickerClip) -> list[Embedding]:
    side = engine.describe().image_size
    images = [to_model_input(image, side) for image in sticker_clip.frames[10:13]]
    return engine.encode_frames(images)


def square(x: int) -> np.ndarray:
    mask = np.zeros((96, 128), np.float32)
    mask[30:60, x : x + 30] = 1
    return mask


def recalls(engine: TransformersVideoEngine, frames: list[Embedding]) -> list[ObjectRecall]:
    """Five objects that remember differently many frames, in two frames."""
    items = []
    for index in range(5):
        (begun,) = engine.prompt([ObjectStart(frames[0], square(10 * index))])
        (memory,) = engine.memorize([Observation(frames[0], begun.logits, True, hard=True)])
        known = range(1 + index % 3, 0, -1)
        items.append(
            ObjectRecall(
                frames[1 + index % 2],
                ((0, memory), *((ago, memory) for ago in known)),
                ((4, begun.pointer), *((ago, begun.pointer) for ago in known)),
                16,
            )
        )
    return items


def same(first: ObjectMask, second: ObjectMask) -> None:
    assert np.abs(first.logits - second.logits).max() < 1e-3 * np.abs(second.logits).max()
    assert first.score == pytest.approx(second.score, abs=1e-3)
    torch.testing.assert_close(first.pointer.data[0], second.pointer.data[0], atol=1e-4, rtol=1e-3)


def test_objects_tracked_together_are_those_tracked_alone(
    engine: TransformersVideoEngine, frames: list[Embedding]
) -> None:
    items = recalls(engine, frames)
    together = engine.track(items)
    for item, mask in zip(items, together, strict=True):
        same(mask, engine.track([item])[0])
    assert len({mask.score for mask in together}) == len(items)


def test_prompts_together_are_those_alone(
    engine: TransformersVideoEngine, frames: list[Embedding]
) -> None:
    point = Clicks(np.array([[0.3, 0.4]], np.float32), np.array([1]))
    box = Clicks(np.array([[0.2, 0.2], [0.6, 0.7]], np.float32), np.array([2, 3]))
    three = Clicks(np.array([[0.3, 0.4], [0.1, 0.1], [0.4, 0.4]], np.float32), np.array([1, 0, 1]))
    prompts = [
        ObjectStart(frames[0], clicks=point),
        ObjectStart(frames[1], mask=square(20)),
        ObjectStart(frames[0], clicks=box),
        ObjectStart(frames[2], clicks=three),
        ObjectStart(frames[0], mask=square(60)),
    ]
    for prompt, mask in zip(prompts, engine.prompt(prompts), strict=True):
        same(mask, engine.prompt([prompt])[0])
        assert np.isfinite(mask.logits).all()


def test_a_corrected_object_is_answered_with_its_clicks(
    engine: TransformersVideoEngine, frames: list[Embedding]
) -> None:
    (item, *_) = recalls(engine, frames)
    clicks = Clicks(np.array([[0.8, 0.8]], np.float32), np.array([1]))
    corrected = ObjectRecall(item.frame, item.memories, item.pointers, 16, clicks)
    plain, clicked = engine.track([item, corrected])
    assert np.abs(plain.logits - clicked.logits).max() > 0


def test_exemplars_as_an_embedding_are_exemplars_in_the_frame(
    engine: TransformersVideoEngine, frames: list[Embedding]
) -> None:
    texts = engine.encode_texts(["visual", "cook"])
    pairs = [
        Pair(frames[0], texts[0], *ONE_BOX),
        Pair(frames[1], texts[1], *TWO_BOXES),
        Pair(frames[1], texts[1], *NO_BOXES),
    ]
    encoded = engine.encode_exemplars(pairs)
    assert encoded[2] is texts[1]
    # Together, padded to one length, against the image engine's own way with boxes.
    together = engine.detect(
        [Pair(p.image, e, *NO_BOXES) for p, e in zip(pairs, encoded, strict=True)]
    )
    for pair, found in zip(pairs, together, strict=True):
        (expected,) = engine.detect([pair])
        torch.testing.assert_close(found.logits, expected.logits, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(found.masks, expected.masks, atol=1e-2, rtol=1e-2)


def test_what_is_dumped_comes_back(
    engine: TransformersVideoEngine, frames: list[Embedding]
) -> None:
    (item, *_) = recalls(engine, frames)
    for embedding in (item.memories[0][1], item.pointers[0][1], *engine.encode_texts(["cook"])):
        back = engine.restore(engine.dump(embedding))
        assert back.nbytes == embedding.nbytes
        for one, other in zip(back.data, embedding.data, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)
    with pytest.raises(ValueError, match="no tensors"):
        engine.restore(b"none")


def test_traits_tell_what_is_held(engine: TransformersVideoEngine, frames: list[Embedding]) -> None:
    traits = engine.describe()
    (item, *_) = recalls(engine, frames)
    assert traits.frame_bytes == frames[0].nbytes
    assert traits.memory_bytes == item.memories[0][1].nbytes
    assert traits.pointer_bytes == item.pointers[0][1].nbytes
    warm_up(engine)
