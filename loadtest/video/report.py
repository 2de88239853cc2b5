"""The figures of videos as tables, beside their goals."""

from dataclasses import asdict, dataclass
from typing import Any

from loadtest.report import Section, disturbed, goal
from loadtest.video.scenarios import FILLING, SESSIONS, WINDOW, ClipFigures, VideoFigures

# Of all CPU time, what a stage that is not the model may take.
SHARE_GOAL = 0.15
# By which the last frames of a long session may be slower than the first.
SPEED_GOAL = 0.9
# Of what the replica holds after the first frames: growth, by the line through a thousand frames.
MEMORY_GOAL = 0.02
CROWD_GOAL = 0.8
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class VideoReport:
    """One run.

    Attributes:
        date, machine, command: when, where and how.
        cores: of the machine.
        busy_cores: cores that other work took while nothing of ours ran.
        figures: what was measured.
    """

    date: str
    machine: str
    command: str
    cores: int
    busy_cores: float
    figures: VideoFigures

    @property
    def headline(self) -> str:
        """What was measured when and where, and whether it can be relied on."""
        models = ", ".join(f"{m.role} {m.name} {m.revision}" for m in self.figures.models)
        text = f"{self.command}, {self.date}, {self.machine}, {self.cores} cores; {models}."
        return text + disturbed(self.busy_cores, self.cores)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the figures that goals are about among them."""
        clip, long = self.figures.clip, self.figures.endurance
        first, last = long.rates()
        return {
            **asdict(self),
            "most_beside_the_model": _most_beside_the_model(clip),
            "last_over_first": last / first,
            "bytes_a_thousand_frames": long.bytes_a_thousand_frames(),
            "crowd_ratio": self.figures.crowd.ratio,
        }

    def sections(self) -> list[Section]:
        """Every table."""
        return [self._clip(), self._endurance(), self._crowd()]

    def _clip(self) -> Section:
        clip = self.figures.clip
        waited = clip.waited_ms
        rows = []
        for stage in sorted(clip.stages, key=lambda stage: -stage.cpu_ms):
            ms = f"{waited[stage.name]:.1f}" if stage.name in waited else ""
            what = "model" if stage.model else ""
            share = f"{clip.share(stage):.1%}"
            rows.append((stage.name, stage.place, what, f"{stage.cpu_ms:.2f}", share, ms))
        rows.append(("together", "", "", f"{clip.cpu_ms:.1f}", "100%", ""))
        name, most = _most_beside_the_model(clip)
        return Section(
            f"{clip.frames} frames of {clip.width} x {clip.height}, one session, public API",
            ("stage", "process", "", "CPU ms a frame", "share", "with waiting ms"),
            tuple(rows),
            (
                goal(f"the most beside the model, {name}", most, SHARE_GOAL, at_least=False),
                f"{clip.frames / clip.seconds:.1f} frames a second, {clip.objects:.1f} objects a "
                "frame; network is what no stage accounts for: gRPC, Ray Serve, event loops and "
                f"conversion; left out are the {clip.idle_cores:.2f} cores that all processes took "
                "while nothing was asked",
            ),
        )

    def _endurance(self) -> Section:
        long = self.figures.endurance
        first, last = long.rates()
        first_ms, last_ms = long.cpu_ms()
        at = next((s for s in long.samples if s.frames >= FILLING), long.samples[-1])
        slope = long.bytes_a_thousand_frames()
        rows = (
            ("frames a second", f"{first:.1f}", f"{last:.1f}", f"{last / first:.2f}"),
            (
                "CPU ms a frame, replica",
                f"{first_ms:.1f}",
                f"{last_ms:.1f}",
                f"{last_ms / first_ms:.2f}",
            ),
            (
                "replica's memory MiB",
                f"{at.replica_bytes / _MIB:.0f}",
                f"{long.samples[-1].replica_bytes / _MIB:.0f}",
                f"{long.samples[-1].replica_bytes / at.replica_bytes:.3f}",
            ),
            (
                "gateway's memory MiB",
                f"{at.gateway_bytes / _MIB:.0f}",
                f"{long.samples[-1].gateway_bytes / _MIB:.0f}",
                f"{long.samples[-1].gateway_bytes / at.gateway_bytes:.3f}",
            ),
        )
        return Section(
            f"{long.samples[-1].frames} frames in one session",
            (
                "",
                f"frames {WINDOW} to {2 * WINDOW}; memory after {at.frames}",
                f"last {WINDOW}",
                "ratio",
            ),
            rows,
            (
                goal("last over first, frames a second", last / first, SPEED_GOAL, at_least=True),
                goal(
                    "growth of the replica's memory a thousand frames, share of it",
                    slope / at.replica_bytes,
                    MEMORY_GOAL,
                    at_least=False,
                ),
                f"{slope / _MIB:+.1f} MiB a thousand frames; at most "
                f"{long.growth_bytes() / _MIB:.1f} MiB above what it was after {at.frames}",
            ),
        )

    def _crowd(self) -> Section:
        crowd = self.figures.crowd
        rows = [("1 session", crowd.single_engine, crowd.single_service)]
        rows += [
            (f"{SESSIONS} sessions, round {number}", engine, service)
            for number, (engine, service) in enumerate(
                zip(crowd.engine, crowd.service, strict=True), start=1
            )
        ]
        retry = "with no time" if crowd.retry_after_s is None else f"in {crowd.retry_after_s:.1f} s"
        return Section(
            f"{SESSIONS} sessions at once on {self.cores} cores, frames a second in all",
            ("", "engine alone, one process", "service", "ratio"),
            tuple(
                (name, f"{engine:.1f}", f"{service:.1f}", f"{service / engine:.2f}")
                for name, engine, service in rows
            ),
            (
                goal(f"{SESSIONS} sessions, all rounds", crowd.ratio, CROWD_GOAL, at_least=True),
                f"one session more was refused: {crowd.refused}, to come again {retry}",
            ),
        )


def _most_beside_the_model(clip: ClipFigures) -> tuple[str, float]:
    """The stage beside the model that takes most, and its share; network counts as one."""
    shares: dict[str, float] = {}
    for stage in clip.stages:
        if not stage.model:
            shares[stage.name] = shares.get(stage.name, 0.0) + clip.share(stage)
    name = max(shares, key=lambda key: shares[key])
    return name, shares[name]
