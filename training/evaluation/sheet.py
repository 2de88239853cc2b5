"""A sheet of the answers that went most wrong, for a person to look at.

Each row is one instruction: what was answered on the left, the truth on the right, and above them
the words, the plan that came back and whose fault the answer was.
"""

from collections.abc import Sequence
from itertools import zip_longest

from matplotlib.figure import Figure

from limelight.masks import decode_rle
from limelight.values import ConceptQuery, Plan
from services.codecs.render import overlay
from training.evaluation.scoring import InstructionScore
from training.evaluation.worlds import Renderer
from training.world.instructions import Family

_ROW = (8.0, 4.6)  # inches


def worst(scores: Sequence[InstructionScore], count: int) -> list[InstructionScore]:
    """At most `count` wrong answers, the families taking turns, the least F1 first."""
    wrong = [score for score in scores if not score.exact]
    by_family = [
        sorted(
            (score for score in wrong if score.question.instruction.family is family),
            key=lambda score: (score.comparison.f1, score.seed),
        )
        for family in Family
    ]
    turns = [score for turn in zip_longest(*by_family) for score in turn if score is not None]
    return turns[:count]


def draw(scores: Sequence[InstructionScore], renderer: Renderer) -> Figure:
    """The sheet of these answers about one renderer's scenes."""
    figure = Figure((_ROW[0], _ROW[1] * max(1, len(scores))), layout="constrained")
    rows = figure.subfigures(max(1, len(scores)), 1, squeeze=False)[:, 0]
    for score, row in zip(scores, rows, strict=False):
        scene = renderer.scene(score.seed)
        row.suptitle(_caption(score), x=0.02, ha="left", fontsize="small", wrap=True)
        truth = sorted(score.question.instruction.truth)
        answered, true = row.subplots(1, 2)
        answered.imshow(overlay(scene.image, [decode_rle(mask) for mask in score.masks]))
        true.imshow(overlay(scene.image, [scene.instances[index].mask for index in truth]))
        for axes in (answered, true):
            axes.set_axis_off()
    return figure


def fault(score: InstructionScore) -> str:
    """Whose fault a wrong answer is."""
    if score.error is not None:
        return f"the call failed: {score.error}"
    return "plan right, masks wrong" if score.plan_right else "plan wrong"


def describe(plan: Plan | None) -> str:
    """A plan in one line."""
    if plan is None:
        return "no plan"
    parts = [", ".join(map(_named, plan.include)) or "nothing"]
    if plan.exclude:
        parts.append("except " + ", ".join(map(_named, plan.exclude)))
    if (select := plan.select) is not None:
        parts.append(f"select {select.by} rank {select.rank} count {select.count}")
    if plan.review:
        parts.append("review")
    return f"{'; '.join(parts)} ({plan.outcome})"


def _named(query: ConceptQuery) -> str:
    return query.phrase or "exemplars"


def _caption(score: InstructionScore) -> str:
    instruction, compared = score.question.instruction, score.comparison
    return (
        f"“{instruction.text}”\nplan: {describe(score.plan)}\n"
        f"canonical: {describe(instruction.plan)}\n{instruction.family}, seed {score.seed}: "
        f"{fault(score)}; {compared.hits} of {compared.wanted} found, "
        f"{compared.answered - compared.hits} too many"
    ).replace("$", r"\$")  # or matplotlib takes it for mathematics
