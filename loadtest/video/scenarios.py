"""What is measured of a deployment that tracks, one method a scenario, through the public API."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass

from limelight import (
    AsyncClient,
    LimelightError,
    LivePicture,
    ModelInfo,
    TrackedFrame,
    TrackSummary,
)
from loadtest.metrics import Counts, difference, scrape, settled
from loadtest.usage import GATEWAY, TRACKER, Meter, spent
from loadtest.video.baseline import EngineAlone, EngineRun
from loadtest.video.footage import BenchClip

# Tracked at once: what a clip of sticker world shows.
MAX_OBJECTS = 4
SESSIONS = 8
# Frames of each end of a long session whose speeds are compared.
WINDOW = 100
# The first frames of a long session, in which its memory fills.
FILLING = 200
_SAMPLE_EVERY = 20
# The last frames come all at once: their answers were held back, their work is done before.
_TAIL = 20
_CPU = "limelight_cpu_seconds_total"
# How long nothing is asked for, to see what the processes take by themselves.
_IDLE_S = 5.0
# The stages that are the model's own, whatever the machine.
MODEL_STAGES = ("encode", "detect", "prompt", "track", "memorize")


@dataclass(frozen=True, slots=True)
class StageCost:
    """CPU milliseconds a frame of one stage: where it runs, and whether it is the model."""

    name: str
    place: str
    cpu_ms: float
    model: bool = False


@dataclass(frozen=True, slots=True)
class ClipFigures:
    """One clip, one session.

    Attributes:
        width, height, frames: of the clip.
        seconds: from the call to its summary.
        objects: told a frame.
        stages: where the CPU time went, all processes together; the last ones are what no stage
            accounts for, by process.
        idle_cores: that all processes took before the call, while nothing was asked; left out of
            the stages.
        waited_ms: milliseconds a frame of each stage as the summary tells them: waiting counts.
    """

    width: int
    height: int
    frames: int
    seconds: float
    objects: float
    stages: tuple[StageCost, ...]
    idle_cores: float
    waited_ms: dict[str, float]

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds a frame, of all processes."""
        return sum(stage.cpu_ms for stage in self.stages)

    def share(self, stage: StageCost) -> float:
        """Of all CPU time."""
        return stage.cpu_ms / self.cpu_ms if self.cpu_ms else 0.0


@dataclass(frozen=True, slots=True)
class SessionSample:
    """One look at a long session.

    Attributes:
        frames: answered so far.
        seconds: since its first frame.
        cpu_s: CPU seconds of the replica.
        replica_bytes, gateway_bytes: resident.
    """

    frames: int
    seconds: float
    cpu_s: float
    replica_bytes: float
    gateway_bytes: float


@dataclass(frozen=True, slots=True)
class EnduranceFigures:
    """A long session, looked at every so many frames."""

    samples: tuple[SessionSample, ...]

    def growth_bytes(self) -> float:
        """The most that the replica held after the first frames, over what it held after them."""
        after = [s for s in self.samples if s.frames >= FILLING] or [self.samples[-1]]
        return max(sample.replica_bytes for sample in after) - after[0].replica_bytes

    def bytes_a_thousand_frames(self) -> float:
        """The slope of the line through the replica's memory after the first frames, per 1,000."""
        after = [s for s in self.samples if s.frames >= FILLING]
        if len(after) < 2:
            return 0.0
        x = [sample.frames / 1000 for sample in after]
        y = [sample.replica_bytes for sample in after]
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        over = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
        return over / sum((a - mean_x) ** 2 for a in x)

    def rates(self) -> tuple[float, float]:
        """Frames a second of the window after the first, and of the last before the tail."""
        return self._windows(lambda a, b: (b.frames - a.frames) / (b.seconds - a.seconds))

    def cpu_ms(self) -> tuple[float, float]:
        """CPU milliseconds of the replica a frame, in the same windows: free of others' work."""
        return self._windows(lambda a, b: 1000 * (b.cpu_s - a.cpu_s) / (b.frames - a.frames))

    def _windows(self, of: Callable[[SessionSample, SessionSample], float]) -> tuple[float, float]:
        last = self.samples[-1]
        return (
            of(self._at(WINDOW), self._at(2 * WINDOW)),
            of(self._at(last.frames - _TAIL - WINDOW), self._at(last.frames - _TAIL)),
        )

    def _at(self, frames: int) -> SessionSample:
        return min(self.samples, key=lambda sample: abs(sample.frames - frames))


