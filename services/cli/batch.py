"""`limelight batch`: many pictures from a JSONL file, a bounded number of them at a time."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from limelight import AsyncClient, LimelightError, RetryPolicy
from services.cli import options, requests
from services.cli.connection import resolve
from services.cli.console import Exit, err, fail
from services.cli.requests import BadLine, BatchRequest

EXAMPLES = """
[bold]Request lines[/bold]

  {"id": "a", "image": "photo.jpg", "instruction": "the main subjects"}

  {"id": "b", "image": "photo.jpg", "phrases": ["red apple", "cat"]}

[bold]Result lines[/bold], in the order in which they are done

  {"id", "width", "height", "plan", "instances": [...], "timings_ms", "request_id", ...}

  with instances {"id", "label", "phrase", "score", "box", "mask": {"size", "counts"}, ...}

  {"id", "error": {"code", "reason", "message"}}

[bold]Examples[/bold]

  limelight batch requests.jsonl --out results.jsonl --concurrency 16

  limelight batch requests.jsonl --out results.jsonl --resume
"""

# Nobody waits for a single answer, so retries are many and long.
_RETRY = RetryPolicy(attempts=8, first_delay=0.5, max_delay=15.0)


@dataclass(slots=True)
class Tally:
    """Counts of a batch: answers and errors written, requests skipped."""

    answered: int = 0
    failed: int = 0
    skipped: int = 0
    interrupted: bool = False

    @property
    def done(self) -> int:
        return self.answered + self.failed


class BatchRunner:
    """Requests from `source` to result lines in `sink`.

    Args:
        client: answers one request.
        sink: where lines go; each is flushed, so that a killed run keeps what it had.
        concurrency: requests in flight at a time, which bounds the images in memory.
        threshold, timeout_s: of every request.
        on_line: called after each line.
    """

    def __init__(
        self,
        client: AsyncClient,
        sink: TextIO,
        *,
        concurrency: int,
        threshold: float | None,
        timeout_s: float,
        on_line: Callable[[Tally], None],
    ) -> None:
        self._client = client
        self._sink = sink
        self._concurrency = concurrency
        self._threshold = threshold
        self._timeout_s = timeout_s
        self._on_line = on_line
        self.tally = Tally()

    async def run(self, source: Iterator[BatchRequest | BadLine]) -> None:
        """Process the whole source; cancellation leaves only complete lines in the sink."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._concurrency):
                group.create_task(self._work(source))

    async def _work(self, source: Iterator[BatchRequest | BadLine]) -> None:
        # All workers draw from one iterator: a line is read when there is room for it.
        for request in source:
            if isinstance(request, BadLine):
                self._write(requests.bad_line(request), failed=True)
                await asyncio.sleep(0)
                continue
            try:
                answer = await self._client.segment(
                    request.image,
                    request.instruction,
                    phrases=request.phrases,
                    score_threshold=self._threshold,
                    timeout=self._timeout_s,
                )
            except LimelightError as error:
                self._write(requests.error_line(request, error), failed=True)
            except (OSError, ValueError) as exc:
                self._write(requests.unreadable_line(request, exc), failed=True)
            else:
                self._write(requests.result_line(request, answer), failed=False)

    def _write(self, line: str, *, failed: bool) -> None:
        self._sink.write(line)
        self._sink.flush()
        if failed:
            self.tally.failed += 1
        else:
            self.tally.answered += 1
        self._on_line(self.tally)


