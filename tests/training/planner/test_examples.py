"""Examples: the same for the same seed, and answered in calls that can be parsed."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from services.planner.calls import parse_call, plan_from_call, verdict_from_call
from tests.training.planner.tiny import builder, preprocessor
from training.planner.examples import ExampleBuilder, NothingToAsk, with_second_look
from training.planner.scenery import PlannerScenes
from training.planner.tokenizer import TOOL_RESPONSE
from training.world.instructions import Family, Instruction, InstructionWriter
from training.world.scenes import Scene, compose
from training.world.splits import TRAINING
from training.world.vocabulary import Vocabulary

SEED = (TRAINING[0], 1)
BUILDER = builder()


def _decoded(ids: tuple[int, ...]) -> str:
    return str(preprocessor().tokenizer.decode(ids))


def test_a_lesson_is_the_same_for_the_same_seed() -> None:
    first, second = (BUILDER.planning((*SEED, 3), 3) for _ in range(2))
    assert first.turns == second.turns
    assert (first.images[0].patches == second.images[0].patches).all()
    assert first.turns != BUILDER.planning((*SEED, 4), 3).turns


def test_answers_are_calls_that_end_as_gemma_ends_them() -> None:
    turns = [turn for index in range(6) for turn in BUILDER.planning((*SEED, index), 4).turns]
    for _, answer in turns:
        text = _decoded(answer)
        assert text.endswith(TOOL_RESPONSE)
        plan_from_call(parse_call(text))
        assert len(answer) <= 64


def test_reviews_show_two_pictures_and_want_both_verdicts() -> None:
    examples = [BUILDER.reviewing((*SEED, index), 4) for index in range(4)]
    assert all(len(example.images) == 2 for example in examples)
    texts = [_decoded(answer) for example in examples for _, answer in example.turns]
    verdicts = [verdict_from_call(parse_call(text))[0] for text in texts]
    assert 0.3 < np.mean(verdicts) < 0.7
    # The close-up shows the candidate and nothing else.
    for example in examples:
        close_up = example.images[1]
        assert close_up.present.sum() == 1
        assert (close_up.coverage.any(axis=0) == (close_up.present > 0)).all()


def test_looking_asks_nothing_and_needs_a_head() -> None:
    example = BUILDER.dense((*SEED, 1), (256, 256))
    assert not example.turns
    assert example.images[0].coverage.shape[1] == 48
    unseeing = replace(BUILDER, labeled=False)
    assert unseeing.planning((*SEED, 3), 3).turns == BUILDER.planning((*SEED, 3), 3).turns
    assert unseeing.planning((*SEED, 3), 3).images[0].coverage.shape[1] == 0
    assert all(p.coverage.shape[1] == 0 for p in unseeing.reviewing((*SEED, 3), 3).images)


def test_some_questions_are_asked_again_after_a_broken_answer() -> None:
    questions = [
        _decoded(question)
        for index in range(40)
        for question, _ in BUILDER.planning((*SEED, index), 8).turns
    ]
    again = [text for text in questions if "error: " in text]
    assert 0 < len(again) < 0.1 * len(questions)
    assert all(text.count("<|turn>model") == 2 for text in again)


def test_a_second_look_changes_the_plan_and_says_so() -> None:
    rng = np.random.default_rng(2)
    scene = BUILDER.source.scene(rng, size=(128, 128))
    plain = BUILDER.writer.generate(scene, rng, Family.PHRASE)
    assert plain is not None
    looked = with_second_look(plain, rng)
    assert looked.plan == replace(plain.plan, review=True)
    assert looked.truth == plain.truth
    assert looked.text.startswith(plain.text.rstrip("?!. "))
    assert any(word in looked.text for word in ("check", "look", "review", "make sure"))


@dataclass(frozen=True)
class _Empty(PlannerScenes):
    """A source whose first scenes show nothing."""

    blanks: int = 2
    drawn: list[Scene] = field(default_factory=list)

    def scene(self, rng, *, size=None, crowded=False):  # type: ignore[no-untyped-def]
        if len(self.drawn) < self.blanks:
            scene = compose((), np.zeros((64, 64, 3), np.uint8))
        else:
            scene = super().scene(rng, size=size, crowded=crowded)
        self.drawn.append(scene)
        return scene


class _Tonguetied(InstructionWriter):
    """A writer to whom nothing occurs about an empty scene."""

    def generate(self, scene, rng, family=None) -> Instruction | None:  # type: ignore[no-untyped-def]
        return super().generate(scene, rng, family) if scene.instances else None


@pytest.mark.parametrize("kind", ["planning", "reviewing"])
def test_a_lesson_always_asks_something(kind: str) -> None:
    """Without a question there would be a picture and no place for it in the row."""
    source = _Empty(Vocabulary.load())
    taught = _taught(source)
    assert getattr(taught, kind)((*SEED, 2), 3).turns
    assert len(source.drawn) >= 3


@pytest.mark.parametrize("kind", ["planning", "reviewing"])
def test_a_source_without_anything_to_ask_about_is_told(kind: str) -> None:
    with pytest.raises(NothingToAsk, match="in a row"):
        getattr(_taught(_Empty(Vocabulary.load(), blanks=10_000)), kind)((*SEED, 2), 3)


def _taught(source: PlannerScenes) -> ExampleBuilder:
    taught = ExampleBuilder(source, preprocessor())
    taught.__dict__["writer"] = _Tonguetied(source.vocabulary)
    return taught
