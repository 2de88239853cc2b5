"""`python -m training.evaluation`: measure a deployment, or the shipped checkpoints."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from limelight import LimelightError
from services.cli.console import Exit, err, fail, fail_call, out
from services.cli.starting import starting
from services.codecs import strict_json
from services.errors import CheckpointError
from services.local.models import StackEngine, stack_config
from services.local.state import StackConfig
from services.local.temporary import temporary_stack
from training.evaluation.floors import FLOORS, GATE_INSTRUCTIONS, GATE_SCENES, Bounds
from training.evaluation.measuring import Measured, Measurement, measure
from training.evaluation.report import show
from training.evaluation.worlds import World
from training.world import splits


class Split(StrEnum):
    """Whose seeds; only held-out ones may be reported."""

    HELD_OUT = "held-out"
    VALIDATION = "validation"
    TRAINING = "training"


class Worlds(StrEnum):
    """Which renderers' scenes."""

    OWN = "own"
    SECOND = "second"
    BOTH = "both"

    @property
    def each(self) -> tuple[World, ...]:
        return tuple(World) if self is Worlds.BOTH else (World(self.value),)


# Scenes between two lines of a log.
_LOG_EVERY = 50

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
            one, split.value, _seeds(one, split, first, scenes), per_scene, perfect_plans, scored
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
    with _deployment(address, config) as where:
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
        json_path.parent.mkdir(parents=True, exist_ok=True)
        worlds = {found.report.world.value: found.report.to_dict() for found in measured}
        text = strict_json.dumps(strict_json.finite({"worlds": worlds}), indent=2)
        json_path.write_text(text + "\n", encoding="utf-8")
    if broken:
        fail("; ".join(broken))


def _seeds(world: World, split: Split, first: int, scenes: int) -> range:
    if split is Split.HELD_OUT:
        seeds = world.held_out
    elif world is World.SECOND:
        fail("the second world has held-out seeds alone: add --world own", Exit.USAGE)
    else:
        seeds = splits.VALIDATION if split is Split.VALIDATION else splits.TRAINING
    if len(seeds[first : first + scenes]) < scenes:
        fail(f"the {split} split has only {len(seeds)} seeds", Exit.USAGE)
    return seeds[first : first + scenes]


def _measured(address: str, wanted: Measurement, concurrency: int) -> Measured:
    try:
        with _bar(err(), f"{wanted.world} world", wanted.steps) as step:
            return asyncio.run(measure(address, wanted, concurrency, step))
    except* LimelightError as group:
        error = group.exceptions[0]
        assert isinstance(error, LimelightError)
        fail_call(error, address)


@contextlib.contextmanager
def _deployment(address: str | None, config: StackConfig) -> Iterator[str]:
    """The address to ask; without one, of a stack that lives as long as this context."""
    if address is not None:
        yield address
        return
    with contextlib.ExitStack() as stack:
        with starting(err()) as on_change:
            state = stack.enter_context(temporary_stack(config, on_change))
        yield state.addresses["gateway"]


@contextlib.contextmanager
def _bar(console: Console, name: str, total: int) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(name, total=total)

        def step() -> None:
            shown.advance(task)
            done = round(shown.tasks[task].completed)
            # A log gets a line now and then instead of a bar that moves.
            if not console.is_terminal and (done % _LOG_EVERY == 0 or done == total):
                console.print(f"{name}: asked about {done} of {total} scenes")

        yield step


if __name__ == "__main__":
    typer.run(main)
