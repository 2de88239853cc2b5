"""Which concepts are taken for which: a phrase was asked, and a sticker of another concept came.

Flow: phrase scores -> `confusions` -> the report, and `draw` for a person.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from training.evaluation.scoring import PhraseScore
from training.world.vocabulary import Vocabulary

_INCHES_A_CELL = 0.42


@dataclass(frozen=True)
class Confusion:
    """One concept taken for another.

    Attributes:
        asked: name of the concept that a phrase was asked for.
        answered: name of the concept that an answered mask really shows (IoU 0.5 or more).
        count: how many such masks came.
        chances: instances of `answered` in the pictures of which `asked` was asked.
    """

    asked: str
    answered: str
    count: int
    chances: int


def confusions(scores: Iterable[PhraseScore]) -> tuple[Confusion, ...]:
    """All that were seen, the most frequent first. A shared head noun excuses all it means."""
    counts: Counter[tuple[int, int]] = Counter()
    chances: Counter[tuple[int, int]] = Counter()
    for score in scores:
        asked = score.question.concept.index
        counts.update((asked, answered) for answered in score.confused)
        chances.update((asked, there) for there in score.beside)
    names = [concept.name for concept in Vocabulary.load().concepts]
    return tuple(
        Confusion(names[asked], names[answered], count, chances[asked, answered])
        for (asked, answered), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def draw(found: Sequence[Confusion], title: str) -> Figure:
    """The counts as a matrix: asked down, answered across, those without a confusion left out."""
    order = {concept.name: concept.index for concept in Vocabulary.load().concepts}
    asked = sorted({one.asked for one in found}, key=order.__getitem__)
    answered = sorted({one.answered for one in found}, key=order.__getitem__)
    figure = Figure(
        (2.6 + _INCHES_A_CELL * len(answered), 2.2 + _INCHES_A_CELL * len(asked)),
        layout="constrained",
    )
    axes = figure.subplots()
    axes.set_title(title if found else f"{title}: none")
    axes.set_xlabel("answered")
    axes.set_ylabel("asked")
    counts = np.zeros((max(1, len(asked)), max(1, len(answered))))
    for one in found:
        row, column = asked.index(one.asked), answered.index(one.answered)
        counts[row, column] = one.count
        axes.text(
            column,
            row,
            f"{one.count}/{one.chances}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if one.count > found[0].count / 2 else "black",
        )
    axes.imshow(counts, cmap="Reds", vmin=0)
    axes.set_xticks(range(len(answered)), answered, rotation=90)
    axes.set_yticks(range(len(asked)), asked)
    return figure
