"""The main job, in reading order: mend -> plan -> segment -> exclude -> review -> select -> draw.

`run` yields what happens as it happens, and the answer last; `Segment` keeps the last,
`SegmentStream` sends them all. Canceling it cancels whatever it waits for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from limelight.paths import FieldPath
from limelight.values import (
    ModelInfo,
    Plan,
    PlanOutcome,
    QueryOutcome,
    ReviewMode,
    Verdict,
    VerdictKind,
)
from services.domain import Candidate, SegmentedImage, SegmentedInstance
from services.errors import InvalidRequest, Reason, ServiceError
from services.gateway import execution
from services.gateway.answer_size import MaskRoom
from services.gateway.answers import (
    Answer,
    CandidatesEvent,
    PipelineEvent,
    PlanEvent,
    RenderedPicture,
    VerdictEvent,
    summarize,
)
from services.gateway.mask_writing import MaskWriter
from services.gateway.metrics import GatewayMetrics
from services.gateway.peers import PlannerPeer, SegmenterPeer
from services.gateway.pixels import PixelWorkers
from services.gateway.request_fields import IMAGE, INSTRUCTION, MASK_FORMAT, QUERIES, TASK
from services.gateway.settings import Settings
from services.gateway.tasks import ImageTask
from services.rpc.metadata import CallContext
from services.stages import StageTimer

R = TypeVar("R")

# A peer's request names its fields otherwise than the caller's does.
_PEERS_QUERIES = FieldPath(("queries",))
_FIELDS = {
    FieldPath(("image", "content")): IMAGE,
    FieldPath(("instruction",)): INSTRUCTION,
    FieldPath(("score_threshold",)): TASK / "score_threshold",
    FieldPath(("max_instances",)): TASK / "max_instances",
}


@dataclass(slots=True)
class RunRecord:
    """What a run collects on its way: the models that took part, and the peers' own timings."""

    models: list[ModelInfo] = field(default_factory=list)
    parts_ms: dict[str, float] = field(default_factory=dict)

    def segmenter(self, model: ModelInfo, timings_ms: dict[str, float]) -> None:
        self.models.append(model)
        self.parts_ms |= timings_ms

    def planner(self, model: ModelInfo, timings_ms: dict[str, float]) -> None:
        """Plan and review are two calls of one model; what both do adds up."""
        if model not in self.models:
            self.models.append(model)
        for stage, spent in timings_ms.items():
            name = f"planner.{stage}"
            self.parts_ms[name] = self.parts_ms.get(name, 0.0) + spent


