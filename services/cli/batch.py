"""`limelight batch`: many pictures from a JSONL file, a bounded number of them at a time."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.markup import escape
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

from limelight import AsyncClient, LimelightError, RetryPolicy, Segmentation
from services.cli import options, requests, results
from services.cli.connection import resolve
from services.cli.console import Exit, err, fail
from services.cli.requests import BadLine, BatchRequest, RequestFile, RequestFileRefused
from services.cli.results import EarlierResults, ResultsRefused

EXAMPLES = """
[bold]Request lines[/bold]

  {"id": "a", "image": "photo.jpg", "instruction": "the main subjects"}

  {"id": "b", "image": "photo.jpg", "phrases": ["red apple", "cat"]}

[bold]Result lines[/bold], in the order in which they are done

  {"id", "width", "height", "plan", "instances": [...], "warnings", "timings_ms", "request_id", ...}

  with instances {"id", "label", "phrase", "score", "box", "mask": {"size", "counts"}, ...}

  {"id", "error": {"code", "reason", "message"}}

[bold]Files[/bold] are strict JSON Lines, in UTF-8, or with a byte order mark in UTF-16 or UTF-32

  An id is a string or a number, given once: 1 and 1.0 are one id, 1 and "1" are two

[bold]Examples[/bold]

  limelight batch requests.jsonl --out results.jsonl --concurrency 16

  limelight batch requests.jsonl --out results.jsonl --resume

[bold]Exit codes[/bold]

  0 every request has its answer · 1 some have an error instead, or the results could not be written
  · 2 refused before anything was sent: encoding, an id given twice, results that are there already
  · 3 no stack answers · 130 interrupted
"""

# Nobody waits for a single answer, so retries are many and long, and people's calls come first.
_RETRY = RetryPolicy(attempts=8, first_delay=0.5, max_delay=15.0, budget=0)


@dataclass(slots=True)
class Tally:
    """Counts of a batch: answers and errors written, requests skipped.

    `unreachable` are those of the errors where nothing answered at the address.
    """

    answered: int = 0
    failed: int = 0
    unreachable: int = 0
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
        threshold, timeout_s, accept_damaged: of every request.
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
        accept_damaged: bool,
        on_line: Callable[[Tally], None],
    ) -> None:
        self._client = client
        self._sink = sink
        self._concurrency = concurrency
        self._threshold = threshold
        self._timeout_s = timeout_s
        self._accept_damaged = accept_damaged
        self._on_line = on_line
        self.tally = Tally()

    async def run(self, source: Iterator[BatchRequest | BadLine]) -> None:
        """Process the whole source; cancellation leaves only complete lines in the sink.

        Raises:
            OSError: the sink cannot be written.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(self._work(source))
        except ExceptionGroup as group_error:
            # Each worker ends by the same fault, the first of them says it.
            raise group_error.exceptions[0] from group_error

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
                    accept_damaged=self._accept_damaged,
                )
            except LimelightError as error:
                self.tally.unreachable += error.unreachable
                self._write(requests.error_line(request, error), failed=True)
            except (OSError, ValueError) as exc:
                self._write(requests.unreadable_line(request, exc), failed=True)
            else:
                self._write_answer(request, answer)

    def _write_answer(self, request: BatchRequest, answer: Segmentation) -> None:
        try:
            line = requests.result_line(request, answer)
        except ValueError as exc:
            self._write(requests.broken_line(request, exc), failed=True)
        else:
            self._write(line, failed=False)

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
    out: Annotated[
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
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace RESULTS, whatever it holds.")
    ] = False,
    threshold: options.Threshold = None,
    accept_damaged: options.AcceptDamaged = False,
    timeout: options.Timeout = 300.0,
    address: options.Address = None,
    name: options.Name = "default",
    state_dir: options.StateDir = None,
) -> None:
    """Segment many pictures: one JSON line a request, one JSON line a result.

    The file of requests is judged before anything is sent. An invalid line or an unreadable picture
    gives an error line, and the batch goes on; bytes that are not text, or an id that two lines
    share, refuse the file. Relative picture paths start at the current directory or, if nothing is
    there, at the folder of REQUESTS.
    """
    if resume and overwrite:
        fail("--resume keeps what --overwrite replaces: give one of them", Exit.USAGE)
    if out.exists() and out.samefile(source):
        fail("--out is the file of the requests", Exit.USAGE)
    if not out.parent.is_dir():
        fail(f"there is no folder {out.parent}", Exit.USAGE)
    try:
        asked = RequestFile(source.read_bytes(), source.parent)
    except RequestFileRefused as exc:
        fail(f"{source}: {exc}", Exit.USAGE)
    except OSError as exc:
        fail(f"{source}: {exc.strerror}", Exit.USAGE)
    where = resolve(address, state_dir, name)
    try:
        if resume:
            sink, earlier = results.open_again(out, asked.lines_of, source)
        else:
            sink, earlier = results.open_new(out, overwrite=overwrite), EarlierResults()
    except ResultsRefused as exc:
        fail(str(exc), Exit.USAGE)
    except OSError as exc:
        fail(f"{out}: {exc.strerror}", Exit.USAGE)
    started = time.monotonic()
    console = err()
    if earlier.cut:
        told = f"the last line of {escape(str(out))} was cut short, and is asked for again"
        console.print(told, soft_wrap=True)
    try:
        with sink, _progress(console, asked.total) as bar:
            tally = asyncio.run(
                _run(
                    where,
                    _Skipping(asked, earlier.answered.keys(), bar),
                    sink,
                    concurrency=concurrency,
                    threshold=threshold,
                    timeout_s=timeout,
                    accept_damaged=accept_damaged,
                    bar=bar,
                )
            )
    except OSError as exc:
        fail(
            f"{out}: {exc.strerror or exc}; the results up to here are in it",
            hint="--resume goes on once it can be written again",
        )
    _report(console, tally, asked.total, time.monotonic() - started, out)
    if tally.interrupted:
        raise typer.Exit(Exit.INTERRUPTED)
    raise typer.Exit(_exit_code(tally, asked.total))


def _exit_code(tally: Tally, total: int) -> Exit:
    if tally.answered + tally.skipped == total:
        return Exit.OK
    nobody = not tally.answered and tally.unreachable == tally.failed
    return Exit.NO_STACK if nobody else Exit.FAILED


async def _run(
    address: str,
    source: "_Skipping",
    sink: TextIO,
    *,
    concurrency: int,
    threshold: float | None,
    timeout_s: float,
    accept_damaged: bool,
    bar: "_ProgressBar",
) -> Tally:
    async with AsyncClient(address, retry=_RETRY, priority="batch") as client:
        work = BatchRunner(
            client,
            sink,
            concurrency=concurrency,
            threshold=threshold,
            timeout_s=timeout_s,
            accept_damaged=accept_damaged,
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
        source: Iterable[BatchRequest | BadLine],
        known: Set[Hashable],
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


def _report(console: Console, tally: Tally, total: int, seconds: float, out: Path) -> None:
    rate = tally.done / seconds if seconds > 0 else 0.0
    parts = [f"{tally.answered} answered"]
    if tally.failed:
        parts.append(f"[red]{tally.failed} failed[/red]")
    if tally.skipped:
        parts.append(f"{tally.skipped} kept from before")
    if tally.interrupted:
        left = total - tally.done - tally.skipped
        parts.append(f"[yellow]{left} not done[/yellow] (--resume goes on)")
    console.print(
        f"{', '.join(parts)} in {seconds:.1f} s ({rate:.1f}/s) -> {escape(str(out))}",
        soft_wrap=True,
    )
