"""Confusions counted from scores made by hand."""

from pathlib import Path

from PIL import Image

from training.evaluation.confusion import Confusion, confusions, draw
from training.evaluation.matching import compare
from training.evaluation.questions import PhraseKind, PhraseQuestion
from training.evaluation.scoring import PhraseScore
from training.world.phrases import matching_concepts
from training.world.vocabulary import Vocabulary

NAMES = Vocabulary.load().by_name


def score(phrase: str, concept: str, beside: list[str], confused: list[str]) -> PhraseScore:
    return PhraseScore(
        seed=0,
        question=PhraseQuestion(
            PhraseKind.NAME, phrase, NAMES[concept], matching_concepts(phrase), (), ()
        ),
        comparison=compare([], [], []),
        presence_right=True,
        beside=tuple(NAMES[name].index for name in beside),
        confused=tuple(NAMES[name].index for name in confused),
        error=None,
    )


MARKS = [
    score("red apple", "red apple", ["green apple", "dog", "green apple"], ["green apple"] * 2),
    score("red apples", "red apple", ["green apple"], []),
    score("dog", "dog", ["cat", "lion"], ["cat"]),
    score("dogs", "dog", ["cow"], []),
]


def test_counts_and_chances_are_by_pair_the_most_frequent_first() -> None:
    assert confusions(MARKS) == (
        Confusion("red apple", "green apple", 2, 3),
        Confusion("dog", "cat", 1, 1),
    )


def test_the_matrix_shows_what_was_confused_alone(tmp_path: Path) -> None:
    axes = draw(confusions(MARKS), "title").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["dog", "red apple"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "green apple"]
    assert sorted(text.get_text() for text in axes.texts) == ["1/1", "2/3"]
    draw((), "nothing").savefig(tmp_path / "none.png")
    with Image.open(tmp_path / "none.png") as opened:
        assert opened.width > 100
