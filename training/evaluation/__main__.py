"""`python -m training.evaluation`: measure a deployment, or the shipped checkpoints."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from limelight import LimelightError
from services.cli.console import Exit, err, fail, fail_call, out
from services.errors import CheckpointError
from services.local.models import StackEngine, stack_config
from training.evaluation.floors import FLOORS, GATE_INSTRUCTIONS, GATE_SCENES, Bounds
from training.evaluation.measuring import Measured, Measurement, measure
from training.evaluation.report import show
from training.evaluation.running import (
    Split,
    Worlds,
    deployment,
    progress_bar,
    seeds_of,
    write_worlds,
)

_Bound = Annotated[float | None, typer.Option(min=0.0, max=1.0, metavar="0..1")]
_Model = Annotated[str | None, typer.Option(metavar="PATH|HUB_ID", help="For the local stack.")]


def main(
    world: Annotated[
        Worlds,
        typer.Option(
            help="own: the renderer that training draws with. second: one written apart from it."
        ),
    ] = Worlds.BOTH,
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes of each world.")] = 500,
    split: Annotated[Split, typer.Option(help="Whose seeds.")] = Split.HELD_OUT,
    first: Annotated[int, typer.Option(min=0, help="Seeds of the split to pass over.")] = 0,
    per_scene: Annotated[
        int, typer.Option("--instructions", min=0, help="Instructions asked about a scene.")
    ] = 3,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="Ask a small fixed part, and end with 1 when a figure is below its floor.",
        ),
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A deployment. Default: a local stack, for now."),
    ] = None,
    segmenter_model: _Model = None,
    planner_model: _Model = None,
    engine: Annotated[StackEngine | None, typer.Option(help="For the local stack.")] = None,
    perfect_plans: Annotated[
        bool,
        typer.Option(
            "--oracle-planner",
            help="Send canonical plans as queries: what remains wrong is the segmenter's fault.",
        ),
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls under way at once.")] = 4,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write the figures here.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Draw the worst answers here (PNG).")
    ] = None,
    confusion: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Draw here which concepts were taken for which."),
    ] = None,
    reliability: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Ask for low scores, too, and draw here how far they can be trusted.",
        ),
    ] = None,
    reliability_scenes: Annotated[
        int, typer.Option(min=1, help="Scenes of each world that --reliability asks about.")
    ] = 150,
    min_phrase_f1: _Bound = None,
    min_presence: _Bound = None,
    min_exemplar_f1: _Bound = None,
    min_instructions: _Bound = None,
) -> None:
    """Measure phrases, exemplars and instructions on sticker world through the public API.

    Charts of several worlds are told apart by the world's name in theirs ("x.png": "x-own.png").
    With --min-... it ends with 1 when that figure of any world is below.
    """
    bounds = Bounds(
        phrase_f1=min_phrase_f1,
        presence=min_presence,
        exemplar_f1=min_exemplar_f1,
        instructions=min_instructions,
    )
    if gate:
        scenes, per_scene, first, split = GATE_SCENES, GATE_INSTRUCTIONS, 0, Split.HELD_OUT
    scored = reliability_scenes if reliability is not None else 0
    wanted = [
        Measurement(
            one, split.value, seeds_of(one, split, first, scenes), per_scene, perfect_plans, scored
        )
        for one in world.each
    ]
    try:
        config = stack_config(
            "evaluation",
            planner_model=planner_model,
            segmenter_model=segmenter_model,
            engine=engine,
        )
    except CheckpointError as exc:
        fail(str(exc), Exit.USAGE)
    measured = []
    # Scenes are pictures: nothing is tracked.
    with deployment(address, replace(config, tracker=None)) as where:
        for one in wanted:
            measured.append(_measured(where, one, concurrency))
            show(measured[-1].report, out())
    broken: list[str] = []
    for found in measured:
        report = found.report
        name = f"-{report.world}" if len(measured) > 1 else ""
        found.draw(
            *(path and path.with_stem(path.stem + name) for path in (sheet, confusion, reliability))
        )
        for bound in (bounds, FLOORS[report.world]) if gate else (bounds,):
            broken += [f"{report.world} world: {line}" for line in bound.broken(report.figures)]
    if json_path is not None:
        reports = [found.report for found in measured]
        write_worlds(json_path, {report.world: report.to_dict() for report in reports})
    if broken:
        fail("; ".join(broken))


def _measured(address: str, wanted: Measurement, concurrency: int) -> Measured:
    try:
        with progress_bar(err(), f"{wanted.world} world", wanted.steps) as step:
            return asyncio.run(measure(address, wanted, concurrency, step))
    except* LimelightError as group:
        error = group.exceptions[0]
        assert isinstance(error, LimelightError)
        fail_call(error, address)


if __name__ == "__main__":
    typer.run(main)
