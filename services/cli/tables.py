"""Answers for a reader: the plan in words, the instances in a table."""

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from limelight import ConceptQuery, Plan, PlanOutcome, Segmentation

_ORDINALS = {1: "", 2: "2nd ", 3: "3rd "}


def show(answer: Segmentation, console: Console) -> None:
    """Print the whole answer."""
    console.print(Group(plan_line(answer.plan), *_body(answer)))


def plan_line(plan: Plan) -> Text:
    """The plan in one line: "plan  dog + girl, without cat, 2nd leftmost"."""
    line = Text.assemble(("plan  ", "bold"))
    if plan.include:
        line.append(" + ".join(_query(query) for query in plan.include), "cyan")
    else:
        line.append("nothing to look for", "yellow")
    if plan.exclude:
        line.append("  without ", "dim")
        line.append(" + ".join(_query(query) for query in plan.exclude), "magenta")
    if plan.select is not None:
        rank = _ORDINALS.get(plan.select.rank, f"{plan.select.rank}th ")
        count = f" {plan.select.count}" if plan.select.count > 1 else ""
        line.append("  only the ", "dim")
        line.append(f"{rank}{plan.select.by.value.replace('_', ' ')}{count}", "green")
    if plan.review:
        line.append("  reviewed", "blue")
    if plan.outcome is PlanOutcome.DEGRADED:
        line.append("  degraded: the instruction was taken as one phrase", "yellow")
    if plan.reason:
        line.append(f"\n      {plan.reason}", "dim")
    return line


def instance_table(answer: Segmentation) -> Table:
    """One row an instance."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name, style in (("id", "right"), ("label", "left"), ("score", "right")):
        table.add_column(name, justify=style)  # type: ignore[arg-type]
    table.add_column("box (x0 y0 x1 y1)", justify="right")
    table.add_column("pixels", justify="right")
    table.add_column("of image", justify="right")
    whole = max(1, answer.width * answer.height)
    for item in answer.instances:
        sides = (item.box.x0, item.box.y0, item.box.x1, item.box.y1)
        table.add_row(
            str(item.id),
            Text(item.label, style="cyan"),
            f"{item.score:.3f}",
            " ".join(f"{side:.0f}" for side in sides),
            f"{item.area:,}",
            f"{item.area / whole:.1%}",
        )
    return table


def footer(answer: Segmentation) -> Text:
    """Size, time and models, in one dim line."""
    parts = [f"{answer.width} x {answer.height} px"]
    if "total" in answer.timings_ms:
        stages = ", ".join(
            f"{stage} {value:.0f}"
            for stage, value in answer.timings_ms.items()
            # "planner.decode" is a part of "plan": in the JSON, not in a line for a person.
            if stage != "total" and "." not in stage
        )
        parts.append(f"{answer.timings_ms['total']:.0f} ms" + (f" ({stages})" if stages else ""))
    parts += [
        model.role if model.role == model.name else f"{model.role} {model.name}"
        for model in answer.models
    ]
    return Text(" · ".join(parts), style="dim")


def _body(answer: Segmentation) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if answer.instances:
        parts.append(instance_table(answer))
    if answer.summary:
        parts.append(Text(answer.summary, style="" if answer.instances else "yellow"))
    parts += [Text(warning, style="yellow") for warning in answer.warnings]
    return [*parts, footer(answer)]


def _query(query: ConceptQuery) -> str:
    boxes = len(query.exemplars)
    marks = f"{boxes} box{'es' if boxes > 1 else ''}" if boxes else ""
    return " with ".join(part for part in (query.phrase, marks) if part)
