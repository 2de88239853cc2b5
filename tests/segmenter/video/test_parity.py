"""Parity: frame by frame the masks and ids of a plain `Sam3VideoModel`, alone and among others."""

import asyncio
from pathlib import Path

import numpy as np

from limelight.masks import decode_rle
from limelight.values import ConceptQuery
from services.segmenter.video.results import MaskletFrame
from services.segmenter.video.session import SessionOptions
from services.segmenter.video.tracking import VideoSegmenter
from tests.segmenter.video.conftest import MAX_OBJECTS, Frame, StickerClip, VideoOpener
from tests.segmenter.video.stock import StockFrame, stock_frames

# Of the same weights; what differs is the order of floating-point sums.
LEAST_IOU = 0.99


async def test_a_live_session_gives_what_the_streamed_model_gives(
    open_video: VideoOpener, video_checkpoint: Path, sticker_clip: StickerClip
) -> None:
    expected = stock_frames(video_checkpoint, sticker_clip.frames, sticker_clip.phrases)
    segmenter = open_parity(open_video, video_checkpoint)
    answers = await tracked(segmenter, sticker_clip.frames, sticker_clip.phrases, live=True)
    assert_same(answers, expected)


async def test_eight_interleaved_sessions_give_what_each_gives_alone(
    open_video: VideoOpener, video_checkpoint: Path, sticker_clip: StickerClip
) -> None:
    clips = [sticker_clip.frames[shift : shift + 4] for shift in range(9, 17)]
    segmenter = open_parity(open_video, video_checkpoint)
    together = await asyncio.gather(
        *(tracked(segmenter, clip, sticker_clip.phrases, live=True) for clip in clips)
    )
    for clip, answers in zip(clips, together, strict=True):
        assert_same(answers, stock_frames(video_checkpoint, clip, sticker_clip.phrases))


def open_parity(open_video: VideoOpener, checkpoint: Path) -> VideoSegmenter:
    """One that drops what the model drops at its own cap, and nothing else."""
    return open_video(
        engine="transformers",
        model=str(checkpoint),
        follow_motion=False,
        max_objects=MAX_OBJECTS,
        lost_frames=1_000_000,
    )


async def tracked(
    segmenter: VideoSegmenter, frames: list[Frame], phrases: tuple[str, ...], *, live: bool
) -> list[MaskletFrame]:
    session = segmenter.open([ConceptQuery(p) for p in phrases], SessionOptions(live=live))
    answers = []
    for index, frame in enumerate(frames):
        answers += await session.add_frame(frame, index)
    answers += await session.finish()
    return answers


def assert_same(answers: list[MaskletFrame], expected: list[StockFrame]) -> None:
    assert [answer.index for answer in answers] == list(range(len(expected)))
    seen = 0
    for answer, stock in zip(answers, expected, strict=True):
        # The model counts from 0.
        ours = {item.object_id - 1: decode_rle(item.mask) for item in answer.instances}
        assert set(ours) == set(stock.masks), f"frame {answer.index}"
        for number, mask in ours.items():
            theirs = stock.masks[number]
            differing = int((mask ^ theirs).sum())
            iou = 1 - differing / (mask | theirs).sum()
            # Random weights make masks of a few pixels, of which one may stand at a logit of 0.
            assert iou >= LEAST_IOU or differing <= 1, f"{answer.index}, {number}: {iou:.4f}"
            seen += 1
    assert seen >= len(expected)


def test_the_clip_shows_what_a_mix_up_would_change(sticker_clip: StickerClip) -> None:
    first, last = sticker_clip.frames[0], sticker_clip.frames[-1]
    assert len(sticker_clip.phrases) == 2
    assert np.abs(first.astype(int) - last).max() > 50
