"""`python -m loadtest`: assembles the benchmark; see the package."""

import asyncio
import os
import platform
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console

from limelight import AsyncClient
from loadtest.address import is_loopback
from loadtest.baseline import Baseline, PlainRun
from loadtest.metrics import REPORT_VARIABLE, ray_metrics_address
from loadtest.pictures import Album
from loadtest.report import Report, markdown, show
from loadtest.scenarios import FULL, QUICK, Bench, Budget, Scenarios
from loadtest.usage import Meter
from services.cli.console import Exit, err, fail, out
from services.cli.starting import starting
from services.codecs import strict_json
from services.local.models import StackEngine, stack_config
from services.local.state import StackConfig
from services.local.temporary import temporary_stack
from services.segmenter.settings import SegmenterSettings
from training.world.splits import HELD_OUT

_ORIGINALS = 24
_BUSY_LOOK_S = 1.0


def main(
    quick: Annotated[
        bool, typer.Option("--quick", help="Under a minute, for trying the benchmark itself.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="A running deployment with the shipped segmenter. Default: a stack for now.",
        ),
    ] = None,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Put load on an address that is not loopback.")
    ] = False,
    engine: Annotated[StackEngine | None, typer.Option(help="What runs the models.")] = None,
    folder: Annotated[Path, typer.Option("--out", help="Where the results go.")] = Path("out"),
) -> None:
    """Measure the public API beside a plain loop over the same model."""
    if address is not None and not allow_remote and not is_loopback(address):
        fail(f"{address} is not this machine; --allow-remote puts load on it", Exit.USAGE)
    busy = psutil.cpu_percent(_BUSY_LOOK_S) / 100 * (os.cpu_count() or 1)
    # Pictures alone are measured: nothing is tracked.
    config = replace(stack_config("bench", engine=engine), tracker=None)
    album = Album(HELD_OUT[-_ORIGINALS:])
    budget = QUICK if quick else FULL
    if quick:  # for the stack that is started
        os.environ[REPORT_VARIABLE] = str(round(1000 * budget.report_s))
    service, baseline, threads = asyncio.run(_measure(address, config, album, budget))
    report = Report(
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        machine=platform.processor() or platform.machine(),
        command="python -m loadtest" + (" --quick" if quick else ""),
        cores=os.cpu_count() or 1,
        busy_cores=busy,
        threads=threads,
        service=service,
        baseline=baseline,
    )
    show(report, out())
    folder.mkdir(parents=True, exist_ok=True)
    figures = strict_json.dumps(strict_json.finite(report.to_dict()), indent=2)
    (folder / "bench.json").write_text(figures + "\n", "utf-8")
    (folder / "bench.md").write_text(markdown(report), "utf-8")


async def _measure(
    address: str | None, config: StackConfig, album: Album, budget: Budget
) -> tuple[Scenarios, tuple[PlainRun, ...], int]:
    """The service between two runs of the plain loop, which has the machine to itself."""
    console = err()

    def tell(text: str) -> None:
        console.print(f"[dim]{text}[/dim]")

    threads = SegmenterSettings.model_validate(config.segmenter).threads
    tell("drawing pictures")
    originals = await asyncio.to_thread(lambda: album.originals)
    with tempfile.TemporaryDirectory(prefix="limelight-bench-") as folder:
        async with Baseline(originals, Path(folder), config.segmenter) as plain:
            tell("plain loop")
            runs = [await plain.run(budget.baseline_s, threads)]
            if (os.cpu_count() or 1) != threads:
                runs.append(await plain.run(budget.baseline_s, os.cpu_count() or 1))
            service = await _service(address, config, album, budget, tell, console)
            tell("plain loop again")
            runs.append(await plain.run(budget.baseline_s, threads))
    return service, tuple(runs), threads


async def _service(
    address: str | None,
    config: StackConfig,
    album: Album,
    budget: Budget,
    tell: Callable[[str], None],
    console: Console,
) -> Scenarios:
    with ExitStack() as stack:
        meter = gateway = ray = None
        if address is None:
            with starting(console) as on_change:
                state = stack.enter_context(temporary_stack(config, on_change))
            address, gateway = state.addresses["gateway"], state.addresses["metrics"]
            meter, ray = Meter(state), ray_metrics_address(state)
        async with AsyncClient(address) as client:
            bench = Bench(
                client,
                album,
                budget,
                meter=meter,
                gateway_metrics=gateway,
                ray_metrics=ray,
                tell=tell,
            )
            return await bench.run()


if __name__ == "__main__":
    typer.run(main)
