"""What an evaluation found of one world: tables for people, JSON for programs."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from limelight import ModelInfo
from services.stickers.evaluation.calibration import USED_THRESHOLD, Calibration
from services.stickers.evaluation.detections import Detection
from services.stickers.evaluation.figures import Figures
from services.stickers.evaluation.worlds import World

_MOST_CONFUSIONS = 12


@dataclass(frozen=True)
class Report:
    """The figures and what they were measured on.

    Attributes:
        world: whose scenes.
        split, first_seed, scenes: the seeds are `scenes` consecutive ones of the world's split.
        perfect_plans: whether canonical plans were asked instead of instructions.
        models: all that answered; more than one of a role means that it changed meanwhile.
        seconds: the examination took, the start of a stack apart.
        figures: what was measured.
        backgrounds: phrases by kind of background, where the world tells kinds apart.
        calibration: of the scores, where they were asked for.
    """

    world: World
    split: str
    first_seed: int
    scenes: int
    perfect_plans: bool
    models: tuple[ModelInfo, ...]
    seconds: float
    figures: Figures
    backgrounds: Mapping[str, Detection] = field(default_factory=dict)
    calibration: Calibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def show(report: Report, console: Console) -> None:
    """Print the tables, and last what they were measured on."""
    figures = report.figures
    console.rule(f"{report.world} world")
    console.print(_detections(report))
    console.print(_presence(figures))
    console.print(_concepts(figures))
    console.print(_confusions(figures))
    console.print(_instructions(report))
    console.print(_plan_parts(figures))
    if report.calibration is not None:
        console.print(_calibration(report.calibration))
    console.print(f"Plans: {_counts(figures.outcomes)}")
    failed = sum(figures.errors.values())
    console.print(f"Failed calls, counted as wrong answers: {failed} of {figures.calls}", end="")
    console.print(f" ({_counts(figures.errors)})" if failed else "")
    last = report.first_seed + report.scenes - 1
    console.print(
        f"{report.world} world, {report.scenes} scenes, {report.split} seeds {report.first_seed} "
        f"to {last}, {figures.calls} calls in {report.seconds:.0f} s"
    )
    for model in report.models:
        console.print(f"{model.role}: {model.name}, revision {model.revision} ({model.engine})")


def _detections(report: Report) -> Table:
    figures = report.figures
    table = _table("Instances", "queries", "F1@0.5", "F1@0.75", "precision", "recall", "mean IoU")
    rows: Iterable[tuple[str, Detection]] = (
        ("phrases, absent ones included", figures.phrases.all),
        ("phrases of what is there", figures.phrases.present),
        *((f"  by {kind}", one) for kind, one in figures.phrases.kinds.items() if one.wanted),
        *((f"  on {kind}", one) for kind, one in report.backgrounds.items()),
        ("exemplar boxes", figures.exemplars),
        ("  with a negative box", figures.exemplars_negative),
    )
    for name, found in rows:
        shares = (found.f1, found.f1_strict, found.precision, found.recall, found.mean_iou)
        table.add_row(name, str(found.queries), *(f"{share:.3f}" for share in shares))
    return table


def _presence(figures: Figures) -> Table:
    phrases = figures.phrases
    table = _table("Presence", "right", "false instances a query")
    table.add_row("all phrases", f"{phrases.presence:.3f}", "")
    for kind, share in phrases.presence_by_kind.items():
        found = phrases.kinds[kind]
        false = "" if found.wanted else f"{found.answered / found.queries:.3f}"
        table.add_row(f"  {kind}", f"{share:.3f}", false)
    table.add_row("absent ones together", "", f"{phrases.false_per_absent:.3f}")
    return table


def _instructions(report: Report) -> Table:
    figures = report.figures
    title = "Plans of a perfect planner" if report.perfect_plans else "Instructions"
    table = _table(
        title, "asked", "exactly right", "plan right", "masks wrong", "plan wrong", "luck"
    )
    for name, one in (*figures.families.items(), ("all", figures.instructions)):
        shares = (one.exact, one.plan_right, one.masks_wrong, one.plan_wrong, one.right_by_luck)
        table.add_row(name, str(one.asked), *(f"{share:.3f}" for share in shares))
    table.add_row("mean of the families", "", f"{figures.family_mean:.3f}")
    return table


def _concepts(figures: Figures) -> Table:
    """All concepts, in two columns of rows."""
    columns = ("queries", "F1@0.5", "F1@0.75", "presence")
    table = _table("Concept", *columns, "", *columns)
    table.columns[5].justify = "left"
    rows = [
        (
            one.concept,
            str(one.queries),
            # Where nothing is wanted and nothing came, an F1 says nothing.
            *(f"{f1:.3f}" if one.wanted + one.answered else "" for f1 in (one.f1, one.f1_strict)),
            f"{one.presence:.3f}",
        )
        for one in figures.concepts
    ]
    half = -(-len(rows) // 2)
    for left, right in zip_longest(rows[:half], rows[half:], fillvalue=("",) * 5):
        table.add_row(*left, *right)
    return table


def _confusions(figures: Figures) -> Table:
    table = _table("Taken for another", "answered", "instances", "chances")
    table.columns[1].justify = "left"
    for one in figures.confusions[:_MOST_CONFUSIONS]:
        table.add_row(one.asked, one.answered, str(one.count), str(one.chances))
    rest = figures.confusions[_MOST_CONFUSIONS:]
    table.add_row(f"{len(rest)} other pairs", "", str(sum(one.count for one in rest)), "")
    return table


def _plan_parts(figures: Figures) -> Table:
    table = _table("Part of a plan", "plans", "needed", "missing then", "used needlessly else")
    for one in figures.plan_parts:
        shares = (f"{one.missing:.3f}", f"{one.needless:.3f}")
        table.add_row(one.part, str(one.plans), str(one.needed), *shares)
    return table


def _calibration(found: Calibration) -> Table:
    table = _table("Scores", "instances", "mean score", "right")
    for one in found.bins:
        values = (f"{one.score:.3f}", f"{one.right:.3f}") if one.instances else ("", "")
        table.add_row(f"{one.low:.1f} to {one.high:.1f}", str(one.instances), *values)
    table.add_row("expected error", "", "", f"{found.expected_error:.3f}")
    table.add_row(
        f"  of scores from {USED_THRESHOLD}", "", "", f"{found.expected_error_answered:.3f}"
    )
    table.add_row(f"F1 at {found.used.threshold}", "", "", f"{found.used.f1:.3f}")
    table.add_row(f"best F1, at {found.best.threshold}", "", "", f"{found.best.f1:.3f}")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
