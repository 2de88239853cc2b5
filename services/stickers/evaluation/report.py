"""What an evaluation found: a table for people, JSON for programs, and whether it suffices."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from limelight import ModelInfo
from services.stickers.evaluation.figures import Detection, Figures


@dataclass(frozen=True)
class Report:
    """The figures and what they were measured on.

    Attributes:
        split, first_seed, scenes: the seeds are `scenes` consecutive ones of the split.
        perfect_plans: whether canonical plans were asked instead of instructions.
        models: all that answered; more than one of a role means that it changed meanwhile.
        seconds: the examination took, the start of a stack apart.
        figures: what was measured.
    """

    split: str
    first_seed: int
    scenes: int
    perfect_plans: bool
    models: tuple[ModelInfo, ...]
    seconds: float
    figures: Figures

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def headline(self) -> Mapping[str, float]:
        """The figures that thresholds can be set for, by name."""
        figures = self.figures
        return {
            "phrase-f1": figures.phrases.all.f1,
            "presence": figures.phrases.presence,
            "exemplar-f1": figures.exemplars.f1,
            "instructions": figures.instructions.exact,
        }

    def shortfalls(self, least: Mapping[str, float | None]) -> list[str]:
        """A sentence for each headline figure below its least allowed value."""
        return [
            f"{name} is {self.headline[name]:.3f}, below {wanted:g}"
            for name, wanted in least.items()
            if wanted is not None and self.headline[name] < wanted
        ]


def show(report: Report, console: Console) -> None:
    """Print the tables, and last what they were measured on."""
    figures = report.figures
    console.print(_detections(figures))
    console.print(_presence(figures))
    console.print(_instructions(report))
    console.print(f"Plans: {_counts(figures.outcomes)}")
    failed = sum(figures.errors.values())
    console.print(f"Failed calls, counted as wrong answers: {failed} of {figures.calls}", end="")
    console.print(f" ({_counts(figures.errors)})" if failed else "")
    last = report.first_seed + report.scenes - 1
    console.print(
        f"{report.scenes} scenes, {report.split} seeds {report.first_seed} to {last}, "
        f"{figures.calls} calls in {report.seconds:.0f} s"
    )
    for model in report.models:
        console.print(f"{model.role}: {model.name}, revision {model.revision} ({model.engine})")


def _detections(figures: Figures) -> Table:
    table = _table("Instances", "queries", "F1@0.5", "F1@0.75", "precision", "recall", "mean IoU")
    rows: Iterable[tuple[str, Detection]] = (
        ("phrases, absent ones included", figures.phrases.all),
        ("phrases of what is there", figures.phrases.present),
        *((f"  by {kind}", one) for kind, one in figures.phrases.kinds.items() if one.wanted),
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


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"
