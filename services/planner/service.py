"""The planner put together from its settings: engine, batcher, cache, planner and reviewer.

`services.planner.app` hosts one in a Ray Serve replica; tests and benchmarks use it without Serve.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np

from limelight.values import ModelInfo
from services.deadline import Deadline
from services.domain import Candidate, Planned, Reviewed
from services.errors import CheckpointError, Reason
from services.planner.asking import Asker, QueuedPrompt, answer_batch
from services.planner.cache import PlanCache
from services.planner.engines import PlannerEngine, Prompt, PromptImage, create
from services.planner.metrics import PlannerMetrics
from services.planner.planning import Planner
from services.planner.prompt import PLAN_TOOL, plan_messages
from services.planner.reviewing import Reviewer
from services.planner.settings import PlannerSettings
from services.replica.batching import Batcher
from services.replica.decoding import ImageDecoder
from services.replica.failures import is_out_of_memory
from services.replica.requests import RequestGate

# Enough to run the vision encoder, the prompt and the steps that write.
_WARM_UP_TOKENS = 8


class PlannerService:
    """Plans and reviews with `engine`, which is loaded already and is closed with the service."""

    def __init__(
        self, settings: PlannerSettings, engine: PlannerEngine, metrics: PlannerMetrics
    ) -> None:
        self._engine = engine
        self._gate = RequestGate(metrics)
        self._pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._batcher: Batcher[QueuedPrompt, str] = Batcher(
            "generate",
            lambda questions: answer_batch(engine, questions),
            max_batch=settings.max_batch_prompts,
            max_queued=settings.max_queued_prompts,
            wait_s=settings.batch_wait_s,
            metrics=metrics,
            max_failures=settings.max_failed_batches,
        )
        asker = Asker(self._batcher)
        self._decoder = ImageDecoder(settings)
        self.model: ModelInfo = engine.describe()
        self._planner = Planner(
            asker=asker,
            model=self.model,
            cache=PlanCache(settings.plan_cache_bytes, settings.plan_cache_ttl_s, metrics),
            pool=self._pool,
            metrics=metrics,
            decoder=self._decoder,
            max_instruction_chars=settings.max_instruction_chars,
        )
        self._reviewer = Reviewer(
            asker=asker,
            model=self.model,
            pool=self._pool,
            metrics=metrics,
            decoder=self._decoder,
            max_instruction_chars=settings.max_instruction_chars,
            max_candidates=settings.max_candidates,
            max_asked=settings.max_batch_prompts,
        )

    def start(self) -> None:
        """Begin to get ready for the first picture."""
        self._decoder.start()

    async def plan(self, content: bytes, instruction: str, deadline: Deadline) -> Planned:
        """See `Planner.plan`."""
        with self._gate.enter(lambda: "plan"):
            return await self._planner.plan(content, instruction, deadline)

    async def review(
        self,
        content: bytes,
        instruction: str,
        candidates: Sequence[Candidate],
        deadline: Deadline,
    ) -> Reviewed:
        """See `Reviewer.review`."""
        with self._gate.enter(lambda: "review"):
            return await self._reviewer.review(content, instruction, candidates, deadline)

    def check(self) -> None:
        """Raise `Unavailable` if the planner cannot work any more."""
        self._batcher.check(Reason.PLANNER_UNAVAILABLE)

    async def close(self) -> None:
        """Answer what was asked already, refuse the rest as DRAINING, and give back the engine."""
        await self._gate.close()
        await self._batcher.close()
        self._pool.shutdown()
        self._decoder.close()
        self._engine.close()


def open_planner(settings: PlannerSettings, metrics: PlannerMetrics) -> PlannerService:
    """The planner of `settings`, its model loaded and warmed up. Blocking.

    Raises:
        Whatever the engine raises for a checkpoint that it cannot load, or that does not answer.
    """
    engine = create(settings, metrics)
    engine.load()
    warm_up(engine)
    service = PlannerService(settings, engine, metrics)
    service.start()
    return service


def warm_up(engine: PlannerEngine) -> None:
    """Ask the model for the first tokens of a plan of a plain picture.

    A full-size model on a CPU need not write a whole plan before its replica is ready.

    Raises:
        CheckpointError: it cannot, or its logits are not finite; the message names the model.
    """
    gray = PromptImage(np.full((64, 64, 3), 128, np.uint8))
    prompt = Prompt(plan_messages("everything"), (gray,), (PLAN_TOOL,))
    asked = count(1)
    name = engine.describe().name
    try:
        answers = engine.generate([prompt], lambda: next(asked) < _WARM_UP_TOKENS)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(f"{name} failed its warm-up: {error}") from error
    if len(answers) != 1:
        raise CheckpointError(f"{name} failed its warm-up: {len(answers)} answers to one prompt")