class Pipeline:
    """One request from its task to its answer."""

    def __init__(
        self,
        planner: PlannerPeer,
        segmenter: SegmenterPeer,
        executor: Executor,
        pixels: PixelWorkers,
        metrics: GatewayMetrics,
        settings: Settings,
    ) -> None:
        self._planner = planner
        self._segmenter = segmenter
        self._executor = executor
        self._pixels = pixels
        self._metrics = metrics
        self._max_instances = settings.max_instances
        self._max_review = settings.max_review_candidates
        self._max_bytes = settings.max_message_bytes

    async def run(
        self, task: ImageTask, call: CallContext, timer: StageTimer, *, steps: bool
    ) -> AsyncIterator[PipelineEvent]:
        """Yield the events of one request; the last is its `Answer`. Raises `ServiceError`.

        Without `steps` nobody looks at those before it, and what only they hold is not made.
        """
        record = RunRecord()
        room = MaskRoom(call.message_bytes(self._max_bytes), task.mask_format, MASK_FORMAT)
        masks = MaskWriter(room, self._executor, timer)

        warnings: tuple[str, ...] = ()
        with timer.stage("read"):
            await self._pixels.check_pictures(task, call)
        if task.accepts_damage:
            with timer.stage("read"):
                task, warnings = await self._pixels.mended(task)
        plan = await self._plan(task, call, timer, record)
        yield PlanEvent(plan)

        image = await self._segment(task, plan, call, timer, record)
        with timer.stage("select"):
            candidates, gone = await self._off_loop(_candidates, plan, image)
        queries = _outcomes(plan, image)
        if steps:
            yield CandidatesEvent(await masks.masked(candidates), queries)

        kept = [item for item in candidates if item.id not in gone]
        if kept and self._reviews(task, plan):
            verdicts = await self._review(task, kept, call, timer, record)
            for verdict in verdicts.values():
                yield VerdictEvent(verdict)
            kept = _judged(kept, verdicts)

        with timer.stage("select"):
            chosen = execution.selected(plan.select, kept, image.width, image.height)
        instances = chosen[: task.max_instances]
        self._pixels.check_drawing(task, len(instances))
        masked = await masks.masked(instances)
        pictures: tuple[RenderedPicture, ...] = ()
        if task.renders:
            with timer.stage("render"):
                beside = [item.mask for item in masked]
                pictures, unwritten = await self._pixels.pictures(task, instances, beside, call)
            warnings += unwritten
        self._metrics.images.inc()
        self._metrics.instances.inc(len(instances))
        yield Answer(
            width=image.width,
            height=image.height,
            plan=plan,
            instances=masked,
            queries=queries,
            summary=summarize(plan, instances, queries),
            pictures=pictures,
            timings_ms={**record.parts_ms, **timer.timings_ms, "total": timer.total_ms},
            models=tuple(record.models),
            warnings=warnings,
        )

    async def _plan(
        self, task: ImageTask, call: CallContext, timer: StageTimer, record: RunRecord
    ) -> Plan:
        if task.plan is not None:
            plan = task.plan
        else:
            assert task.instruction is not None
            with timer.stage("plan"), _as_the_caller_wrote(task, None):
                planned = await self._planner.plan(task.image, task.instruction, call)
            record.planner(planned.model, planned.timings_ms)
            plan = planned.plan
            self._metrics.plan_cache_hits.inc(planned.cached)
        self._metrics.plans.labels(plan.outcome.value).inc()
        return plan

    async def _segment(
        self,
        task: ImageTask,
        plan: Plan,
        call: CallContext,
        timer: StageTimer,
        record: RunRecord,
    ) -> SegmentedImage:
        if not plan.include:
            unasked = ModelInfo("segmenter", "", "", "")
            return SegmentedImage(task.header.width, task.header.height, (), unasked)
        # A selection by position needs every instance, so the caller's cap is applied after it.
        with timer.stage("segment"), _as_the_caller_wrote(task, plan):
            image = await self._segmenter.segment(
                task.image, plan.queries, task.score_threshold, self._max_instances, call
            )
        record.segmenter(image.model, image.timings_ms)
        return image

    def _reviews(self, task: ImageTask, plan: Plan) -> bool:
        # Without an instruction there is nothing to hold the candidates against.
        if task.instruction is None or task.review is ReviewMode.NEVER:
            return False
        return plan.review or task.review is ReviewMode.ALWAYS

    async def _review(
        self,
        task: ImageTask,
        kept: Sequence[SegmentedInstance],
        call: CallContext,
        timer: StageTimer,
        record: RunRecord,
    ) -> dict[int, Verdict]:
        assert task.instruction is not None
        looked_at = [
            Candidate(item.id, item.phrase, item.mask) for item in kept[: self._max_review]
        ]
        with timer.stage("review"), _as_the_caller_wrote(task, None):
            reviewed = await self._planner.review(task.image, task.instruction, looked_at, call)
        self._metrics.review_rounds.inc()
        for verdict in reviewed.verdicts:
            self._metrics.verdicts.labels(verdict.kind.value).inc()
        record.planner(reviewed.model, reviewed.timings_ms)
        return {verdict.id: verdict for verdict in reviewed.verdicts}

    async def _off_loop(self, function: Callable[..., R], *args: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)


def _candidates(plan: Plan, image: SegmentedImage) -> tuple[list[SegmentedInstance], set[int]]:
    """Every candidate, and the ids of those that are excluded."""
    candidates = execution.found(plan, image)
    return candidates, execution.excluded(plan, image, candidates)


def _judged(
    kept: Sequence[SegmentedInstance], verdicts: dict[int, Verdict]
) -> list[SegmentedInstance]:
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
def _as_the_caller_wrote(task: ImageTask, plan: Plan | None) -> Iterator[None]:
    """Rename the field of a peer's refusal to the one the caller sent.

    A phrase the caller never wrote cannot be the caller's fault: when the planner's own words are
    refused, the instruction is what could not be turned into phrases.
    """
    try:
        yield
    except ServiceError as error:
        if error.field is None:
            raise
        query = error.field.below(_PEERS_QUERIES)
        if query is None:
            error.field = _FIELDS.get(error.field)
        elif plan is None or plan.outcome is PlanOutcome.EXPLICIT:
            error.field = _query_path(query, plan)
        else:
            raise InvalidRequest(
                Reason.INSTRUCTION_INVALID,
                "the instruction could not be turned into phrases the segmenter reads: "
                + error.message,
                field=INSTRUCTION,
            ) from error
        raise


def _query_path(query: FieldPath, plan: Plan | None) -> FieldPath:
    """`task.queries.exclude[0].phrase` for `[3].phrase` when three are included."""
    if plan is None or not query.parts or not isinstance(query.parts[0], int):
        return QUERIES
    number, rest = query.parts[0], FieldPath(query.parts[1:])
    included = len(plan.include)
    if number < included:
        return QUERIES / "include" / number / rest
    return QUERIES / "exclude" / (number - included) / rest
