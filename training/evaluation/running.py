"""What the evaluation's commands share: whose seeds, a deployment to ask, a progress bar."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from services.cli.console import Exit, err, fail
from services.cli.starting import starting
from services.codecs import strict_json
from services.local.state import StackConfig
from services.local.temporary import temporary_stack
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


def seeds_of(world: World, split: Split, first: int, scenes: int) -> range:
    """Consecutive seeds of a world's split; ends the command where there are too few."""
    if split is Split.HELD_OUT:
        seeds = world.held_out
    elif world is World.SECOND:
        fail("the second world has held-out seeds alone: add --world own", Exit.USAGE)
    else:
        seeds = splits.VALIDATION if split is Split.VALIDATION else splits.TRAINING
    if len(seeds[first : first + scenes]) < scenes:
        fail(f"the {split} split has only {len(seeds)} seeds", Exit.USAGE)
    return seeds[first : first + scenes]


def write_worlds(path: Path, worlds: Mapping[World, Mapping[str, Any]]) -> None:
    """Write the figures of each world as JSON, what is not finite as null; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {"worlds": {world.value: figures for world, figures in worlds.items()}}
    text = strict_json.dumps(strict_json.finite(plain), indent=2)
    path.write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def deployment(address: str | None, config: StackConfig) -> Iterator[str]:
    """The address to ask; without one, of a stack that lives as long as this context."""
    if address is not None:
        yield address
        return
    with contextlib.ExitStack() as stack:
        with starting(err()) as on_change:
            state = stack.enter_context(temporary_stack(config, on_change))
        yield state.addresses["gateway"]


@contextlib.contextmanager
def progress_bar(
    console: Console, name: str, total: int, log_every: int = 50
) -> Iterator[Callable[[], None]]:
    """A bar on a terminal, or a line for every `log_every` scenes in a log; call it at each."""
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
            if not console.is_terminal and (done % log_every == 0 or done == total):
                console.print(f"{name}: asked about {done} of {total} scenes")

        yield step
