"""`python -m loadtest.engine`: measure the engines on this machine; see the package."""

import tempfile
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer

from loadtest.engine.planner import bench as bench_planner
from loadtest.engine.random_weights import save_sam3
from loadtest.engine.report import BenchReport
from loadtest.engine.segmenter import SegmenterBench
from services.codecs import strict_json
from services.segmenter.settings import SHIPPED

app = typer.Typer(add_completion=False)


class CheckpointSize(StrEnum):
    """What is measured."""

    FULL = "full"
    TINY = "tiny"


@app.command()
def main(
    size: Annotated[
        CheckpointSize,
        typer.Option(help="full: random weights of full size. tiny: the shipped checkpoints."),
    ] = CheckpointSize.FULL,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = (
        "cuda" if torch.cuda.is_available() else "cpu"
    ),
    seconds: Annotated[float, typer.Option(help="Parts that no longer fit are skipped.")] = 600,
    runs: Annotated[int, typer.Option(help="How often each thing is timed.")] = 20,
    burst_s: Annotated[float, typer.Option(help="Seconds of each measurement of throughput.")] = 5,
    width: Annotated[int, typer.Option(help="Of the pictures, pixels.")] = 1920,
    height: Annotated[int, typer.Option(help="Of the pictures, pixels.")] = 1080,
    planner: Annotated[bool, typer.Option(help="Whether the planner is measured too.")] = True,
    out: Annotated[Path | None, typer.Option(help="A JSON file for the figures.")] = None,
) -> None:
    """Measure both engines; exit status 1 where an answer is wrong or a part failed."""
    report = BenchReport(seconds)
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}", flush=True)
    full = size is CheckpointSize.FULL
    try:
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) if full else SHIPPED
            if full:
                with report.part("random weights"):
                    save_sam3(checkpoint, device)
            SegmenterBench(checkpoint, device, report, (width, height), runs, burst_s).run()
        if planner:
            with report.part("planner"):
                bench_planner(report, device, (width, height), max(2, runs // 4), full)
    finally:
        print(f"\n{name}\n\n{report.table()}", flush=True)
        if out:
            figures = {"device": name, **asdict(report)}
            out.write_text(strict_json.dumps(strict_json.finite(figures), indent=1))
    raise typer.Exit(1 if report.failures else 0)


if __name__ == "__main__":
    app()
