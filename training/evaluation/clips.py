"""`python -m training.evaluation.clips`: measure how a deployment tracks, or what ships."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from PIL import Image

from limelight import LimelightError
from services.cli.console import Exit, err, fail, fail_call, out
from services.errors import CheckpointError
from services.local.models import StackEngine, stack_config
from training.evaluation.clip_evaluator import ClipScores
from training.evaluation.clip_report import (
    TOGETHER,
    ClipReport,
    answered_strips,
    measure_clips,
    show_clips,
)
from training.evaluation.clip_sheet import stacked
from training.evaluation.running import (
    Split,
    Worlds,
    deployment,
    progress_bar,
    seeds_of,
    write_worlds,
)
from training.evaluation.tracking import figures
from training.evaluation.worlds import World

_WORST = 4  # clips of a sheet
_Bound = Annotated[float | None, typer.Option(min=0.0, metavar="NUMBER")]


def main(
    world: Annotated[
        Worlds,
        typer.Option(
            help="own: the renderer that training draws with. second: one written apart from it."
        ),
    ] = Worlds.BOTH,
    clips: Annotated[int, typer.Option(min=1, help="How many clips of each world.")] = 60,
    frames: Annotated[int, typer.Option(min=12, max=90, help="Frames of each.")] = 60,
    split: Annotated[Split, typer.Option(help="Whose seeds.")] = Split.HELD_OUT,
    first: Annotated[int, typer.Option(min=0, help="Seeds of the split to pass over.")] = 0,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A deployment. Default: a local stack, for now."),
    ] = None,
    tracker_model: Annotated[
        str | None, typer.Option(metavar="PATH|HUB_ID", help="For the local stack.")
    ] = None,
    engine: Annotated[StackEngine | None, typer.Option(help="For the local stack.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Streams under way at once.")] = 3,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write the figures here.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Draw the worst clips here (PNG).")
    ] = None,
    min_hota: _Bound = None,
    min_idf1: _Bound = None,
    min_iou: _Bound = None,
    min_recovery: _Bound = None,
    min_instructions: _Bound = None,
    max_switches: _Bound = None,
) -> None:
    """Measure masklets of phrases and instructions on clips, through the public API.

    Sheets of several worlds are told apart by the world's name in theirs ("x.png": "x-own.png").
    With --min-... and --max-... it ends with 1 when that figure of any world is beyond.
    """
    try:
        config = stack_config("evaluation", tracker_model=tracker_model, engine=engine)
    except CheckpointError as exc:
        fail(str(exc), Exit.USAGE)
    wanted = [(one, seeds_of(one, split, first, clips)) for one in world.each]
    reports = []
    with deployment(address, config) as where:
        for one, seeds in wanted:
            report, scores = _measured(where, one, split, seeds, frames, concurrency)
            show_clips(report, out())
            reports.append(report)
            if sheet is not None:
                name = f"-{one}" if len(wanted) > 1 else ""
                _draw(scores, where, one, frames, sheet.with_stem(sheet.stem + name))
    if json_path is not None:
        write_worlds(json_path, {report.world: report.to_dict() for report in reports})
    broken = [
        f"{report.world} world: {sentence}"
        for report in reports
        for sentence in _broken(
            report, min_hota, min_idf1, min_iou, min_recovery, min_instructions, max_switches
        )
    ]
    if broken:
        fail("; ".join(broken))


def _measured(
    address: str, world: World, split: Split, seeds: range, frames: int, concurrency: int
) -> tuple[ClipReport, list[ClipScores]]:
    try:
        with progress_bar(err(), f"{world} world", len(seeds), log_every=10) as step:
            return asyncio.run(
                measure_clips(address, world, split.value, seeds, frames, concurrency, step)
            )
    except* LimelightError as group:
        error = group.exceptions[0]
        assert isinstance(error, LimelightError)
        fail_call(error, address)


def _draw(
    scores: Sequence[ClipScores], address: str, world: World, frames: int, path: Path
) -> None:
    """Ask the worst clips again, and draw the answers beside the truth."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seeds = [one.seed for one in sorted(scores, key=_goodness)[:_WORST]]
    drawn = asyncio.run(answered_strips(address, world, frames, seeds))
    Image.fromarray(stacked(drawn)).save(path)


def _goodness(scores: ClipScores) -> float:
    return figures(scores.phrases).idf1


def _broken(
    report: ClipReport,
    hota: float | None,
    idf1: float | None,
    iou: float | None,
    recovery: float | None,
    instructions: float | None,
    switches: float | None,
) -> Iterator[str]:
    """A sentence for each figure beyond its bound."""
    found = report.phrases
    asked = report.families.get(TOGETHER)
    for name, value, least in (
        ("HOTA", found.hota, hota),
        ("IDF1", found.idf1, idf1),
        ("mean IoU", found.mean_iou, iou),
        ("re-entries recovered", found.recovery, recovery),
        ("instructions right", asked.right if asked else 0.0, instructions),
    ):
        if least is not None and value < least:
            yield f"{name} is {value:.3f}, below {least:g}"
    if switches is not None and found.switches > switches:
        yield f"identity switches a clip are {found.switches:.3f}, above {switches:g}"


if __name__ == "__main__":
    typer.run(main)
