"""The shipped planner checkpoint: loads as any Gemma 4 does, is small, and plans sticker world."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import Gemma4ForConditionalGeneration

from limelight.values import ConceptQuery, Plan, SelectBy, Selection
from services.planner.calls import parse_call, plan_from_call
from services.planner.settings import SHIPPED
from training.datasets.sources import WorldScenes
from training.planner.evaluator import PlanEvaluator
from training.planner.examples import ExampleBuilder
from training.planner.figures import figures_of
from training.planner.preprocessing import Preprocessor
from training.planner.tokenizer import CHAT_TEMPLATE
from training.world.backgrounds import draw_background
from training.world.instructions import Family, InstructionWriter
from training.world.scenes import Placement, compose
from training.world.splits import HELD_OUT
from training.world.vocabulary import Vocabulary

WRITER = InstructionWriter(Vocabulary.load())


@pytest.fixture(scope="module")
def model() -> Gemma4ForConditionalGeneration:
    return Gemma4ForConditionalGeneration.from_pretrained(SHIPPED).eval()


@pytest.fixture(scope="module")
def evaluator() -> PlanEvaluator:
    return PlanEvaluator(ExampleBuilder(WorldScenes(), Preprocessor.load(str(SHIPPED))))


@pytest.fixture(scope="module")
def planned(
    model: Gemma4ForConditionalGeneration, evaluator: PlanEvaluator
) -> Callable[[str], Plan]:
    """Plans about a picture of a girl, three dogs and an umbrella."""
    stickers = (
        ("girl", (0.25, 0.5), 0.5),
        ("dog", (0.6, 0.3), 0.25),
        ("dog", (0.85, 0.6), 0.3),
        ("dog", (0.55, 0.8), 0.3),
        ("umbrella", (0.85, 0.2), 0.22),
    )
    placements = [Placement(WRITER.vocabulary.by_name[name], at, k) for name, at, k in stickers]
    scene = compose(placements, draw_background(np.random.default_rng(3), (640, 480)))
    chat = evaluator.builder.preprocessor.planning_chat
    with torch.inference_mode():
        return lambda text: plan_from_call(
            parse_call(evaluator.answers(model, [((scene.image,), chat(text))])[0][0])
        )


def test_it_is_small() -> None:
    sizes = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert sum(sizes.values()) < 18 * 2**20
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(sizes)
    assert (SHIPPED / "chat_template.jinja").read_text() == CHAT_TEMPLATE


def test_the_spotlight_falls_on_the_girl_and_the_dogs(planned: Callable[[str], Plan]) -> None:
    plan = planned("Put the main subjects in the spotlight.")
    assert plan == Plan((ConceptQuery("girl"), ConceptQuery("dog")))


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("Please segment all dogs!", Plan((ConceptQuery("dog"),))),
        ("the red apple and the cat", Plan((ConceptQuery("red apple"), ConceptQuery("cat")))),
        (
            "the second penguin from the left",
            Plan((ConceptQuery("penguin"),), select=Selection(SelectBy.LEFTMOST, rank=2)),
        ),
        (
            "THE TWO SMALLEST BOOKS",
            Plan((ConceptQuery("book"),), select=Selection(SelectBy.SMALLEST, count=2)),
        ),
        ("something that protects from the rain", Plan((ConceptQuery("umbrella"),))),
    ],
)
def test_what_the_text_says_is_planned(
    planned: Callable[[str], Plan], text: str, plan: Plan
) -> None:
    assert planned(text) == plan


@pytest.mark.slow
def test_held_out_scenes_are_mostly_planned_right(
    model: Gemma4ForConditionalGeneration, evaluator: PlanEvaluator
) -> None:
    answered = evaluator.plans(model, HELD_OUT[:12], size=(320, 288))
    figures = figures_of(answered, [], WRITER.vocabulary)
    assert set(figures.families) == {family.value for family in Family}
    assert figures.exact.value >= 0.6, figures.brief()
