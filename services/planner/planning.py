"""Makes the plan for one instruction about one image.

Flow: validate -> cache -> decode -> ask the model (twice at most) -> plan, or, honestly marked, the
instruction itself as the one phrase. The gateway executes what comes out.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import TypeVar

from limelight.values import ConceptQuery, ModelInfo, Plan, PlanOutcome
from services.codecs.images import content_hash
from services.deadline import Deadline
from services.domain import Planned
from services.errors import DeadlinePassed
from services.planner.asking import Asker, Attempts, Reply
from services.planner.cache import PlanCache, PlanKey
from services.planner.calls import plan_from_call
from services.planner.engines import Prompt, PromptImage
from services.planner.instruction import as_phrase, normalized
from services.planner.metrics import PlannerMetrics
from services.planner.prompt import PLAN_TOOL, plan_messages
from services.planner.views import whole_picture
from services.replica.cache import SingleFlight
from services.replica.decoding import ImageDecoder
from services.replica.waiting import within
from services.rpc.tracing import TRACING
from services.stages import StageTimer

T = TypeVar("T")


class Planner:
    """Turns instructions into plans with the model behind `asker`.

    `pool` runs hashing and decoding, off the event loop. Only plans that a model made are cached,
    never degraded ones.
    """

    def __init__(
        self,
        *,
        asker: Asker,
        model: ModelInfo,
        cache: PlanCache,
        pool: Executor,
        metrics: PlannerMetrics,
        decoder: ImageDecoder,
        max_instruction_chars: int,
    ) -> None:
        self._asker = asker
        self._model = model
        self._cache = cache
        self._pool = pool
        self._metrics = metrics
        self._decoder = decoder
        self._max_instruction_chars = max_instruction_chars
        self._flights: SingleFlight[PlanKey, Planned] = SingleFlight()

    async def plan(self, content: bytes, instruction: str, deadline: Deadline) -> Planned:
        """The plan for `instruction` about the encoded image `content`.

        Raises:
            InvalidRequest: the instruction cannot be used.
            InvalidMedia, TooLarge: the image cannot be.
            DeadlinePassed: the time ran out.
            Overloaded: the model's queue is full.
        """
        text = normalized(instruction, self._max_instruction_chars)
        async with within(deadline):
            image = await self._in_pool(lambda: content_hash(content))
            key = PlanKey(image, text, self._model.revision)
            plan = self._cache.get(key)
            if plan is not None:
                return Planned(plan, self._model, cached=True, attempts=0)
            return await self._shared(key, content, deadline)

    async def _shared(self, key: PlanKey, content: bytes, deadline: Deadline) -> Planned:
        while True:
            try:
                return await self._flights.run(key, lambda: self._make(key, content, deadline))
            except DeadlinePassed:
                # Perhaps not ours but the deadline of the caller who began the work we joined.
                deadline.check()

    async def _make(self, key: PlanKey, content: bytes, deadline: Deadline) -> Planned:
        with StageTimer(self._metrics.stage, trace=TRACING.stage) as timer:
            with timer.stage("decode"):
                picture = await self._in_pool(
                    lambda: whole_picture(content, self._decoder, deadline, key.image)
                )
            with timer.stage("plan"):
                asked = await self._ask(picture, key.instruction, deadline)
        plan = _plan(asked, key.instruction)
        if plan.outcome is not PlanOutcome.DEGRADED:
            self._cache.put(key, plan)
        self._metrics.planned(plan.outcome, asked.attempts)
        return Planned(plan, self._model, False, asked.attempts, timer.timings_ms)

    async def _ask(self, picture: PromptImage, instruction: str, deadline: Deadline) -> Reply[Plan]:
        def write(attempts: Attempts) -> Prompt:
            return Prompt(plan_messages(instruction, attempts), (picture,), (PLAN_TOOL,))

        return await self._asker.ask(write, plan_from_call, deadline)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _plan(asked: Reply[Plan], instruction: str) -> Plan:
    """The plan that was asked for, marked by how it came about; or the instruction as a phrase."""
    if asked.value is None:
        phrase = as_phrase(instruction)
        reason = f"The planner gave no valid plan, so the instruction was read as “{phrase}”."
        return Plan((ConceptQuery(phrase),), reason=reason, outcome=PlanOutcome.DEGRADED)
    if not asked.value.include:
        return replace(asked.value, outcome=PlanOutcome.REFUSED)
    outcome = PlanOutcome.OK if asked.attempts == 1 else PlanOutcome.RETRIED
    return replace(asked.value, outcome=outcome)
