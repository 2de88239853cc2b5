"""Puts a plan's candidates before the model, one prompt each, and brings back its verdicts.

Flow: validate -> decode and draw (`views`) -> ask about each candidate (twice at most) -> verdicts.
A candidate without a valid verdict stays unreviewed: none is ever invented.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor

from limelight.paths import FieldPath
from limelight.values import ModelInfo, Verdict, VerdictKind
from services.deadline import Deadline
from services.domain import Candidate, Reviewed
from services.errors import InvalidRequest, Reason
from services.planner.asking import Asker, Attempts
from services.planner.calls import verdict_from_call
from services.planner.engines import Prompt
from services.planner.instruction import normalized
from services.planner.metrics import PlannerMetrics
from services.planner.prompt import VERDICT_TOOL, review_messages
from services.planner.views import CANDIDATES, Views, draw_views
from services.replica.decoding import ImageDecoder
from services.replica.waiting import within
from services.rpc.tracing import TRACING
from services.stages import StageTimer

_MAX_PHRASE_CHARS = 1000


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
        metrics: PlannerMetrics,
        decoder: ImageDecoder,
        max_instruction_chars: int,
        max_candidates: int,
        max_asked: int,
    ) -> None:
        self._asker = asker
        self._model = model
        self._pool = pool
        self._metrics = metrics
        self._decoder = decoder
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
        text = normalized(instruction, self._max_instruction_chars)
        self._check(candidates)
        async with within(deadline):
            with StageTimer(self._metrics.stage, trace=TRACING.stage) as timer:
                with timer.stage("decode"):
                    views = await asyncio.get_running_loop().run_in_executor(
                        self._pool, draw_views, content, candidates, self._decoder, deadline
                    )
                with timer.stage("review"):
                    verdicts = await self._verdicts(text, candidates, views, deadline)
        return Reviewed(verdicts, self._model, timer.timings_ms)

    def _check(self, candidates: Sequence[Candidate]) -> None:
        if not 1 <= len(candidates) <= self._max_candidates:
            raise _invalid(
                f"{len(candidates)} candidates; a review takes 1 to {self._max_candidates}",
                CANDIDATES,
            )
        seen: set[int] = set()
        for index, candidate in enumerate(candidates):
            if candidate.id in seen:
                raise _invalid(
                    f"two candidates have the id {candidate.id}", CANDIDATES / index / "id"
                )
            seen.add(candidate.id)
            if len(candidate.phrase) > _MAX_PHRASE_CHARS:
                raise _invalid(
                    f"the phrase has more than {_MAX_PHRASE_CHARS} characters",
                    CANDIDATES / index / "phrase",
                )

    async def _verdicts(
        self, instruction: str, candidates: Sequence[Candidate], views: Views, deadline: Deadline
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


def _invalid(message: str, field: FieldPath) -> InvalidRequest:
    return InvalidRequest(Reason.CANDIDATE_INVALID, message, field=field)
