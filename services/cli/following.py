"""A tracked video on its way: events to files, a bar on a terminal, and the answer for a reader."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import typer
from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from limelight import (
    Client,
    LimelightError,
    TrackedFrame,
    TrackingEvent,
    TrackPlanned,
    TrackProgress,
    TrackSummary,
)
from limelight.client import TrackOptions
from services.cli.console import Exit, fail, fail_call
from services.cli.footage import Footage
from services.cli.tables import plan_line
from services.cli.tracked_files import TrackFileWriter
from services.errors import InvalidMedia


def follow(
    where: str,
    footage: Footage,
    writer: TrackFileWriter,
    report: "TrackReport",
    console: Console,
    instruction: str | None,
    options: TrackOptions,
) -> int:
    """Track the footage at an address, to the end; ends the command where that fails.

    Returns:
        How often the stream was cut and went on.
    """
    try:
        with (
            footage,
            Client(where) as client,
            client.track(footage.video, instruction, **options) as events,
            writer,
            _progress(console) as bar,
        ):
            _follow(events, footage, writer, bar, report)
    except LimelightError as error:
        fail_call(error, where)
    except InvalidMedia as fault:
        fail(fault.message)
    except OSError as fault:
        fail(f"{fault.filename or footage.video}: {fault.strerror or fault}")
    except KeyboardInterrupt:
        raise typer.Exit(Exit.INTERRUPTED) from None
    return events.resumed


def _follow(
    events: Iterable[TrackingEvent],
    footage: Footage,
    writer: TrackFileWriter,
    bar: "_TrackBar",
    report: "TrackReport",
) -> None:
    for event in events:
        match event:
            case TrackPlanned():
                writer.planned(event)
                report.planned(event)
            case TrackedFrame(index=index):
                writer.frame(event, partial(footage.pixels, index), lambda: footage.rate)
                bar.frame()
            case TrackProgress():
                bar.progress(event)
            case TrackSummary():
                writer.summary(event)
                report.summary = event


class TrackReport:
    """The answer for a reader: plans as they come, at the end a line an object."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet
        self.summary: TrackSummary | None = None

    def planned(self, event: TrackPlanned) -> None:
        if not self._quiet:
            line = plan_line(event.plan)
            if event.frame_index:
                line.append(f"  from frame {event.frame_index} on", "dim")
            self._console.print(line)

    def show(self, cuts: int) -> None:
        summary = self.summary
        if summary is None or self._quiet:
            return
        if summary.objects:
            self._console.print(_table(summary))
        if summary.summary:
            style = "" if summary.objects else "yellow"
            self._console.print(Text(summary.summary, style=style))
        if summary.warning:
            self._console.print(Text(summary.warning, style="yellow"))
        parts = [f"{summary.frames} frames"]
        if summary.dropped:
            parts.append(f"{summary.dropped} dropped")
        if summary.resumed or cuts:
            parts.append(f"went on {summary.resumed + cuts} times after a cut")
        parts += [f"{model.role} {model.name}" for model in summary.models]
        self._console.print(Text(" · ".join(parts), style="dim"))


def _table(summary: TrackSummary) -> Table:
    """One row an object."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, style in (("id", "right"), ("label", "left"), ("frames", "right")):
        table.add_column(heading, justify=style)  # type: ignore[arg-type]
    table.add_column("first", justify="right")
    table.add_column("last", justify="right")
    table.add_column("pixels", justify="right")
    for item in summary.objects:
        table.add_row(
            str(item.id),
            Text(item.label, style="cyan"),
            str(item.frames),
            str(item.first_frame),
            str(item.last_frame),
            f"{item.pixels:,}",
        )
    return table


class _TrackBar:
    """Progress on a terminal; silent elsewhere, where the report is enough."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task = TaskID(0)
        self._frames = 0
        if progress is not None:
            self._task = progress.add_task("tracking", total=None, frames="", speed="")

    def frame(self) -> None:
        """One more is done."""
        self._frames += 1
        if self._progress is not None:
            self._progress.update(self._task, completed=self._frames, frames=str(self._frames))

    def progress(self, event: TrackProgress) -> None:
        """The service tells how far it is."""
        if self._progress is None:
            return
        expected = event.frames_expected
        self._progress.update(
            self._task,
            total=expected or None,
            frames=f"{self._frames}/{expected}" if expected else str(self._frames),
            speed=f"{event.frames_per_s:.1f}/s" if event.frames_per_s else "",
        )


@contextmanager
def _progress(console: Console) -> Iterator[_TrackBar]:
    if not console.is_terminal:
        yield _TrackBar(None)
        return
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[frames]}"),
        TextColumn("[dim]{task.fields[speed]}"),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    ) as progress:
        yield _TrackBar(progress)
