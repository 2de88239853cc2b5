"""What is measured of the service, one method a scenario; all calls go through the public API."""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from limelight import AsyncClient, ModelInfo, Segmentation
from loadtest.baseline import digest
from loadtest.generator import Load, closed_loop, open_loop
from loadtest.metrics import REPORT_S, Counts, difference, scrape, settled
from loadtest.pictures import Album, Picture
from loadtest.usage import Meter, spent

CALLERS = (1, 4, 16)
PHRASES = (1, 4, 16)
# Of the greatest throughput seen: a service is not run at its limit.
OPEN_SHARE = 0.6
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    Attributes:
        load_s: each number of callers, and the open loop.
        baseline_s: each run of the plain loop; there are up to four.
        repeats: of each call whose latency alone is wanted.
        report_s: how often a stack that is started for it reports its counts.
    """

    load_s: float
    baseline_s: float
    repeats: int
    report_s: float


FULL = Budget(load_s=12.0, baseline_s=8.0, repeats=8, report_s=REPORT_S)
QUICK = Budget(load_s=1.0, baseline_s=0.8, repeats=1, report_s=1.0)


@dataclass(frozen=True)
class LoadFigures:
    """One load.

    Attributes:
        name: "4 callers", or the open loop's rate.
        callers: 0 for the open loop.
        calls: answered.
        throughput: pictures a second.
        p50_ms, p95_ms, p99_ms: latency.
        instances: answered a picture.
        errors: failed calls by what they failed of.
        stages_ms: mean of each stage of the answers.
        cpu_ms: CPU milliseconds of each process an answered call; empty if unknown.
        cores: CPU seconds of all those processes together a second.
    """

    name: str
    callers: int
    calls: int
    throughput: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    instances: float
    errors: dict[str, int]
    stages_ms: dict[str, float]
    cpu_ms: dict[str, float]
    cores: float


@dataclass(frozen=True)
class PhraseFigures:
    """Medians of the time that `phrases` phrases take, one caller, milliseconds.

    Attributes:
        together: in one call about a new picture.
        apart_new: in as many calls, each about a new picture.
        apart_same: in as many calls about one picture, new to the first of them.
        together_known: in one call about a picture seen before.
    """

    phrases: int
    together: float
    apart_new: float
    apart_same: float
    together_known: float


@dataclass(frozen=True)
class LatencyFigures:
    """One kind of call, one caller after the other."""

    name: str
    calls: int
    p50_ms: float
    p95_ms: float
    stages_ms: dict[str, float]


@dataclass(frozen=True)
class BatchFigures:
    """What the replica's metrics say of one stage under 16 callers: items a step, on average."""

    stage: str
    steps: float
    items: float


@dataclass(frozen=True)
class Scenarios:
    """Everything that was measured of the service.

    Attributes:
        loads: at 1, 4 and 16 callers, and the open loop.
        phrases: together and apart.
        pictures: new and known.
        instructions: plans made anew and remembered; `outcomes` says how they came about.
        batches, cache_hits, gateway_stages_ms: counted by the services under 16 callers; look-ups
            in a cache are those that found, and all.
        digests: of the answer about each original.
        models: all that took part.
    """

    loads: tuple[LoadFigures, ...]
    phrases: tuple[PhraseFigures, ...]
    pictures: tuple[LatencyFigures, ...]
    instructions: tuple[LatencyFigures, ...]
    batches: tuple[BatchFigures, ...]
    outcomes: dict[str, int]
    cache_hits: dict[str, tuple[float, float]]
    gateway_stages_ms: dict[str, float]
    digests: tuple[str, ...]
    models: tuple[ModelInfo, ...]


