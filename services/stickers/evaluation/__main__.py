"""`python -m services.stickers.evaluation`: measure a deployment, or the shipped checkpoints."""

import asyncio
import contextlib
import json
import time
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

from limelight import AsyncClient, LimelightError
from services.cli.console import Exit, err, fail, fail_call, out
from services.cli.local import Engine, Profile, build_arguments, fail_start, progress
from services.cli.stack import StartFailed
from services.cli.state import StackConfig
from services.stickers import splits
from services.stickers.evaluation import sheet as sheets
from services.stickers.evaluation.examination import Examiner, SceneMarks
from services.stickers.evaluation.figures import count
from services.stickers.evaluation.questions import Setter
from services.stickers.evaluation.report import Report, show
from services.stickers.evaluation.temporary import temporary_stack
from services.stickers.vocabulary import Vocabulary


class Split(StrEnum):
    """Whose scenes; only held-out ones may be reported."""

    HELD_OUT = "held-out"
    VALIDATION = "validation"
    TRAINING = "training"


_SEEDS = {
    Split.HELD_OUT: splits.HELD_OUT,
    Split.VALIDATION: splits.VALIDATION,
    Split.TRAINING: splits.TRAINING,
}
_Share = Annotated[float | None, typer.Option(min=0.0, max=1.0, metavar="0..1")]


def main(
    scenes: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 300,
    split: Annotated[Split, typer.Option(help="Whose scenes.")] = Split.HELD_OUT,
    first: Annotated[int, typer.Option(min=0, help="Seeds of the split to pass over.")] = 0,
    per_scene: Annotated[
        int, typer.Option("--instructions", min=0, help="Instructions asked about a scene.")
    ] = 3,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A deployment. Default: a local stack, for now."),
    ] = None,
    segmenter_model: Annotated[
        str | None, typer.Option(metavar="PATH|HUB_ID", help="For the local stack.")
    ] = None,
    planner_model: Annotated[
        str | None, typer.Option(metavar="PATH|HUB_ID", help="For the local stack.")
    ] = None,
    engine: Annotated[Engine | None, typer.Option(help="For the local stack.")] = None,
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
    min_phrase_f1: _Share = None,
    min_presence: _Share = None,
    min_exemplar_f1: _Share = None,
    min_instructions: _Share = None,
) -> None:
    """Measure phrases, exemplars and instructions on sticker world through the public API.

    With --min-... it ends with 1 when that figure is below.
    """
    seeds = _SEEDS[split][first : first + scenes]
    if len(seeds) < scenes:
        fail(f"the {split} split has only {len(_SEEDS[split])} seeds", Exit.USAGE)
    config = StackConfig(
        name="evaluation",
        planner=build_arguments(Profile.TINY, "planner", planner_model, engine),
        segmenter=build_arguments(Profile.TINY, "segmenter", segmenter_model, engine),
    )
    setter = Setter(Vocabulary.load(), per_scene)
    with _deployment(address, config) as where:
        began = time.monotonic()
        try:
            marks = asyncio.run(_examine(where, setter, seeds, concurrency, perfect_plans))
        except* LimelightError as group:
            error = group.exceptions[0]
            assert isinstance(error, LimelightError)
            fail_call(error, where)
        seconds = round(time.monotonic() - began, 1)
    report = Report(
        split=split.value,
        first_seed=seeds[0],
        scenes=len(seeds),
        perfect_plans=perfect_plans,
        models=tuple(
            sorted({m for one in marks for m in one.models}, key=lambda m: (m.role, m.revision))
        ),
        seconds=seconds,
        figures=count(
            [mark for one in marks for mark in one.phrases],
            [mark for one in marks for mark in one.exemplars],
            [mark for one in marks for mark in one.instructions],
        ),
    )
    show(report, out())
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        json_path.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    if sheet is not None:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        wrong = sheets.worst([mark for one in marks for mark in one.instructions], 12)
        sheets.draw(wrong).save(sheet, "PNG")
    shortfalls = report.shortfalls(
        {
            "phrase-f1": min_phrase_f1,
            "presence": min_presence,
            "exemplar-f1": min_exemplar_f1,
            "instructions": min_instructions,
        }
    )
    if shortfalls:
        fail("; ".join(shortfalls))


@contextlib.contextmanager
def _deployment(address: str | None, config: StackConfig) -> Iterator[str]:
    """The address to ask; without one, of a stack that lives as long as this context."""
    if address is not None:
        yield address
        return
    console = err()
    with contextlib.ExitStack() as stack:
        try:
            with progress(console) as on_change:
                state = stack.enter_context(temporary_stack(config, on_change))
        except StartFailed as failure:
            fail_start(failure)
        yield state.addresses["gateway"]


async def _examine(
    address: str, setter: Setter, seeds: range, concurrency: int, perfect_plans: bool
) -> list[SceneMarks]:
    with _bar(err(), len(seeds)) as step:
        async with AsyncClient(address) as client:
            examiner = Examiner(
                client, setter, concurrency=concurrency, perfect_plans=perfect_plans
            )
            return await examiner.examine(seeds, step)


@contextlib.contextmanager
def _bar(console: Console, total: int) -> Iterator[Callable[[], None]]:
    columns = (
        TextColumn("scenes"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as shown:
        task = shown.add_task("scenes", total=total)
        yield lambda: shown.advance(task)


if __name__ == "__main__":
    typer.run(main)
