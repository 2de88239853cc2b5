"""A sheet of the answers that went most wrong, for a person to look at.

Each row is one instruction: what was answered on the left, the truth on the right, and below them
the words, the plan that came back and whose fault the answer was.
"""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from services.codecs.masks import decode_rle
from services.codecs.render import overlay
from services.domain import ConceptQuery, Plan
from services.stickers.evaluation.marking import InstructionMark
from services.stickers.evaluation.worlds import Renderer
from services.stickers.instructions import Family
from services.stickers.scenes import Scene

_TILE = 360  # pixels of a picture's side, at most
_GAP = 12
_LINE = 18
_LINES = 4
_PAPER, _INK, _FAULT = (250, 250, 248), (24, 26, 32), (176, 32, 32)


def worst(marks: Sequence[InstructionMark], count: int) -> list[InstructionMark]:
    """At most `count` wrong answers, the families taking turns, the least F1 first."""
    wrong = [mark for mark in marks if not mark.exact]
    by_family = [
        sorted(
            (mark for mark in wrong if mark.question.instruction.family is family),
            key=lambda mark: (mark.comparison.f1, mark.seed),
        )
        for family in Family
    ]
    turns = [mark for turn in zip_longest(*by_family) for mark in turn if mark is not None]
    return turns[:count]


def draw(marks: Sequence[InstructionMark], renderer: Renderer) -> Image.Image:
    """The sheet of these answers about one renderer's scenes, two rows side by side."""
    rows = [_row(mark, renderer.scene(mark.seed)) for mark in marks] or [_blank()]
    width, height = rows[0].size
    sheet = Image.new("RGB", (2 * width, height * -(-len(rows) // 2)), _PAPER)
    for index, row in enumerate(rows):
        sheet.paste(row, (index % 2 * width, index // 2 * height))
    return sheet


def fault(mark: InstructionMark) -> str:
    """Whose fault a wrong answer is."""
    if mark.error is not None:
        return f"the call failed: {mark.error}"
    if mark.plan_right:
        return "plan right, masks wrong"
    return "plan wrong"


def describe(plan: Plan | None) -> str:
    """A plan in one line."""
    if plan is None:
        return "no plan"
    words = [", ".join(map(_named, plan.include)) or "nothing"]
    if plan.exclude:
        words.append("except " + ", ".join(map(_named, plan.exclude)))
    if plan.select is not None:
        select = plan.select
        words.append(f"select {select.by} rank {select.rank} count {select.count}")
    if plan.review:
        words.append("review")
    return f"{'; '.join(words)} ({plan.outcome})"


def _named(query: ConceptQuery) -> str:
    return query.phrase or "exemplars"


def _row(mark: InstructionMark, scene: Scene) -> Image.Image:
    instruction = mark.question.instruction
    row = _blank()
    truth = [scene.instances[index].mask for index in sorted(instruction.truth)]
    answered = [decode_rle(mask) for mask in mark.masks]
    for place, masks in enumerate((answered, truth)):
        row.paste(_picture(scene, masks), (_GAP + place * (_TILE + _GAP), _GAP))
    pen, font = ImageDraw.Draw(row), ImageFont.load_default(13)
    compared = mark.comparison
    lines = (
        (f"“{instruction.text}”", _INK),
        (f"plan: {describe(mark.plan)}", _INK),
        (f"canonical: {describe(instruction.plan)}", _INK),
        (
            f"{instruction.family}, seed {mark.seed}: {fault(mark)}; {compared.hits} of "
            f"{compared.wanted} found, {compared.answered - compared.hits} too many",
            _FAULT,
        ),
    )
    for index, (line, colour) in enumerate(lines):
        at = (_GAP, _GAP + _TILE + 4 + index * _LINE)
        pen.text(at, _fitted(line, font, row.width - 2 * _GAP), fill=colour, font=font)
    return row


def _blank() -> Image.Image:
    size = (2 * _TILE + 3 * _GAP, _TILE + _LINES * _LINE + 2 * _GAP)
    return Image.new("RGB", size, _PAPER)


def _picture(scene: Scene, masks: Sequence[np.ndarray]) -> Image.Image:
    picture = Image.fromarray(overlay(scene.image, masks))
    picture.thumbnail((_TILE, _TILE))
    return picture


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """As much of the text as fits, with an ellipsis for the rest."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
