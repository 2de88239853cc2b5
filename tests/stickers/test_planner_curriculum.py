"""The curriculum: phases, reviews and own examples by step, and nothing by chance."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.stickers.planner.curriculum import Curriculum
from services.stickers.planner.examples import OwnExamples
from services.stickers.planner.recipe import FINE_TUNING, Recipe
from services.stickers.splits import TRAINING
from tests.stickers.test_planner_examples import GOOD, _written
from tests.stickers.tiny_planner import preprocessor, teacher

RECIPE = Recipe(scenes=2, questions=3, review_every=4)


@pytest.fixture
def examples(tmp_path: Path) -> OwnExamples:
    return OwnExamples.load(_written(tmp_path, *GOOD), preprocessor())


def test_every_step_has_its_lessons() -> None:
    curriculum = Curriculum(RECIPE, teacher())
    assert all(not lesson.turns for lesson in curriculum.lessons(5, answers=False))
    planned = curriculum.lessons(5, answers=True)
    assert [len(lesson.pictures) for lesson in planned] == [1, 1]
    assert all(1 <= len(lesson.turns) <= 3 for lesson in planned)
    reviewed = curriculum.lessons(8, answers=True)
    assert [len(lesson.pictures) for lesson in reviewed] == [2, 2]
    again = curriculum.lessons(5, answers=True)
    assert [one.turns for one in again] == [one.turns for one in planned]
    after = curriculum.lessons(6, answers=True)
    assert [one.turns for one in after] != [one.turns for one in planned]
    other = Curriculum(replace(RECIPE, seed=TRAINING[7]), teacher()).lessons(5, answers=True)
    assert [one.turns for one in other] != [one.turns for one in planned]
    assert Recipe().seed in TRAINING


def test_batches_add_up_to_a_step() -> None:
    curriculum = Curriculum(replace(RECIPE, accumulate=3), teacher())
    assert len(curriculum.lessons(5, answers=True)) == 6


def test_own_examples_take_their_share(examples: OwnExamples) -> None:
    recipe = replace(FINE_TUNING, scenes=4, own_share=0.5)
    mixed = Curriculum(recipe, teacher(looks=False), examples).lessons(1, answers=True)
    written = {answer for about in examples.pictures for answer in _answers(about)}
    own = [lesson for lesson in mixed if {answer for _, answer in lesson.turns} <= written]
    assert len(mixed) == 4
    assert len(own) == 2
    alone = Curriculum(recipe, None, examples).lessons(10, answers=True)
    assert len(alone) == 4
    assert all({answer for _, answer in lesson.turns} <= written for lesson in alone)


def _answers(about):  # type: ignore[no-untyped-def]
    from services.planner.calls import call_from_plan, format_call

    return [preprocessor().answer(format_call(call_from_plan(one.plan))) for one in about]


def test_what_cannot_be_learnt_is_refused(examples: OwnExamples) -> None:
    with pytest.raises(ValueError, match="nothing to learn from"):
        Curriculum(RECIPE)
    with pytest.raises(ValueError, match="no masks"):
        Curriculum(RECIPE, teacher(), examples)
