"""The evaluator: answers are executed and compared, whatever their wording."""

import numpy as np
import pytest
import torch
from transformers import GenerationConfig

from services.planner.calls import Call, call_from_plan, format_call
from tests.training.planner.tiny import SHAPE, preprocessor
from training.datasets.sources import WorldScenes
from training.planner.config import new_model
from training.planner.evaluator import PlanAnswer, PlanEvaluator
from training.planner.examples import ExampleBuilder
from training.world.instructions import Family
from training.world.splits import VALIDATION

SEEDS = VALIDATION[:4]
BUILDER = ExampleBuilder(WorldScenes(size=(96, 96)), preprocessor(), labeled=False)


class _Scripted(PlanEvaluator):
    """An evaluator whose model is a function of the chat."""

    def answers(self, model, chats):  # type: ignore[no-untyped-def]
        return [(model(chat), 5) for _, chat in chats]


def _evaluated(model) -> list[PlanAnswer]:  # type: ignore[no-untyped-def]
    return _Scripted(BUILDER, batch=3).plans(model, SEEDS)


def _plans() -> dict[str, str]:
    """The canonical answers by chat."""
    asked = [one.instruction for one in _evaluated(lambda chat: "")]
    return {
        preprocessor().planning_chat(one.text): format_call(call_from_plan(one.plan))
        for one in asked
    }


def test_canonical_plans_are_all_right_and_silence_is_all_wrong() -> None:
    right = _evaluated(_plans().__getitem__)
    assert len(right) > 20
    assert all(one.exact for one in right)
    assert all(one.plan == one.instruction.plan for one in right)
    assert all(one.found_concepts == one.wanted_concepts for one in right)
    silent = _evaluated(lambda chat: "I see a dog.")
    assert len(silent) == len(right)
    assert not any(one.exact or one.plan or one.found for one in silent)


def test_each_scene_is_asked_for_every_family_and_a_second_look() -> None:
    asked = _evaluated(lambda chat: "")
    looks = [one for one in asked if one.second_look]
    assert len(looks) == len(SEEDS)
    assert all(one.instruction.plan.review for one in looks)
    families = {one.instruction.family for one in asked if not one.second_look}
    assert families == set(Family)


def test_another_plan_with_the_same_answer_is_right() -> None:
    unicorn = format_call(Call("plan", {"include": ["unicorn"]}))
    answered = _evaluated(lambda chat: unicorn)
    assert {one.exact for one in answered if not one.instruction.truth} == {True}
    assert {one.exact for one in answered if one.instruction.truth} == {False}


def test_verdicts_are_compared_with_the_truth() -> None:
    evaluator = _Scripted(BUILDER, batch=3)
    yes = format_call(Call("verdict", {"accept": True}))
    judged = evaluator.reviews(lambda chat: yes, VALIDATION[:12], each=2)  # type: ignore[arg-type]
    assert len(judged) > 12
    assert {one.accepted for one in judged} == {True}
    assert {one.accept for one in judged} == {True, False}
    broken = evaluator.reviews(lambda chat: "yes", VALIDATION[:2])  # type: ignore[arg-type]
    assert {one.accepted for one in broken} == {None}


def test_batching_changes_no_answer() -> None:
    model = new_model(SHAPE, preprocessor().tokenizer, seed=4).eval()
    model.generation_config = GenerationConfig(pad_token_id=0)
    evaluator = PlanEvaluator(BUILDER)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in ((90, 130), (130, 80))]
    prepared = preprocessor()
    chats = [
        ((images[0],), prepared.planning_chat("the dogs")),
        ((images[1],), prepared.planning_chat("the second penguin from the left")),
    ]
    with torch.inference_mode():
        together = evaluator.answers(model, chats)
        assert together == [evaluator.answers(model, [chat])[0] for chat in chats]


def test_an_answer_stops_where_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = preprocessor().tokenizer
    call = format_call(Call("plan", {"include": ["dog"]}))
    ids = [*preprocessor().answer(call), *tokenizer("<pad><pad>").input_ids]

    class Written:
        device, dtype = torch.device("cpu"), torch.float32
        config = new_model(SHAPE, tokenizer, seed=4).config

        def generate(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
            return torch.cat([input_ids, torch.tensor([ids])], dim=1)

    image = np.zeros((64, 64, 3), np.uint8)
    chat = preprocessor().planning_chat("the dogs")
    ((text, tokens),) = PlanEvaluator(BUILDER).answers(Written(), [((image,), chat)])  # type: ignore[arg-type]
    assert text == f"{call}<|tool_response>"
    assert tokens == len(preprocessor().answer(call))
