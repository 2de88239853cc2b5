"""What the two batchers run in their worker threads: the engine, and what must stay beside it.

Phrases are encoded on the way to the decoder, all that a batch lacks in one step, and remembered.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.replica.cache import LruCache
from services.segmenter.engines import Embedding, Pair, SegmenterEngine
from services.segmenter.postprocessing import Candidates, Suppression, pick


@dataclass(frozen=True, slots=True, eq=False)
class QueuedPair:
    """One (image, query) pair as it waits for the decoder; `boxes` and `labels` as in `Pair`."""

    image: Embedding
    phrase: str
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    score_threshold: float
    limit: int


class Detector:
    """Answers questions. Used by the decoder's worker thread alone, as is `texts`."""

    def __init__(
        self,
        engine: SegmenterEngine,
        texts: LruCache[str, Embedding],
        mask_threshold: float,
        suppression: Suppression,
    ) -> None:
        self._engine = engine
        self._texts = texts
        self._mask_threshold = mask_threshold
        self._suppression = suppression

    def answer(self, questions: Sequence[QueuedPair]) -> list[Candidates]:
        """The candidates of each question, in order."""
        texts = self._encoded({question.phrase for question in questions})
        pairs = [
            Pair(question.image, texts[question.phrase], question.boxes, question.labels)
            for question in questions
        ]
        return [
            pick(
                raw,
                question.score_threshold,
                question.limit,
                self._mask_threshold,
                self._suppression,
                question.boxes,
                question.labels,
            )
            for question, raw in zip(questions, self._engine.detect(pairs), strict=True)
        ]

    def _encoded(self, phrases: set[str]) -> dict[str, Embedding]:
        known = {phrase: self._texts.get(phrase) for phrase in sorted(phrases)}
        new = [phrase for phrase, text in known.items() if text is None]
        found = {phrase: text for phrase, text in known.items() if text is not None}
        if new:
            for phrase, text in zip(new, self._engine.encode_texts(new), strict=True):
                self._texts.put(phrase, text, text.nbytes)
                found[phrase] = text
        return found