@dataclass(frozen=True, slots=True)
class CrowdFigures:
    """Sessions at once, through the service and in one process, in turns.

    Attributes:
        service, engine: frames a second of all sessions, a value a round.
        single_service, single_engine: the same of one session.
        refused: the reason that one session more was told.
        retry_after_s: and when to come again; None if it was not told.
    """

    service: tuple[float, ...]
    engine: tuple[float, ...]
    single_service: float
    single_engine: float
    refused: str
    retry_after_s: float | None

    @property
    def ratio(self) -> float:
        """Service over engine."""
        return sum(self.service) / sum(self.engine)


@dataclass(frozen=True, slots=True)
class VideoFigures:
    """All scenarios; `models`: that took part."""

    clip: ClipFigures
    endurance: EnduranceFigures
    crowd: CrowdFigures
    models: tuple[ModelInfo, ...]


@dataclass(frozen=True, slots=True)
class VideoBudget:
    """How much is measured.

    Attributes:
        clip_frames: of the 1080p clip.
        long_frames: of the long session.
        crowd_frames: of each session of a crowd.
        rounds: of the crowd.
    """

    clip_frames: int
    long_frames: int
    crowd_frames: int
    rounds: int


FULL = VideoBudget(clip_frames=240, long_frames=3000, crowd_frames=48, rounds=3)
QUICK = VideoBudget(clip_frames=48, long_frames=300, crowd_frames=16, rounds=1)


class VideoBench:
    """Measures one stack.

    Args:
        client: to its gateway; makes no call twice.
        meter: of its processes.
        gateway_metrics, ray_metrics: `host:port`.
        tell: told what is being done.
    """

    def __init__(
        self,
        client: AsyncClient,
        meter: Meter,
        gateway_metrics: str,
        ray_metrics: str,
        tell: Callable[[str], None],
    ) -> None:
        self._client = client
        self._meter = meter
        self._gateway_metrics = gateway_metrics
        self._ray_metrics = ray_metrics
        self._tell = tell
        self.models: dict[ModelInfo, None] = {}
        """That took part so far."""

    async def warm_up(self, clip: BenchClip) -> None:
        """A first call: what is made once is made."""
        self._tell("warming up")
        await self._whole(clip)

    async def stages(self, clip: BenchClip) -> ClipFigures:
        """Where the time of a clip goes."""
        self._tell(f"{clip.frames} frames of {clip.width} x {clip.height}")
        gateway, replica = await self._counts()
        idle = await self._idle()
        before, began = self._meter.read(), time.perf_counter()
        objects = 0
        summary: TrackSummary | None = None
        async for event in self._track(clip):
            if isinstance(event, TrackedFrame):
                objects += len(event.instances)
            elif isinstance(event, TrackSummary):
                summary = event
        seconds = time.perf_counter() - began
        used = spent(before, self._meter.read())
        gateway_after, replica_after = await self._counts()
        assert summary is not None
        return ClipFigures(
            width=clip.width,
            height=clip.height,
            frames=summary.frames,
            seconds=seconds,
            objects=objects / summary.frames,
            stages=stage_costs(
                difference(gateway, gateway_after),
                difference(replica, replica_after),
                used,
                {role: rate * seconds for role, rate in idle.items()},
                summary.frames,
            ),
            idle_cores=sum(idle.values()),
            waited_ms={
                stage: ms / summary.frames for stage, ms in (summary.timings_ms or {}).items()
            },
        )

    async def endurance(self, clip: BenchClip) -> EnduranceFigures:
        """One long session, looked at as its frames come."""
        self._tell(f"{clip.frames} frames in one session")
        samples: list[SessionSample] = []
        began = frames = 0.0
        async for event in self._track(clip):
            if not isinstance(event, TrackedFrame):
                continue
            began = began or time.perf_counter()
            frames += 1
            if frames % _SAMPLE_EVERY == 0 or frames == clip.frames:
                samples.append(self._sample(int(frames), time.perf_counter() - began))
        return EnduranceFigures(tuple(samples))

    async def crowd(self, clip: BenchClip, engine: EngineAlone, rounds: int) -> CrowdFigures:
        """Sessions at once, in turns with the engine alone; then one more than has room."""
        self._tell("one session, alone and through the service")
        await engine.run(1)  # as warm as the service is
        single_engine = (await engine.run(1)).rate
        single_service = await self._rate(clip, 1)
        runs: list[EngineRun] = []
        rates: list[float] = []
        for number in range(rounds):
            self._tell(f"{SESSIONS} sessions, round {number + 1} of {rounds}")
            runs.append(await engine.run(SESSIONS))
            rates.append(await self._rate(clip, SESSIONS))
        self._tell("one session too many")
        reason, retry_after_s = await self._refusal(clip)
        return CrowdFigures(
            service=tuple(rates),
            engine=tuple(run.rate for run in runs),
            single_service=single_service,
            single_engine=single_engine,
            refused=reason,
            retry_after_s=retry_after_s,
        )

    async def _rate(self, clip: BenchClip, sessions: int) -> float:
        """Frames a second of so many sessions at once."""
        began = time.perf_counter()
        frames = await asyncio.gather(*(self._whole(clip) for _ in range(sessions)))
        return sum(frames) / (time.perf_counter() - began)

    async def _refusal(self, clip: BenchClip) -> tuple[str, float | None]:
        """What one session more than there is room for is told: reason and seconds to wait."""
        end = asyncio.Event()
        held = [self._live(clip, end) for _ in range(SESSIONS)]
        try:
            # Whoever has an answer has its place, and keeps it while its input goes on.
            await asyncio.gather(*(_first_frame(events) for events in held))
            try:
                await _first_frame(self._live(clip, end))
            except LimelightError as error:
                return error.reason, error.retry_after
            raise RuntimeError(f"{SESSIONS + 1} sessions were taken, over a cap of {SESSIONS}")
        finally:
            end.set()
            for events in held:
                await events.aclose()

    async def _live(self, clip: BenchClip, end: asyncio.Event) -> AsyncGenerator[object, None]:
        """A session of live input: one picture, and no other until `end`."""

        async def pictures() -> AsyncIterator[LivePicture]:
            yield LivePicture(clip.picture, 0.0)
            await end.wait()

        events = self._client.track(pictures(), phrases=list(clip.phrases), max_objects=MAX_OBJECTS)
        async with events:
            async for event in events:
                yield event

    async def _whole(self, clip: BenchClip) -> int:
        """The frames that a whole clip was answered with."""
        frames = 0
        async for event in self._track(clip):
            frames += isinstance(event, TrackedFrame)
        if frames != clip.frames:
            raise RuntimeError(f"{frames} of {clip.frames} frames were answered")
        return frames

    async def _track(self, clip: BenchClip) -> AsyncGenerator[object, None]:
        events = self._client.track(
            clip.content, phrases=list(clip.phrases), max_objects=MAX_OBJECTS
        )
        async with events:
            async for event in events:
                if isinstance(event, TrackSummary):
                    self.models.update(dict.fromkeys(event.models))
                yield event

    async def _idle(self) -> dict[str, float]:
        """CPU seconds a second by role while nothing is asked for."""
        before, began = self._meter.read(), time.perf_counter()
        await asyncio.sleep(_IDLE_S)
        used, seconds = spent(before, self._meter.read()), time.perf_counter() - began
        return {role: value / seconds for role, value in used.items()}

    def _sample(self, frames: int, seconds: float) -> SessionSample:
        memory = self._meter.memory()
        return SessionSample(
            frames=frames,
            seconds=seconds,
            cpu_s=self._meter.read()[TRACKER],
            replica_bytes=memory[TRACKER],
            gateway_bytes=memory[GATEWAY],
        )

    async def _counts(self) -> tuple[Counts, Counts]:
        return await scrape(self._gateway_metrics), await settled(self._ray_metrics)


