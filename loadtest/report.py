"""The run's figures beside its baseline: the same sections as tables, as markdown and in JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from loadtest.baseline import PlainRun
from loadtest.scenarios import LoadFigures, Scenarios

THROUGHPUT_GOAL = 0.7
PHRASES_GOAL = 0.6
_STAGES = ("decode", "encode", "detect", "masks", "segment", "plan", "select", "total")


@dataclass(frozen=True)
class Section:
    """One table: columns, the first of them text, and notes below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """One run.

    Attributes:
        date, machine, command: when, where and how.
        busy_cores: cores that other work took while nothing of ours ran; above a tenth or so it
            disturbs every figure.
        cores: of the machine.
        service: what was measured of the service; `baseline`, of the plain loop.
        threads: of one model step, in the service and in the loop it is held against.
    """

    date: str
    machine: str
    command: str
    cores: int
    busy_cores: float
    threads: int
    service: Scenarios
    baseline: tuple[PlainRun, ...]

    def plain(self, threads: int) -> float:
        """Pictures a second of the plain loop, the mean of its runs; 0 without any."""
        runs = [run.throughput for run in self.baseline if run.threads == threads]
        return sum(runs) / len(runs) if runs else 0.0

    @property
    def same_answers(self) -> tuple[int, int]:
        """Originals that service and plain loop answer with the same masks, bit by bit; of all."""
        pairs = list(zip(self.service.digests, self.baseline[0].digests, strict=True))
        return sum(a == b for a, b in pairs), len(pairs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        ratios = {
            load.name: load.throughput / self.plain(self.threads) for load in self.service.loads
        }
        return {**asdict(self), "ratios": ratios, "same_answers": self.same_answers}

    def sections(self) -> list[Section]:
        """Every table."""
        return [
            self._throughput(),
            self._baseline(),
            self._cpu(),
            self._stages(),
            self._phrases(),
            self._latencies(),
            self._batches(),
        ]

    def _throughput(self) -> Section:
        plain, rows = self.plain(self.threads), []
        for load in self.service.loads:
            latencies = (f"{ms:.0f}" for ms in (load.p50_ms, load.p95_ms, load.p99_ms))
            ratio = f"{load.throughput / plain:.2f}"
            rows.append((load.name, f"{load.throughput:.1f}", ratio, *latencies, _errors(load)))
        best = next(load for load in self.service.loads if load.callers == 16)
        same, of = self.same_answers
        return Section(
            "Public API, one phrase a picture, every picture new",
            ("", "pictures/s", "of plain loop", "p50 ms", "p95 ms", "p99 ms", "failed"),
            tuple(rows),
            (
                goal("16 callers", best.throughput / plain, THROUGHPUT_GOAL, at_least=True),
                f"{best.instances:.1f} instances a picture; masks equal to the plain loop's, bit "
                f"by bit, for {same} of {of} pictures",
                *(
                    f"{load.name} failed: {load.errors}"
                    for load in self.service.loads
                    if load.errors
                ),
            ),
        )

    def _baseline(self) -> Section:
        rows = tuple(
            (
                f"{run.threads} thread{'s' * (run.threads > 1)}",
                f"{run.throughput:.1f}",
                f"{1000 * run.cpu_s / run.pictures:.1f}",
                *(f"{run.stages_ms.get(stage, 0.0):.1f}" for stage in _STAGES[:4]),
            )
            for run in self.baseline
        )
        best = max(run.throughput for run in self.baseline)
        most = max(load.throughput for load in self.service.loads)
        return Section(
            "Plain loop in one process, before and after the service ran",
            ("", "pictures/s", "CPU ms a picture", *(f"{stage} ms" for stage in _STAGES[:4])),
            rows,
            (
                f"ratios are to the mean of the runs with {self.threads} thread(s) of the model, "
                "as many as a step of the service has",
                f"the service's best over the plain loop's best, whatever its threads: "
                f"{most / best:.2f}",
            ),
        )

    def _cpu(self) -> Section:
        loads = [load for load in self.service.loads if load.cpu_ms]
        if not loads:
            return Section("CPU of each process", (), (), ("unknown: not a stack of our own",))
        roles = sorted(loads[-1].cpu_ms, key=lambda role: -loads[-1].cpu_ms[role])
        rows = [(role, *(f"{load.cpu_ms.get(role, 0.0):.1f}" for load in loads)) for role in roles]
        rows.append(("together", *(f"{sum(load.cpu_ms.values()):.1f}" for load in loads)))
        rows.append((f"cores busy, of {self.cores}", *(f"{load.cores:.2f}" for load in loads)))
        plain = [run for run in self.baseline if run.threads == self.threads]
        loop_ms = sum(1000 * run.cpu_s / run.pictures for run in plain) / len(plain)
        return Section(
            "What bounds it: CPU milliseconds a request, by process",
            ("", *(load.name for load in loads)),
            tuple(rows),
            (
                f"the plain loop takes {loop_ms:.1f} ms of CPU a picture, and one core; the "
                "service may use them all",
                *(_bound(load, self.cores) for load in loads if load.callers == 16),
            ),
        )

    def _stages(self) -> Section:
        loads = self.service.loads
        gateway = self.service.gateway_stages_ms
        rows = [
            (stage, *(_ms(load.stages_ms, stage) for load in loads), _ms(gateway, stage))
            for stage in _STAGES
            if any(stage in load.stages_ms for load in loads)
        ]
        return Section(
            "Time in each stage, mean milliseconds of the answers",
            ("", *(load.name for load in loads), "16 callers, gateway's metrics"),
            tuple(rows),
            (
                "segment is the gateway's view of the segmenter: decode, encode, detect, masks and "
                "the way there and back; waiting counts",
            ),
        )

    def _phrases(self) -> Section:
        rows = tuple(
            (
                str(one.phrases),
                *(f"{ms:.0f}" for ms in (one.together, one.apart_new, one.apart_same)),
                f"{one.together_known:.0f}",
                f"{one.together / one.apart_new:.2f}",
                f"{one.together / one.apart_same:.2f}",
            )
            for one in self.service.phrases
        )
        most = self.service.phrases[-1]
        return Section(
            "Phrases on one picture, median milliseconds",
            (
                "phrases",
                "one call",
                "as many calls, new pictures",
                "as many calls, one picture",
                "one call, known picture",
                "ratio, new",
                "ratio, one",
            ),
            rows,
            (
                goal(
                    f"{most.phrases} phrases together",
                    most.together / most.apart_new,
                    PHRASES_GOAL,
                    at_least=False,
                ),
            ),
        )

    def _latencies(self) -> Section:
        rows = tuple(
            (
                one.name,
                str(one.calls),
                f"{one.p50_ms:.0f}",
                f"{one.p95_ms:.0f}",
                _ms(one.stages_ms, "plan"),
                _ms(one.stages_ms, "segment"),
            )
            for one in (*self.service.pictures, *self.service.instructions)
        )
        columns = ("one caller", "calls", "p50 ms", "p95 ms", "plan ms", "segment ms")
        plans = ", ".join(f"{count} {how}" for how, count in self.service.outcomes.items())
        return Section(
            "Known and new: one phrase, then instructions",
            columns,
            rows,
            (f"plans made: {plans}; a degraded one is not remembered",),
        )

    def _batches(self) -> Section:
        rows = [
            (f"items a step in {one.stage}", f"{one.items:.2f}", f"{one.steps:.0f} steps")
            for one in self.service.batches
        ]
        rows += [
            (f"{cache} cache, share found", f"{hits / looks:.2f}", f"{looks:.0f} look-ups")
            for cache, (hits, looks) in self.service.cache_hits.items()
        ]
        notes = () if rows else ("unknown: the replica's metrics could not be read",)
        title = "Batches and caches, 16 callers"
        return Section(title, ("", "mean", "of"), tuple(rows), notes)


def show(report: Report, console: Console) -> None:
    """Print every table."""
    print_sections(_headline(report), report.sections(), console)


def print_sections(headline: str, sections: Sequence[Section], console: Console) -> None:
    """Print tables below a line that says what they are of."""
    console.print(headline, soft_wrap=True)
    for section in sections:
        console.print(f"\n[bold]{section.title}[/bold]")
        if section.rows:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
            for place, column in enumerate(section.columns):
                table.add_column(column, justify="right" if place else "left")
            for row in section.rows:
                table.add_row(*row)
            console.print(table)
        for note in section.notes:
            console.print(note, soft_wrap=True)


def markdown(report: Report) -> str:
    """The same as markdown."""
    return sections_markdown("Benchmark", _headline(report), report.sections())


def sections_markdown(title: str, headline: str, sections: Sequence[Section]) -> str:
    """What `print_sections` prints, as markdown."""
    lines = [f"# {title}", "", headline]
    for section in sections:
        lines += ["", f"## {section.title}", ""]
        if section.rows:
            lines += [_row(section.columns), _row(("---", *("--:" for _ in section.columns[1:])))]
            lines += map(_row, section.rows)
            lines.append("")
        lines += [f"- {note}" for note in section.notes]
    return "\n".join(lines) + "\n"


def _headline(report: Report) -> str:
    models = ", ".join(f"{m.role} {m.name} {m.revision}" for m in report.service.models)
    text = f"{report.command}, {report.date}, {report.machine}, {report.cores} cores; {models}."
    return text + disturbed(report.busy_cores, report.cores)


def disturbed(busy_cores: float, cores: int) -> str:
    """What to say of other work on the machine; empty where there is next to none."""
    if busy_cores <= 0.1 * cores:
        return ""
    return (
        f" Other work took {busy_cores:.1f} cores before it began: "
        "these figures are not to be relied on."
    )


def goal(what: str, value: float, goal: float, *, at_least: bool) -> str:
    met = value >= goal if at_least else value <= goal
    bound = "at least" if at_least else "at most"
    return f"{what}: {value:.2f}, goal {bound} {goal}: {'met' if met else 'not met'}"


def _bound(load: LoadFigures, cores: int) -> str:
    role, most = max(load.cpu_ms.items(), key=lambda item: item[1])
    share = most / sum(load.cpu_ms.values())
    busy = f"{load.cores:.1f} of {cores} cores"
    return f"{load.name} keep {busy} busy, {share:.0%} of that in the {role}"


def _errors(load: LoadFigures) -> str:
    return str(sum(load.errors.values()))


def _ms(stages: Mapping[str, float], stage: str) -> str:
    return f"{stages[stage]:.1f}" if stage in stages else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
