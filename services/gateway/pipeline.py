"""The main job, in reading order: plan -> segment -> exclude -> review -> select -> render.

`run` yields what happens as it happens, and the answer last; `Segment` keeps the last,
`SegmentStream` sends them all. Cancelling it cancels whatever it waits for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from services.codecs.images import ImageLimits
from services.domain import (
    Candidate,
    Instance,
    ModelInfo,
    Plan,
    PlanOutcome,
    SegmentedImage,
    Verdict,
    VerdictKind,
)
from services.errors import InvalidRequest, Reason
from services.gateway import execution, rendering
from services.gateway.answers import (
    Answer,
    CandidatesFound,
    Event,
    PlanMade,
    QueryOutcome,
    Rendering,
    VerdictGiven,
    summarize,
)
from services.gateway.metrics import Metrics, StageClock
from services.gateway.peers import PlannerPeer, SegmenterPeer
from services.gateway.tasks import ReviewMode, Task
from services.rpc.metadata import CallContext

R = TypeVar("R")


class Pipeline:
    """One request from its task to its answer."""

    def __init__(
        self,
        planner: PlannerPeer,
        segmenter: SegmenterPeer,
        executor: Executor,
        limits: ImageLimits,
        metrics: Metrics,
        max_instances: int,
        max_review_candidates: int,
    ) -> None:
        self._planner = planner
        self._segmenter = segmenter
        self._executor = executor
        self._limits = limits
        self._metrics = metrics
        self._max_instances = max_instances
        self._max_review = max_review_candidates

    async def run(self, task: Task, call: CallContext) -> AsyncIterator[Event]:
        """Yield the events of one request; the last is its `Answer`. Raises `ServiceError`."""
        with StageClock(self._metrics) as clock:
            async for event in self._stages(task, call, clock):
                yield event

    async def _stages(
        self, task: Task, call: CallContext, clock: StageClock
    ) -> AsyncIterator[Event]:
        models: list[ModelInfo] = []

        plan = await self._plan(task, call, clock, models)
        yield PlanMade(plan)

        image = await self._segment(task, plan, call, clock, models)
        with clock.stage("select"):
            candidates, gone = await self._off_loop(_candidates, plan, image)
        queries = _outcomes(plan, image)
        yield CandidatesFound(tuple(candidates), queries)

        kept = [item for item in candidates if item.id not in gone]
        if kept and self._reviews(task, plan):
            verdicts = await self._review(task, kept, call, clock, models)
            for verdict in verdicts.values():
                yield VerdictGiven(verdict)
            kept = _judged(kept, verdicts)

        with clock.stage("select"):
            chosen = execution.selected(plan.select, kept, image.width, image.height)
        instances = tuple(chosen[: task.max_instances])
        renderings: tuple[Rendering, ...] = ()
        if task.renders:
            with clock.stage("render"):
                renderings = await self._off_loop(
                    rendering.draw, task.renders, task.image, instances, self._limits
                )
        self._metrics.images.inc()
        self._metrics.instances.inc(len(instances))
        yield Answer(
            width=image.width,
            height=image.height,
            plan=plan,
            instances=instances,
            queries=queries,
            summary=summarize(plan, instances, queries),
            renderings=renderings,
            timings_ms={**image.timings_ms, **clock.total()},
            models=tuple(models),
        )

    async def _plan(
        self, task: Task, call: CallContext, clock: StageClock, models: list[ModelInfo]
    ) -> Plan:
        if task.plan is not None:
            plan = task.plan
        else:
            assert task.instruction is not None
            with clock.stage("plan"), _as_the_caller_wrote(task, None):
                planned = await self._planner.plan(task.image, task.instruction, call)
            models.append(planned.model)
            plan = planned.plan
            self._metrics.plan_cache_hits.inc(planned.cached)
        self._metrics.plans.labels(plan.outcome.value).inc()
        return plan

    async def _segment(
        self,
        task: Task,
        plan: Plan,
        call: CallContext,
        clock: StageClock,
        models: list[ModelInfo],
    ) -> SegmentedImage:
        if not plan.include:
            nobody = ModelInfo("segmenter", "", "", "")
            return SegmentedImage(task.header.width, task.header.height, (), nobody)
        # A selection by position needs every instance, so the caller's cap is applied after it.
        with clock.stage("segment"), _as_the_caller_wrote(task, plan):
            image = await self._segmenter.segment(
                task.image, plan.queries, task.score_threshold, self._max_instances, call
            )
        models.append(image.model)
        return image

    def _reviews(self, task: Task, plan: Plan) -> bool:
        # Without an instruction there is nothing to hold the candidates against.
        if task.instruction is None or task.review is ReviewMode.NEVER:
            return False
        return plan.review or task.review is ReviewMode.ALWAYS

    async def _review(
        self,
        task: Task,
        kept: Sequence[Instance],
        call: CallContext,
        clock: StageClock,
        models: list[ModelInfo],
    ) -> dict[int, Verdict]:
        assert task.instruction is not None
        looked_at = [
            Candidate(item.id, item.phrase, item.mask) for item in kept[: self._max_review]
        ]
        with clock.stage("review"), _as_the_caller_wrote(task, None):
            reviewed = await self._planner.review(task.image, task.instruction, looked_at, call)
        self._metrics.review_rounds.inc()
        for verdict in reviewed.verdicts:
            self._metrics.verdicts.labels(verdict.kind.value).inc()
        if reviewed.model not in models:
            models.append(reviewed.model)
        return {verdict.id: verdict for verdict in reviewed.verdicts}

    async def _off_loop(self, function: Callable[..., R], *args: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)


def _candidates(plan: Plan, image: SegmentedImage) -> tuple[list[Instance], set[int]]:
    """Every candidate, and the ids of those that are excluded."""
    candidates = execution.found(plan, image)
    return candidates, execution.excluded(plan, image, candidates)


def _judged(kept: Sequence[Instance], verdicts: dict[int, Verdict]) -> list[Instance]:
    """The instances that were not rejected, each with its verdict."""
    judged = []
    for item in kept:
        verdict = verdicts.get(item.id, Verdict(item.id, VerdictKind.UNREVIEWED))
        if verdict.kind is not VerdictKind.REJECTED:
            provenance = replace(
                item.provenance, verdict=verdict.kind, verdict_reason=verdict.reason
            )
            judged.append(replace(item, provenance=provenance))
    return judged


def _outcomes(plan: Plan, image: SegmentedImage) -> tuple[QueryOutcome, ...]:
    if not image.results:
        return ()
    return tuple(
        QueryOutcome(query.phrase, result.presence, len(result.detections))
        for query, result in zip(plan.queries, image.results, strict=True)
    )


@contextmanager
def _as_the_caller_wrote(task: Task, plan: Plan | None) -> Iterator[None]:
    """Rename the field of a peer's refusal to the one the caller sent.

    A phrase the caller never wrote cannot be the caller's fault: when the planner's own words are
    refused, the instruction is what could not be turned into phrases.
    """
    try:
        yield
    except InvalidRequest as error:
        field = error.field
        if field is None:
            raise
        if field.startswith("queries[") and plan is not None:
            if plan.outcome is not PlanOutcome.EXPLICIT:
                raise InvalidRequest(
                    Reason.INSTRUCTION_INVALID,
                    "the instruction could not be turned into phrases the segmenter reads: "
                    + error.message,
                    field="task.instruction",
                ) from error
            error.field = _query_field(field, len(plan.include))
        elif field in ("image.content", "instruction"):
            error.field = f"task.{field}"
        raise


def _query_field(field: str, included: int) -> str:
    """`task.queries.exclude[0].phrase` for `queries[3].phrase` when three are included."""
    index, _, rest = field.removeprefix("queries[").partition("]")
    number = int(index)
    if number < included:
        return f"task.queries.include[{number}]{rest}"
    return f"task.queries.exclude[{number - included}]{rest}"
