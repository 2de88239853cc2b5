"""The planner put together from its settings: engine, batcher, cache, planner and reviewer.

`services.planner.app` hosts one in a Ray Serve replica; tests and benchmarks use it without Serve.
"""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from services.codecs.images import ImageLimits
from services.deadline import Deadline
from services.domain import Candidate, ModelInfo, Planned, Reviewed
from services.errors import DeadlinePassed, Reason, Unavailable
from services.planner.asking import Asker, Question, answer_batch
from services.planner.cache import PlanCache
from services.planner.engines import Engine
from services.planner.metrics import Metrics
from services.planner.planning import Planner
from services.planner.reviewing import Reviewer
from services.planner.settings import Settings
from services.replica.batching import Batcher


class PlannerService:
    """Plans and reviews with `engine`, which is loaded already and is closed with the service."""

    def __init__(self, settings: Settings, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._pool = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="decode")
        self._batcher: Batcher[Question, str] = Batcher(
            "generate",
            lambda questions: answer_batch(engine, questions),
            max_batch=settings.max_batch,
            max_queued=settings.max_queue,
            wait_s=settings.batch_wait_s,
            metrics=metrics,
        )
        asker = Asker(self._batcher)
        limits = ImageLimits(
            max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels
        )
        self.model: ModelInfo = engine.describe()
        self._planner = Planner(
            asker=asker,
            model=self.model,
            cache=PlanCache(settings.plan_cache_bytes, settings.plan_cache_ttl_s, metrics),
            pool=self._pool,
            metrics=metrics,
            limits=limits,
            max_instruction_chars=settings.max_instruction_chars,
        )
        self._reviewer = Reviewer(
            asker=asker,
            model=self.model,
            pool=self._pool,
            metrics=metrics,
            limits=limits,
            max_instruction_chars=settings.max_instruction_chars,
            max_candidates=settings.max_candidates,
            max_asked=settings.max_batch,
        )

    async def plan(self, content: bytes, instruction: str, deadline: Deadline) -> Planned:
        """See `Planner.plan`."""
        with self._counted("plan"):
            return await self._planner.plan(content, instruction, deadline)

    async def review(
        self,
        content: bytes,
        instruction: str,
        candidates: Sequence[Candidate],
        deadline: Deadline,
    ) -> Reviewed:
        """See `Reviewer.review`."""
        with self._counted("review"):
            return await self._reviewer.review(content, instruction, candidates, deadline)

    def check(self) -> None:
        """Raise `Unavailable` if the planner cannot work any more."""
        if self._batcher.broken:
            raise Unavailable(Reason.PLANNER_UNAVAILABLE, "the batch loop has died")

    async def close(self) -> None:
        """Answer what was asked already, refuse the rest as DRAINING, and give back the engine."""
        await self._batcher.close()
        self._pool.shutdown()
        self._engine.close()

    @contextmanager
    def _counted(self, stage: str) -> Iterator[None]:
        """Counts who leaves before the answer."""
        try:
            yield
        except asyncio.CancelledError:
            self._metrics.departed(stage, "cancelled")
            raise
        except DeadlinePassed:
            self._metrics.departed(stage, "deadline")
            raise
