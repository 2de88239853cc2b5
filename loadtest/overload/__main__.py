"""`python -m loadtest.overload`: assembles the load test; see the package."""

import asyncio
import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psutil
import typer

from loadtest.address import is_loopback
from loadtest.overload.report import page, show, to_dict
from loadtest.overload.scenarios import KINDS, KindMeasured, Overload
from loadtest.pictures import Album
from services.cli.console import Exit, err, fail, out
from services.cli.starting import starting
from services.codecs import strict_json
from services.local.models import StackEngine, stack_config
from services.local.temporary import temporary_stack
from training.world.splits import HELD_OUT

_ORIGINALS = 24


def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long each load lasts.")] = 12.0,
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(KINDS)}. Default: all.")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A running deployment. Default: a stack for now."),
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Put load on an address that is not loopback.")
    ] = False,
    engine: Annotated[StackEngine | None, typer.Option(help="What runs the models.")] = None,
    folder: Annotated[Path, typer.Option("--out", help="Where the results go.")] = Path("out"),
) -> None:
    """Measure what is answered in time when more is asked for than can be."""
    if address is not None and not allow_remote and not is_loopback(address):
        fail(f"{address} is not this machine; --allow-remote puts load on it", Exit.USAGE)
    kinds = kind or list(KINDS)
    if unknown := set(kinds) - set(KINDS):
        fail(f"--kind is one of {', '.join(KINDS)}, not {', '.join(sorted(unknown))}", Exit.USAGE)
    busy = psutil.cpu_percent(1) / 100 * (os.cpu_count() or 1)
    machine = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {busy:.1f} of them busy "
        f"before, generator and services on the same machine; loads of {seconds:g} s"
    )
    console = err()
    album = Album(HELD_OUT[-_ORIGINALS:])
    measured: list[KindMeasured] = []
    with ExitStack() as stack:
        if address is None:
            with starting(console) as on_change:
                config = stack_config("loadtest", engine=engine)
                state = stack.enter_context(temporary_stack(config, on_change))
            address = state.addresses["gateway"]
        _ = album.originals
        overload = Overload(address, album, seconds, lambda text: console.print(f"[dim]{text}"))
        measured += [asyncio.run(overload.run(name)) for name in kinds]
    show(measured, out())
    folder.mkdir(parents=True, exist_ok=True)
    figures = {"machine": machine, "kinds": [to_dict(kind) for kind in measured]}
    (folder / "loadtest.json").write_text(strict_json.dumps(figures, indent=2) + "\n", "utf-8")
    (folder / "loadtest.html").write_text(page(measured, machine), "utf-8")


if __name__ == "__main__":
    typer.run(main)