def batch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="REQUESTS.jsonl", exists=True, dir_okay=False, readable=True, help="Requests."
        ),
    ],
    results: Annotated[
        Path,
        typer.Option("--out", metavar="RESULTS.jsonl", dir_okay=False, help="Where results go."),
    ],
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="Requests under way at a time.")
    ] = 8,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Keep the answers that are in RESULTS, and ask only for the rest."
        ),
    ] = False,
    threshold: options.Threshold = None,
    timeout: options.Timeout = 300.0,
    address: options.Address = None,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Segment many pictures: one JSON line a request, one JSON line a result.

    An invalid line or an unreadable picture gives an error line, and the batch goes on.
    Relative picture paths start at the current directory or, if nothing is there, at the folder of
    REQUESTS. Ends with 0 if every line was answered, 1 if any was an error.
    """
    if results.resolve() == source.resolve():
        fail("--out is the file of the requests", Exit.USAGE)
    if not results.parent.is_dir():
        fail(f"there is no folder {results.parent}", Exit.USAGE)
    where = resolve(address, state_dir, name)
    known = _keep(results) if resume else frozenset()
    total = _count_lines(source)
    started = time.monotonic()
    console = err()
    with (
        source.open(encoding="utf-8", errors="replace") as lines,
        results.open("a" if resume else "w", encoding="utf-8") as sink,
        _progress(console, total) as bar,
    ):
        tally = asyncio.run(
            _run(
                where,
                _Skipping(requests.read_requests(lines, source.parent), known, bar),
                sink,
                concurrency=concurrency,
                threshold=threshold,
                timeout_s=timeout,
                bar=bar,
            )
        )
    _report(console, tally, total, time.monotonic() - started, results)
    if tally.interrupted:
        raise typer.Exit(Exit.INTERRUPTED)
    raise typer.Exit(Exit.FAILED if tally.failed else Exit.OK)


async def _run(
    address: str,
    source: "_Skipping",
    sink: TextIO,
    *,
    concurrency: int,
    threshold: float | None,
    timeout_s: float,
    bar: "_ProgressBar",
) -> Tally:
    async with AsyncClient(address, retry=_RETRY) as client:
        work = BatchRunner(
            client,
            sink,
            concurrency=concurrency,
            threshold=threshold,
            timeout_s=timeout_s,
            on_line=bar,
        )
        task = asyncio.ensure_future(work.run(iter(source)))
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            work.tally.interrupted = True
        work.tally.skipped = source.skipped
        return work.tally


class _Skipping:
    """The source without requests whose id has an answer already."""

    def __init__(
        self,
        source: Iterator[BatchRequest | BadLine],
        known: frozenset[str],
        bar: "_ProgressBar",
    ) -> None:
        self._source = source
        self._known = known
        self._bar = bar
        self.skipped = 0

    def __iter__(self) -> Iterator[BatchRequest | BadLine]:
        for request in self._source:
            if isinstance(request, BatchRequest) and requests.id_key(request.id) in self._known:
                self.skipped += 1
                self._bar.skip()
            else:
                yield request


def _keep(results: Path) -> frozenset[str]:
    """Keep only complete answers in the file, so that errors are asked again.

    Returns:
        The keys of the kept ids.
    """
    if not results.exists():
        return frozenset()
    kept = set()
    fresh = results.with_name(f".{results.name}.resume")
    with (
        results.open(encoding="utf-8", errors="replace") as old,
        fresh.open("w", encoding="utf-8") as new,
    ):
        for key, line in requests.kept_results(old):
            kept.add(key)
            new.write(line)
    fresh.replace(results)
    return frozenset(kept)


def _count_lines(source: Path) -> int:
    with source.open("rb") as lines:
        return sum(1 for line in lines if line.strip())


class _RateColumn(ProgressColumn):
    """Lines a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "-/s", style="dim")


class _ProgressBar:
    """Progress on a terminal; silent elsewhere, where the final report is enough."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        if progress is not None:
            self._task = progress.add_task("segmenting", total=total, errors="")

    def __call__(self, tally: Tally) -> None:
        if self._progress is not None:
            errors = f"{tally.failed} failed" if tally.failed else ""
            self._progress.update(self._task, advance=1, errors=errors)

    def skip(self) -> None:
        """Count a request that has an answer already."""
        if self._progress is not None:
            self._progress.update(self._task, advance=1)


@contextlib.contextmanager
def _progress(console: Console, total: int) -> Iterator[_ProgressBar]:
    if not console.is_terminal:
        yield _ProgressBar(None, total)
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        TextColumn("[red]{task.fields[errors]}"),
        console=console,
    ) as progress:
        yield _ProgressBar(progress, total)


def _report(console: Console, tally: Tally, total: int, seconds: float, results: Path) -> None:
    rate = tally.done / seconds if seconds > 0 else 0.0
    parts = [f"{tally.answered} answered"]
    if tally.failed:
        parts.append(f"[red]{tally.failed} failed[/red]")
    if tally.skipped:
        parts.append(f"{tally.skipped} kept from before")
    if tally.interrupted:
        left = total - tally.done - tally.skipped
        parts.append(f"[yellow]{left} not done[/yellow] (--resume goes on)")
    console.print(f"{', '.join(parts)} in {seconds:.1f} s ({rate:.1f}/s) -> {results}")
