"""`python -m loadtest.chaos`: assembles the faults; see the package."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import psutil
import typer

from loadtest.chaos.clock import NoWallClock, settable_clock
from loadtest.chaos.faults import FAULTS, LocalFault
from loadtest.chaos.parts import NoSuchPart
from loadtest.chaos.report import page, rows, show, to_dict, write_into
from loadtest.chaos.trials import Chaos, StackEnded, Trial
from loadtest.pictures import Album
from services.cli.console import Exit, err, fail, out
from services.cli.starting import starting
from services.codecs import strict_json
from services.local.models import StackEngine, stack_config
from services.local.temporary import watched_stack
from training.world.splits import HELD_OUT

_ORIGINALS = 24


def main(
    engine: Annotated[
        StackEngine, typer.Option(help="What runs the models; transformers: the tiny checkpoints.")
    ] = StackEngine.FAKE,
    rate: Annotated[float, typer.Option(min=0.5, help="Calls a second.")] = 10.0,
    gateways: Annotated[int, typer.Option(min=1, max=8, help="Gateways of the stack.")] = 2,
    only: Annotated[
        list[str] | None, typer.Option(help="Faults whose names hold this; may be repeated.")
    ] = None,
    folder: Annotated[Path, typer.Option("--out", help="Where the results go.")] = Path("out"),
    document: Annotated[
        Path | None,
        typer.Option(help="A document whose table, between its markers, is replaced."),
    ] = None,
) -> None:
    """Let parts of a local stack end and stand still under steady calls, one after the other."""
    chosen = [fault for fault in FAULTS if not only or any(part in fault.name for part in only)]
    if not chosen:
        fail(f"no fault has {' or '.join(only or ())} in its name", Exit.USAGE)
    busy = psutil.cpu_percent(1) / 100 * (os.cpu_count() or 1)
    machine = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {busy:.1f} of them busy "
        f"before, callers and stack on the same machine; engine {engine.value}, {gateways} "
        f"gateways, {rate:g} calls a second with phrases"
    )
    console = err()
    album = Album(HELD_OUT[-_ORIGINALS:])
    _ = album.originals
    config = replace(stack_config("chaos", engine=engine), gateways=gateways)
    trials: list[Trial] = []
    # After each, so that a run that is ended early has told what it saw.
    write = partial(_write, folder, machine, trials)

    def on_a_stack(faults: list[LocalFault]) -> None:
        if not faults:
            return
        with starting(console) as on_change, watched_stack(config, on_change) as stack:
            chaos = Chaos(stack.folder, album, rate, lambda text: console.print(f"[dim]{text}"))
            asyncio.run(_all(chaos, faults, trials, write))

    on_a_stack([fault for fault in chosen if not fault.clock])
    of_the_clock = [fault for fault in chosen if fault.clock]
    not_tried: dict[str, str] = {}
    with TemporaryDirectory(prefix="limelight-clock-") as place:
        try:
            with settable_clock(Path(place)):
                on_a_stack(of_the_clock)
        except NoWallClock as exc:
            not_tried = {fault.name: f"not tried here: {exc}" for fault in of_the_clock}
    told = rows(trials, not_tried)
    show(told, out())
    if document is not None:
        write_into(document, told, machine)
    if broken := [trial.fault.name for trial in trials if not trial.kept]:
        fail(f"promises not kept: {'; '.join(broken)}", Exit.FAILED)


def _write(folder: Path, machine: str, trials: list[Trial]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"machine": machine, "faults": [to_dict(trial) for trial in trials]}
    (folder / "chaos.json").write_text(strict_json.dumps(figures, indent=2) + "\n", "utf-8")
    (folder / "chaos.html").write_text(page(trials, rows(trials, {}), machine), "utf-8")


async def _all(
    chaos: Chaos, faults: list[LocalFault], trials: list[Trial], write: Callable[[], None]
) -> None:
    await chaos.well()
    for fault in faults:
        try:
            trials.append(await chaos.run(fault))
        except (StackEnded, NoSuchPart) as exc:  # what was measured is still told
            err().print(f"[red]{exc}: {fault.name!r} and what follows were not tried")
            break
        write()


if __name__ == "__main__":
    typer.run(main)
