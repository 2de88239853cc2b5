"""Preprocessing: what is trained on is, token for token, what the planner service asks."""

import numpy as np
from transformers import AutoTokenizer
from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

from services.planner.engines import Prompt, PromptImage
from services.planner.engines.transformers import TransformersPlannerEngine
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.prompt import PLAN_TOOL, plan_messages
from services.planner.settings import SHIPPED, PlannerSettings
from tests.training.planner.tiny import preprocessor
from training.planner.preprocessing import Preprocessor


def test_a_chat_is_split_behind_its_image() -> None:
    prepared = preprocessor()
    chat = prepared.planning_chat("The Dogs.")
    assert chat.count("<|image|>") == 1
    head, tail = prepared.split(chat, [3])
    text = prepared.tokenizer.decode(head + tail)
    assert text == prepared.expanded(chat, [3])
    assert text.endswith(
        "<|image><|image|><|image|><|image|><image|>the dogs.<turn|>\n<|turn>model\n"
    )
    assert prepared.tokenizer.decode(tail).startswith("the dogs.")
    # Splitting changes no token.
    assert head + tail == prepared.ids(text)


def test_an_answer_ends_as_gemma_ends_it() -> None:
    ids = preprocessor().answer("<|tool_call>call:plan{include:[]}<tool_call|>")
    assert preprocessor().tokenizer.convert_ids_to_tokens(ids[-1]) == "<|tool_response>"


class _Listening:
    """Stands where the engine's model is, and keeps what it is asked."""

    def __init__(self, model: object) -> None:
        self._model = model
        self.asked: list[list[int]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._model, name)

    def generate(self, **inputs: object) -> object:
        self.asked.append(inputs["input_ids"][0].tolist())  # type: ignore[index]
        return self._model.generate(**inputs)  # type: ignore[attr-defined]


def test_the_service_asks_what_was_learnt() -> None:
    engine = TransformersPlannerEngine(PlannerSettings(), RecordedPlannerMetrics())
    engine.load()
    listening = _Listening(engine._model)
    engine._model = listening
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    messages = plan_messages("The dogs, please!")
    engine.generate([Prompt(messages, [PromptImage(image)], [PLAN_TOOL])], lambda: True)

    prepared = Preprocessor.load(str(SHIPPED))
    _, _, (rows, columns) = prepared.patches(image)
    head, tail = prepared.split(prepared.planning_chat("The dogs, please!"), [rows * columns])
    assert listening.asked == [list(head + tail)]


def test_parts_are_the_checkpoints_own_but_for_the_size() -> None:
    prepared = Preprocessor.load(str(SHIPPED))
    own = Gemma4ImageProcessorPil.from_pretrained(SHIPPED)
    assert prepared.image_processor.max_soft_tokens == own.max_soft_tokens
    assert prepared.tokenizer.get_vocab() == AutoTokenizer.from_pretrained(SHIPPED).get_vocab()
    assert Preprocessor.load(str(SHIPPED), 280).image_processor.max_soft_tokens == 280