async def _first_frame(events: AsyncIterator[object]) -> None:
    async for event in events:
        if isinstance(event, TrackedFrame):
            return
    raise RuntimeError("a session ended without a frame")


def stage_costs(
    gateway: Counts,
    replica: Counts,
    used: Mapping[str, float],
    idle: Mapping[str, float],
    frames: int,
) -> tuple[StageCost, ...]:
    """The stages that gateway and tracker counted, then what is left of each process's CPU time.

    Args:
        gateway, replica: what their metrics counted.
        used: CPU seconds by role, as `Meter` has them.
        idle: of those, what each would have taken without a call, since Ray's processes never
            rest: no frame is charged with it.
        frames: to divide by.
    """
    costs = [
        *_costs(gateway, GATEWAY, "", frames),
        *_costs(replica, TRACKER, "tracker", frames),
    ]
    rest = []
    for role, seconds in used.items():
        counted = sum(cost.cpu_ms for cost in costs if cost.place == role)
        asked_ms = 1000 * (seconds - idle.get(role, 0.0)) / frames
        rest.append(StageCost("network", role, max(0.0, asked_ms - counted)))
    return (*costs, *rest)


def _costs(counts: Counts, place: str, application: str, frames: int) -> Sequence[StageCost]:
    found = {
        stage: 1000 * seconds / frames
        for (name, owner, stage), seconds in counts.items()
        if name == _CPU and owner == application and seconds > 0
    }
    return [StageCost(stage, place, ms, stage in MODEL_STAGES) for stage, ms in found.items()]
