"""What runs beside the engine: phrases encoded once, pairs in order."""

from collections.abc import Sequence

import numpy as np

from services.replica.cache import LruCache
from services.replica.metrics import RecordedMetrics
from services.segmenter.detecting import Detector, QueuedPair
from services.segmenter.engines import Embedding
from services.segmenter.engines.fake import FakeSegmenterEngine
from services.segmenter.postprocessing import Suppression
from services.segmenter.preprocessing import to_model_input
from services.segmenter.settings import SegmenterSettings

RED, BLUE = (255, 0, 0), (0, 0, 255)


class Noting(FakeSegmenterEngine):
    """The fake, noting which phrases it encodes together."""

    def __init__(self) -> None:
        super().__init__(SegmenterSettings(engine="fake"))
        self.texts: list[list[str]] = []

    def encode_texts(self, phrases: Sequence[str]) -> list[Embedding]:
        self.texts.append(list(phrases))
        return super().encode_texts(phrases)


def image(engine: FakeSegmenterEngine, color: tuple[int, int, int], side: int) -> Embedding:
    pixels = np.full((40, 40, 3), 255, np.uint8)
    pixels[5 : 5 + side, 5 : 5 + side] = color
    return engine.encode_images([to_model_input(pixels, None)])[0]


def question(embedding: Embedding, phrase: str, score_threshold: float = 0.5) -> QueuedPair:
    boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    return QueuedPair(embedding, phrase, boxes, labels, score_threshold, 10)


def test_phrases_are_encoded_once_and_answers_keep_their_order(metrics: RecordedMetrics) -> None:
    engine = Noting()
    detector = Detector(engine, LruCache("text", 1000, metrics), 0.0, Suppression(0.6, "iou"))
    red, blue = image(engine, RED, 10), image(engine, BLUE, 20)
    asked = [
        question(red, "red"),
        question(blue, "red"),
        question(blue, "blue"),
        question(red, "red"),
    ]
    areas = [(found.masks > 0).sum() for found in detector.answer(asked)]
    assert areas == [100, 0, 400, 100]
    detector.answer([question(red, "blue"), question(red, "green")])
    assert engine.texts == [["blue", "red"], ["green"]]


def test_a_text_cache_that_holds_nothing_still_answers(metrics: RecordedMetrics) -> None:
    engine = Noting()
    detector = Detector(engine, LruCache("text", 0, metrics), 0.0, Suppression(0.6, "iou"))
    red = image(engine, RED, 10)
    for _ in range(2):
        assert len(detector.answer([question(red, "red")])[0].scores) == 1
    assert engine.texts == [["red"], ["red"]]


def test_each_question_has_its_own_threshold(metrics: RecordedMetrics) -> None:
    engine = Noting()
    detector = Detector(engine, LruCache("text", 0, metrics), 0.0, Suppression(0.6, "iou"))
    red = image(engine, RED, 10)
    found = detector.answer([question(red, "red", 0.99), question(red, "red", 0.9)])
    assert [len(candidates.scores) for candidates in found] == [0, 1]
