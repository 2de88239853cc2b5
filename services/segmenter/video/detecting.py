"""What the detector's worker thread runs for video: all concepts of all frames that wait."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from services.replica.cache import LruCache
from services.segmenter.engines import Embedding, Pair
from services.segmenter.video.association import suppress_duplicates
from services.segmenter.video.engine import Logits, VideoEngine


@dataclass(frozen=True, slots=True, eq=False)
class QueuedConcept:
    """One concept to be looked for in one frame.

    Attributes:
        frame: the encoded frame.
        phrase: what to look for.
        prompt: its embedding together with exemplars, where an earlier frame had some.
        boxes: exemplars in this frame, as in `Pair`.
        labels: likewise.
        score_threshold: detections must be above it.
        nms_threshold: see `TrackingPolicy`.
    """

    frame: Embedding
    phrase: str
    prompt: Embedding | None
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    score_threshold: float
    nms_threshold: float


@dataclass(frozen=True, slots=True, eq=False)
class FoundConcept:
    """The detections of one concept in one frame, in the model's order.

    `scores` float32 (k,), presence counted in; `masks` float32 (k, h, w), logits; `prompt`: what
    stands for the concept's exemplars from now on, None without any.
    """

    presence: float
    scores: NDArray[np.float32]
    masks: Logits
    prompt: Embedding | None


class ConceptDetector:
    """Used by the detector's worker thread alone, as is `texts`."""

    def __init__(self, engine: VideoEngine, texts: LruCache[str, Embedding]) -> None:
        self._engine = engine
        self._texts = texts

    def answer(self, questions: Sequence[QueuedConcept]) -> list[FoundConcept]:
        """The detections of each question, in order."""
        texts = self._encoded({q.phrase for q in questions if q.prompt is None})
        pairs = [Pair(q.frame, q.prompt or texts[q.phrase], q.boxes, q.labels) for q in questions]
        shown = [index for index, q in enumerate(questions) if len(q.boxes)]
        encoded = self._engine.encode_exemplars([pairs[i] for i in shown]) if shown else []
        prompts = {index: q.prompt for index, q in enumerate(questions)}
        prompts.update(zip(shown, encoded, strict=True))
        raw = self._engine.detect(
            [
                Pair(pair.image, prompts[index] or pair.text, pair.boxes[:0], pair.labels[:0])
                for index, pair in enumerate(pairs)
            ]
        )
        found = []
        for index, (question, answer) in enumerate(zip(questions, raw, strict=True)):
            presence = torch.as_tensor(answer.presence).float().sigmoid()
            scores = torch.as_tensor(answer.logits).float().sigmoid() * presence
            kept = torch.nonzero(scores > question.score_threshold)[:, 0]
            masks = torch.as_tensor(answer.masks)[kept].float().cpu().numpy()
            chosen = scores[kept].cpu().numpy()
            keep = suppress_duplicates(chosen, masks, question.nms_threshold)
            found.append(FoundConcept(float(presence), chosen[keep], masks[keep], prompts[index]))
        return found

    def _encoded(self, phrases: set[str]) -> dict[str, Embedding]:
        known = {phrase: self._texts.get(phrase) for phrase in sorted(phrases)}
        found = {phrase: text for phrase, text in known.items() if text is not None}
        new = [phrase for phrase in known if phrase not in found]
        if new:
            for phrase, text in zip(new, self._engine.encode_texts(new), strict=True):
                self._texts.put(phrase, text, text.nbytes)
                found[phrase] = text
        return found
