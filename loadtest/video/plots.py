"""The figures of videos as pictures: shares of the stages, and a session's memory and speed."""

from itertools import pairwise
from pathlib import Path

from matplotlib.figure import Figure

from loadtest.video.report import SHARE_GOAL
from loadtest.video.scenarios import FILLING, ClipFigures, EnduranceFigures

_MIB = 2**20


def draw_stages(clip: ClipFigures, file: Path) -> None:
    """A bar a stage: its share of all CPU time, and how much one beside the model may have."""
    stages = sorted(clip.stages, key=lambda stage: stage.cpu_ms)
    figure = Figure(figsize=(8, 0.8 + 0.28 * len(stages)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(
        [f"{stage.name}, {stage.place}" for stage in stages],
        [100 * clip.share(stage) for stage in stages],
        color=["C0" if stage.model else "C1" for stage in stages],
    )
    axes.axvline(100 * SHARE_GOAL, color="gray", linestyle="--", linewidth=1)
    axes.set_xlabel("share of the CPU time, %; the model is blue")
    axes.set_title(
        f"{clip.frames} frames of {clip.width} x {clip.height}: {clip.cpu_ms:.0f} ms each"
    )
    figure.savefig(file, dpi=110)


def draw_endurance(long: EnduranceFigures, file: Path) -> None:
    """Memory of replica and gateway, and frames a second, over the frames of a session."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    memory, speed = figure.subplots(2, 1, sharex=True)
    frames = [sample.frames for sample in long.samples]
    memory.plot(frames, [s.replica_bytes / _MIB for s in long.samples], label="tracker replica")
    memory.plot(frames, [s.gateway_bytes / _MIB for s in long.samples], label="gateway")
    memory.axvline(FILLING, color="gray", linestyle="--", linewidth=1)
    memory.set_ylim(bottom=0)
    memory.set_ylabel("resident, MiB")
    memory.legend()
    pairs = list(pairwise(long.samples))
    speed.plot(
        [b.frames for _, b in pairs],
        [(b.frames - a.frames) / (b.seconds - a.seconds) for a, b in pairs],
    )
    speed.set_ylim(bottom=0)
    speed.set_ylabel("frames a second")
    speed.set_xlabel("frames answered")
    figure.savefig(file, dpi=110)
