"""What an evaluation found of one world: tables for people, JSON for programs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from limelight import ModelInfo
from training.evaluation.calibration import USED_THRESHOLD, Calibration
from training.evaluation.figures import EvaluationFigures
from training.evaluation.matching import DetectionFigures
from training.evaluation.worlds import World

_MOST_CONFUSIONS = 12


@dataclass(frozen=True)
class EvaluationReport:
    """The figures and what they were measured on.

    Attributes:
        world: whose scenes.
        split, first_seed, scenes: the seeds are `scenes` consecutive ones of the world's split.
        perfect_plans: whether canonical plans were asked instead of instructions.
        models: all that answered; more than one of a role means that it changed meanwhile.
        seconds: the evaluation took, the start of a stack apart.
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
    figures: EvaluationFigures
    backgrounds: Mapping[str, DetectionFigures] = field(default_factory=dict)
    calibration: Calibration | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def show(report: EvaluationReport, console: Console) -> None:
    """Print the tables, and last what they were measured on."""
    figures = report.figures
    console.rule(f"{report.world} world")
    console.print(_detections(report), _negatives(figures), _presence(figures), _concepts(figures))
    console.print(_confusions(figures), _instructions(report), _plan_parts(figures))
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


def _detections(report: EvaluationReport) -> Table:
    figures = report.figures
    table = figure_table(
        "Instances", "queries", "F1@0.5", "F1@0.75", "precision", "recall", "mean IoU"
    )
    for name, found in (
        ("phrases, absent ones included", figures.phrases.all),
        ("phrases of what is there", figures.phrases.present),
        *((f"  by {kind}", one) for kind, one in figures.phrases.kinds.items() if one.wanted),
        *((f"  on {kind}", one) for kind, one in report.backgrounds.items()),
        ("exemplar boxes", figures.exemplars),
        ("  with a negative box", figures.exemplars_negative),
    ):
        shares = (found.f1, found.f1_strict, found.precision, found.recall, found.mean_iou)
        _row(table, name, found.queries, *shares)
    return table


def _negatives(figures: EvaluationFigures) -> Table:
    table = figure_table("Negative boxes", "queries", "negated", "gone", "others", "still there")
    _row(table, "beside a phrase", *vars(figures.negatives).values())
    return table


def _presence(figures: EvaluationFigures) -> Table:
    phrases = figures.phrases
    table = figure_table("Presence", "right", "false instances a query")
    _row(table, "all phrases", phrases.presence)
    for kind, share in phrases.presence_by_kind.items():
        found = phrases.kinds[kind]
        _row(table, f"  {kind}", share, "" if found.wanted else found.answered / found.queries)
    _row(table, "absent ones together", "", phrases.false_per_absent)
    return table


def _instructions(report: EvaluationReport) -> Table:
    figures = report.figures
    title = "Plans of a perfect planner" if report.perfect_plans else "Instructions"
    table = figure_table(
        title, "asked", "exactly right", "plan right", "masks wrong", "plan wrong", "luck"
    )
    for name, one in (*figures.families.items(), ("all", figures.instructions)):
        _row(table, name, *vars(one).values())
    _row(table, "mean of the families", "", figures.family_mean)
    return table


def _concepts(figures: EvaluationFigures) -> Table:
    """All concepts, in two columns of rows."""
    columns = ("queries", "F1@0.5", "F1@0.75", "presence")
    table = figure_table("Concept", *columns, "", *columns)
    table.columns[5].justify = "left"
    rows = []
    for one in figures.concepts:
        # Where nothing is wanted and nothing came, an F1 says nothing.
        f1 = (one.f1, one.f1_strict) if one.wanted + one.answered else ("", "")
        rows.append((one.concept, one.queries, *f1, one.presence))
    half = -(-len(rows) // 2)
    for left, right in zip_longest(rows[:half], rows[half:], fillvalue=("",) * 5):
        _row(table, *left, *right)
    return table


def _confusions(figures: EvaluationFigures) -> Table:
    table = figure_table("Taken for another", "answered", "instances", "chances")
    table.columns[1].justify = "left"
    for one in figures.confusions[:_MOST_CONFUSIONS]:
        _row(table, one.asked, one.answered, one.count, one.chances)
    rest = figures.confusions[_MOST_CONFUSIONS:]
    _row(table, f"{len(rest)} other pairs", "", sum(one.count for one in rest))
    return table


def _plan_parts(figures: EvaluationFigures) -> Table:
    table = figure_table(
        "Part of a plan", "plans", "needed", "missing then", "used needlessly else"
    )
    for one in figures.plan_parts:
        _row(table, *vars(one).values())
    return table


def _calibration(found: Calibration) -> Table:
    table = figure_table("Scores", "instances", "mean score", "right")
    for one in found.bins:
        values = (one.score, one.right) if one.instances else ()
        _row(table, f"{one.low:.1f} to {one.high:.1f}", one.instances, *values)
    _row(table, "expected error", "", "", found.expected_error)
    _row(table, f"  of scores from {USED_THRESHOLD}", "", "", found.expected_error_answered)
    _row(table, f"F1 at {found.used.threshold}", "", "", found.used.f1)
    _row(table, f"best F1, at {found.best.threshold}", "", "", found.best.f1)
    return table


def figure_table(*columns: str) -> Table:
    """An empty table of figures: the first column says what, the others are numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _row(table: Table, *cells: str | float) -> None:
    """Add a row; shares have three digits, counts are whole."""
    table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in cells))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
