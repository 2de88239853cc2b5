"""A model is asked once before it is ready, and must answer with numbers."""

from dataclasses import replace

import numpy as np
import pytest

from services.errors import CheckpointError
from services.segmenter.engines import Pair, RawDetections, create
from services.segmenter.engines.fake import FakeSegmenterEngine
from services.segmenter.segmenting import warm_up
from services.segmenter.settings import SegmenterSettings


class BrokenEngine(FakeSegmenterEngine):
    """Answers like a checkpoint whose weights were never loaded."""

    def detect(self, pairs: list[Pair]) -> list[RawDetections]:
        numbers = np.full(3, np.nan, np.float32)
        masks = np.zeros((3, 4, 4), np.float32)
        return [RawDetections(numbers, numbers[0], np.zeros((3, 4)), masks) for _ in pairs]


def test_a_model_that_answers_is_ready() -> None:
    warm_up(create(SegmenterSettings(engine="fake")))


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(
        CheckpointError,
        match="colors failed its warm-up: it answers with numbers that are not finite",
    ):
        warm_up(BrokenEngine(SegmenterSettings(engine="fake")))


class BrokenBoxes(FakeSegmenterEngine):
    """Knows words; the part that reads boxes was never loaded."""

    def detect(self, pairs: list[Pair]) -> list[RawDetections]:
        return [
            replace(raw, boxes=np.full_like(raw.boxes, np.inf)) if len(pair.boxes) else raw
            for pair, raw in zip(pairs, super().detect(pairs), strict=True)
        ]


def test_boxes_are_asked_about_too() -> None:
    with pytest.raises(CheckpointError, match="colors failed its warm-up"):
        warm_up(BrokenBoxes(SegmenterSettings(engine="fake")))