class Bench:
    """Measures one deployment.

    Args:
        client: to its gateway.
        album: what is asked about; its files must be new to the deployment.
        budget: how long.
        meter: of its processes, if they are on this machine.
        gateway_metrics, ray_metrics: `host:port`, None where unknown.
        tell: told what is being done.
    """

    def __init__(
        self,
        client: AsyncClient,
        album: Album,
        budget: Budget,
        *,
        meter: Meter | None,
        gateway_metrics: str | None,
        ray_metrics: str | None,
        tell: Callable[[str], None],
    ) -> None:
        self._client = client
        self._album = album
        self._budget = budget
        self._meter = meter
        self._gateway_metrics = gateway_metrics
        self._ray_metrics = ray_metrics
        self._tell = tell
        # Unlike any earlier run's against the same deployment.
        self._numbers: Iterator[int] = count(time.time_ns() // 1000)

    async def run(self) -> Scenarios:
        """All scenarios, one after the other."""
        self._tell("warming up")
        digests, models = await self._originals()
        *few, most = CALLERS
        loads = [await self._callers(callers) for callers in few]
        before, gateway_before = await self._counts()
        loads.append(await self._callers(most))
        counted, gateway = await self._counts()
        counted, gateway = difference(before, counted), difference(gateway_before, gateway)
        loads.append(await self._arrivals(OPEN_SHARE * max(load.throughput for load in loads)))
        self._tell("phrases together and apart")
        phrases = [await self._phrases(number) for number in PHRASES]
        self._tell("new and known pictures")
        pictures = await self._pictures()
        self._tell("instructions")
        instructions, outcomes = await self._instructions()
        return Scenarios(
            loads=tuple(loads),
            phrases=tuple(phrases),
            pictures=pictures,
            instructions=instructions,
            outcomes=outcomes,
            batches=_batches(counted),
            cache_hits=_cache_hits(counted),
            gateway_stages_ms=_stages(gateway),
            digests=digests,
            models=models,
        )

    async def _originals(self) -> tuple[tuple[str, ...], tuple[ModelInfo, ...]]:
        """What the service answers about each original: it warms up, and can be compared."""
        digests: list[str] = []
        models: set[ModelInfo] = set()
        for picture in self._album.originals:
            answer = await self._ask(picture, 1)
            digests.append(digest(instance.rle for instance in answer.instances))
            models.update(answer.models)
        planned = await self._instruct(self._new(), 0)  # the planner warms up too
        models.update(planned.models)
        return tuple(digests), tuple(sorted(models, key=lambda model: model.role))

    async def _callers(self, callers: int) -> LoadFigures:
        self._tell(f"{callers} callers" if callers > 1 else "1 caller")
        before = self._meter.read() if self._meter else {}
        load = await closed_loop(self._one_phrase, self._numbers, callers, self._budget.load_s)
        name = f"{callers} callers" if callers > 1 else "1 caller"
        return self._figures(name, callers, load, before)

    async def _arrivals(self, rate: float) -> LoadFigures:
        if rate <= 0:
            return self._figures("open loop, nothing answered before", 0, Load(1.0, ()), {})
        self._tell(f"{rate:.1f} arrivals a second")
        before = self._meter.read() if self._meter else {}
        rng = np.random.default_rng(0)
        load = await open_loop(self._one_phrase, self._numbers, rate, self._budget.load_s, rng)
        return self._figures(f"{rate:.1f} arrivals/s", 0, load, before)

    def _figures(
        self, name: str, callers: int, load: Load, before: Mapping[str, float]
    ) -> LoadFigures:
        used = spent(before, self._meter.read()) if self._meter else {}
        calls = len(load.answered)
        took = max((sample.ended_s for sample in load.samples), default=load.seconds)
        return LoadFigures(
            name=name,
            callers=callers,
            calls=calls,
            throughput=load.throughput,
            p50_ms=load.latency_ms(0.5),
            p95_ms=load.latency_ms(0.95),
            p99_ms=load.latency_ms(0.99),
            instances=sum(sample.instances for sample in load.answered) / max(1, calls),
            errors=load.errors,
            stages_ms=load.stages_ms,
            cpu_ms={role: 1000 * seconds / max(1, calls) for role, seconds in used.items()},
            cores=sum(used.values()) / max(took, load.seconds),
        )

    async def _phrases(self, number: int) -> PhraseFigures:
        rows = []
        for _ in range(self._budget.repeats):
            picture, same = self._new(), self._new()
            together = await self._ms(self._ask(picture, number))
            known = await self._ms(self._ask(picture, number))
            apart_new = [await self._ms(self._ask(self._new(), 1)) for _ in range(number)]
            apart_same = [await self._ms(self._ask(same, 1, skip)) for skip in range(number)]
            rows.append((together, sum(apart_new), sum(apart_same), known))
        return PhraseFigures(number, *(float(median) for median in np.median(rows, axis=0)))

    async def _pictures(self) -> tuple[LatencyFigures, ...]:
        new, known = [], []
        for _ in range(2 * self._budget.repeats):
            picture = self._new()
            new.append(await self._answered(self._ask(picture, 1)))
            known.append(await self._answered(self._ask(picture, 1)))
        return _latency("new picture", new), _latency("known picture", known)

    async def _instructions(self) -> tuple[tuple[LatencyFigures, ...], dict[str, int]]:
        new, other, cached = [], [], []
        for _ in range(self._budget.repeats):
            picture = self._new()
            new.append(await self._answered(self._instruct(picture, 0)))
            other.append(await self._answered(self._instruct(picture, 1)))
            cached.append(await self._answered(self._instruct(picture, 0)))
        outcomes = Counter(answer.plan.outcome.value for _, answer in (*new, *other))
        figures = (
            _latency("new picture, new instruction", new),
            _latency("known picture, new instruction", other),
            _latency("known picture, same instruction", cached),
        )
        return figures, dict(outcomes)

    def _new(self) -> Picture:
        return self._album.new(next(self._numbers))

    async def _one_phrase(self, number: int) -> Segmentation:
        return await self._ask(self._album.new(number), 1)

    async def _ask(self, picture: Picture, phrases: int, skip: int = 0) -> Segmentation:
        asked = picture.phrases[skip : skip + phrases]
        return await self._client.segment(picture.content, phrases=asked, timeout=_TIMEOUT_S)

    async def _instruct(self, picture: Picture, phrase: int) -> Segmentation:
        instruction = f"please find the {picture.phrases[phrase]}"
        return await self._client.segment(picture.content, instruction, timeout=_TIMEOUT_S)

    async def _answered(self, call: Awaitable[Segmentation]) -> tuple[float, Segmentation]:
        """Milliseconds that a call took, and its answer."""
        start = time.perf_counter()
        answer = await call
        return 1000 * (time.perf_counter() - start), answer

    async def _ms(self, call: Awaitable[Segmentation]) -> float:
        return (await self._answered(call))[0]

    async def _counts(self) -> tuple[Counts, Counts]:
        """The replicas' counts and the gateway's, once they are up to date; empty if unknown."""
        self._tell("waiting for the replica's metrics")
        replica = (
            {}
            if self._ray_metrics is None
            else await settled(self._ray_metrics, self._budget.report_s)
        )
        gateway = {} if self._gateway_metrics is None else await scrape(self._gateway_metrics)
        return replica, gateway


def _latency(name: str, answered: Sequence[tuple[float, Segmentation]]) -> LatencyFigures:
    stages = {stage for _, answer in answered for stage in answer.timings_ms}
    return LatencyFigures(
        name=name,
        calls=len(answered),
        p50_ms=float(np.quantile([ms for ms, _ in answered], 0.5)),
        p95_ms=float(np.quantile([ms for ms, _ in answered], 0.95)),
        stages_ms={
            stage: float(np.mean([answer.timings_ms.get(stage, 0.0) for _, answer in answered]))
            for stage in sorted(stages)
        },
    )


def _batches(counted: Counts) -> tuple[BatchFigures, ...]:
    """Items a step: each item waits once and each step has one size, so counts alone say it."""
    figures = []
    for stage in ("encode", "detect"):
        steps = counted.get(("limelight_batch_size_count", "segmenter", stage), 0.0)
        items = counted.get(("limelight_queue_seconds_count", "segmenter", stage), 0.0)
        if steps:
            figures.append(BatchFigures(stage, steps, items / steps))
    return tuple(figures)


def _cache_hits(counted: Counts) -> dict[str, tuple[float, float]]:
    """Look-ups by cache: those that found, and all."""
    looks = {}
    for cache in ("image", "text"):
        hits = counted.get(("limelight_cache_hits_total", "segmenter", cache), 0.0)
        misses = counted.get(("limelight_cache_misses_total", "segmenter", cache), 0.0)
        if hits + misses:
            looks[cache] = (hits, hits + misses)
    return looks


def _stages(counted: Counts) -> dict[str, float]:
    """Milliseconds an answer of each stage of the gateway, whose histograms are exact.

    Not a mean of the histogram: a stage that runs twice for one answer is in it twice.
    """
    answers = counted.get(("limelight_images_total", "", ""), 0.0)
    return {
        stage: 1000 * seconds / answers
        for (name, _, stage), seconds in counted.items()
        if name == "limelight_stage_seconds_sum" and answers and seconds
    }
