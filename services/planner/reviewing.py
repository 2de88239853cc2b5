"""Puts a plan's candidates before the model, one prompt each, and brings back its verdicts.

Flow: validate -> decode -> views (`marks`) -> ask about each candidate (twice at most) -> verdicts.
A candidate without a valid verdict stays unreviewed: none is ever invented.
"""

import asyncio
import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.codecs.images import ImageLimits, content_hash, decode
from services.codecs.masks import decode_rle
from services.deadline import Deadline
from services.domain import RLE, Candidate, ModelInfo, Reviewed, Verdict, VerdictKind
from services.errors import InvalidRequest, Reason
from services.planner.asking import Asker, Attempts
from services.planner.calls import verdict_from_call
from services.planner.engines import Picture, Prompt
from services.planner.instruction import normalised
from services.planner.marks import numbered_overview, zoomed_candidate
from services.planner.metrics import Metrics
from services.planner.prompt import VERDICT_TOOL, review_messages
from services.segmenter.stopwatch import Stopwatch
from services.segmenter.waiting import within

# Pictures of a review are shrunk to about this: the model's largest image is 2.6 megapixels, and
# the numbered overview holds all masks at once.
_VIEW_PIXELS = 2_000_000
_MAX_PHRASE_CHARS = 1000


@dataclass(frozen=True, slots=True)
class _Views:
    """The pictures of a review: all candidates numbered, and each close up."""

    overview: Picture
    closeups: tuple[Picture, ...]


class Reviewer:
    """Reviews candidates with the model behind `asker`.

    One review has at most `max_asked` of its prompts waiting at a time, so that a large one leaves
    room in the queue for others.
    """

    def __init__(
        self,
        *,
        asker: Asker,
        model: ModelInfo,
        pool: Executor,
        metrics: Metrics,
        limits: ImageLimits,
        max_instruction_chars: int,
        max_candidates: int,
        max_asked: int,
    ) -> None:
        self._asker = asker
        self._model = model
        self._pool = pool
        self._metrics = metrics
        self._limits = limits
        self._max_instruction_chars = max_instruction_chars
        self._max_candidates = max_candidates
        self._max_asked = max_asked

    async def review(
        self,
        content: bytes,
        instruction: str,
        candidates: Sequence[Candidate],
        deadline: Deadline,
    ) -> Reviewed:
        """One verdict a candidate, in the order given.

        Raises:
            InvalidRequest: the instruction or a candidate cannot be used; the field says which.
            InvalidMedia, TooLarge: the image cannot be.
            DeadlinePassed: the time ran out.
            Overloaded: the model's queue is full.
        """
        text = normalised(instruction, self._max_instruction_chars)
        self._check(candidates)
        watch = Stopwatch(self._metrics)
        async with within(deadline):
            with watch.stage("decode"):
                views = await asyncio.get_running_loop().run_in_executor(
                    self._pool, _views, content, candidates, self._limits, deadline
                )
            with watch.stage("review"):
                verdicts = await self._verdicts(text, candidates, views, deadline)
        return Reviewed(verdicts, self._model, watch.timings_ms)

    def _check(self, candidates: Sequence[Candidate]) -> None:
        if not 1 <= len(candidates) <= self._max_candidates:
            raise _invalid(
                f"{len(candidates)} candidates, of 1 to {self._max_candidates}", "candidates"
            )
        seen: set[int] = set()
        for index, candidate in enumerate(candidates):
            if candidate.id in seen:
                raise _invalid(f"two candidates are number {candidate.id}", _field(index, "id"))
            seen.add(candidate.id)
            if len(candidate.phrase) > _MAX_PHRASE_CHARS:
                raise _invalid(
                    f"the phrase has more than {_MAX_PHRASE_CHARS} characters",
                    _field(index, "phrase"),
                )

    async def _verdicts(
        self, instruction: str, candidates: Sequence[Candidate], views: _Views, deadline: Deadline
    ) -> tuple[Verdict, ...]:
        room = asyncio.Semaphore(self._max_asked)

        async def verdict(index: int, candidate: Candidate) -> Verdict:
            pictures = (views.overview, views.closeups[index])

            def write(attempts: Attempts) -> Prompt:
                messages = review_messages(instruction, candidate.phrase, index + 1, attempts)
                return Prompt(messages, pictures, (VERDICT_TOOL,))

            async with room:
                asked = await self._asker.ask(write, verdict_from_call, deadline)
            if asked.value is None:
                kind, reason = VerdictKind.UNREVIEWED, ""
            else:
                accepted, reason = asked.value
                kind = VerdictKind.ACCEPTED if accepted else VerdictKind.REJECTED
            self._metrics.reviewed(kind)
            return Verdict(candidate.id, kind, reason)

        tasks = [
            asyncio.ensure_future(verdict(index, candidate))
            for index, candidate in enumerate(candidates)
        ]
        try:
            return tuple(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()


def _views(
    content: bytes, candidates: Sequence[Candidate], limits: ImageLimits, deadline: Deadline
) -> _Views:
    """Decodes the image and its candidates' masks and draws the pictures; on a pool's thread."""
    rgb = decode(content, limits)
    key = _key(content, [candidate.mask for candidate in candidates])
    factor = _factor(rgb.shape[0] * rgb.shape[1])
    closeups: list[Picture] = []
    masks: list[NDArray[np.bool_]] = []
    # One full-size mask at a time: 64 of them of a large image would be gigabytes.
    for index, candidate in enumerate(candidates):
        deadline.check()
        field = _field(index, "mask")
        if candidate.mask.size != rgb.shape[:2]:
            height, width = rgb.shape[:2]
            raise _invalid(
                f"the mask is {candidate.mask.size[1]} x {candidate.mask.size[0]} pixels,"
                f" the image {width} x {height}",
                field,
            )
        mask = decode_rle(candidate.mask, field=field)
        if not mask.any():
            raise _invalid("the mask is empty", field)
        closeup = zoomed_candidate(rgb, mask)
        shrunk = _shrunk_image(closeup, _factor(closeup.shape[0] * closeup.shape[1]))
        closeups.append(Picture(shrunk, f"{key}/{index}"))
        masks.append(_shrunk_mask(mask, factor))
    overview = numbered_overview(_shrunk_image(rgb, factor), masks)
    return _Views(Picture(overview, key), tuple(closeups))


def _key(content: bytes, masks: Sequence[RLE]) -> str:
    """Names the pictures of a review; run lengths never hold a blank, so it separates them."""
    return content_hash(b" ".join([content_hash(content).encode(), *(m.counts for m in masks)]))


def _factor(pixels: int) -> int:
    """The whole number by which both sides are divided so that `_VIEW_PIXELS` are about kept."""
    return max(1, round(math.sqrt(pixels / _VIEW_PIXELS)))


def _shrunk_image(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return rgb if factor == 1 else np.asarray(Image.fromarray(rgb).reduce(factor))


def _shrunk_mask(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    """True where any pixel of the block is, so that a small mask does not vanish."""
    if factor == 1:
        return mask
    height, width = (-(-side // factor) for side in mask.shape)
    padded = np.zeros((height * factor, width * factor), np.bool_)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    blocks = padded.reshape(height, factor, width, factor)
    shrunk: NDArray[np.bool_] = np.logical_or.reduce(blocks, axis=(1, 3))
    return shrunk


def _field(index: int, name: str) -> str:
    return f"candidates[{index}].{name}"


def _invalid(message: str, field: str) -> InvalidRequest:
    return InvalidRequest(Reason.CANDIDATE_INVALID, message, field=field)
