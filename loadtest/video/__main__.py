"""`python -m loadtest.video`: assembles the benchmark of videos; see the package."""

import asyncio
import os
import platform
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console

from limelight import AsyncClient, RetryPolicy
from loadtest.metrics import ray_metrics_address
from loadtest.report import print_sections, sections_markdown
from loadtest.usage import Meter
from loadtest.video.baseline import EngineAlone
from loadtest.video.footage import footage
from loadtest.video.plots import draw_endurance, draw_stages
from loadtest.video.report import VideoReport
from loadtest.video.scenarios import (
    FULL,
    MAX_OBJECTS,
    QUICK,
    SESSIONS,
    WINDOW,
    VideoBench,
    VideoBudget,
    VideoFigures,
)
from services.cli.console import err, fail, out
from services.cli.starting import starting
from services.codecs import strict_json
from services.errors import CheckpointError
from services.local.models import StackEngine, stack_config
from services.local.state import StackConfig
from services.local.temporary import temporary_stack
from services.segmenter.settings import SHIPPED
from training.world.splits import HELD_OUT

# Where the shipped tracker is, once there is one.
_TRACKER = SHIPPED.with_name("sticker-sam3-video")
_FULL_HD, _SMALL = (1920, 1080), (480, 320)
# Forth and back: as many frames as the speed is measured over.
_LOOP_FRAMES = WINDOW // 2 + 1
_BUSY_LOOK_S = 1.0


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Under two minutes, for trying the benchmark itself.")
    ] = False,
    tracker_model: Annotated[
        str, typer.Option(metavar="PATH", help="A video checkpoint: a folder or a hub id.")
    ] = str(_TRACKER),
    engine: Annotated[StackEngine, typer.Option(help="What tracks.")] = StackEngine.TRANSFORMERS,
    folder: Annotated[Path, typer.Option("--out", help="Where the results go.")] = Path("out"),
) -> None:
    """Measure videos through the public API: time by stage, long sessions, many at once."""
    busy = psutil.cpu_percent(_BUSY_LOOK_S) / 100 * (os.cpu_count() or 1)
    model = tracker_model if engine is StackEngine.TRANSFORMERS else None
    try:
        config = stack_config("bench-video", tracker_model=model, engine=engine)
    except CheckpointError as error:
        fail(str(error))
    assert config.tracker is not None
    config = replace(
        config,
        # Phrases are given, so that neither has anything to do.
        planner={"engine": "fake"},
        segmenter={"engine": "fake"},
        tracker={**config.tracker, "max_sessions": str(SESSIONS)},
    )
    figures = asyncio.run(_measure(config, QUICK if quick else FULL, err()))
    report = VideoReport(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=platform.processor() or platform.machine(),
        command="python -m loadtest.video" + (" --quick" if quick else ""),
        cores=os.cpu_count() or 1,
        busy_cores=busy,
        figures=figures,
    )
    print_sections(report.headline, report.sections(), out())
    folder.mkdir(parents=True, exist_ok=True)
    plain = strict_json.dumps(strict_json.finite(report.to_dict()), indent=2)
    (folder / "bench-video.json").write_text(plain + "\n", "utf-8")
    text = sections_markdown("Benchmark of videos", report.headline, report.sections())
    (folder / "bench-video.md").write_text(text, "utf-8")
    draw_stages(figures.clip, folder / "bench-video-stages.png")
    draw_endurance(figures.endurance, folder / "bench-video-endurance.png")


async def _measure(config: StackConfig, budget: VideoBudget, console: Console) -> VideoFigures:
    """Every scenario, each with its clip, against one stack."""

    def tell(text: str) -> None:
        console.print(f"[dim]{text}[/dim]")

    tell("drawing clips")
    large = await asyncio.to_thread(
        footage, HELD_OUT[0], _FULL_HD, budget.clip_frames, _LOOP_FRAMES
    )
    long, short = [
        await asyncio.to_thread(footage, HELD_OUT[1], _SMALL, frames, _LOOP_FRAMES)
        for frames in (budget.long_frames, budget.crowd_frames)
    ]
    assert config.tracker is not None
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="limelight-bench-"))
        with starting(console) as on_change:
            state = stack.enter_context(temporary_stack(config, on_change))
        ray = ray_metrics_address(state)
        if ray is None:
            fail("the stack ended")
        alone = EngineAlone(short, Path(folder), config.tracker, MAX_OBJECTS)
        async with (
            alone,
            AsyncClient(state.addresses["gateway"], retry=RetryPolicy(attempts=1)) as client,
        ):
            bench = VideoBench(client, Meter(state), state.addresses["metrics"], ray, tell)
            await bench.warm_up(short)
            clip = await bench.stages(large)
            # Before the crowd: what that leaves free would hide what a session gathers.
            endurance = await bench.endurance(long)
            crowd = await bench.crowd(short, alone, budget.rounds)
    return VideoFigures(clip, endurance, crowd, tuple(bench.models))


if __name__ == "__main__":
    typer.run(main)
