"""The tiny tokenizer: Gemma's class and special tokens, short common words, nothing unknown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, GemmaTokenizer

from services.planner.prompt import PLAN_TOOL, plan_messages, review_messages
from tests.training.planner.tiny import tokenizer
from training.world.vocabulary import Vocabulary


@pytest.fixture(scope="module", autouse=True)
def _learned() -> None:
    """Learned before the first test, so that no example's time has it."""
    tokenizer()


def _ids(text: str) -> list[int]:
    return tokenizer()(text, add_special_tokens=False).input_ids


@pytest.mark.parametrize("concept", Vocabulary.load().concepts, ids=lambda c: c.name)
def test_names_are_a_piece_a_word(concept) -> None:  # type: ignore[no-untyped-def]
    for name in (concept.name, concept.plural):
        assert len(_ids(name)) == len(name.split())
        assert len(_ids(f"the {name}")) == 1 + len(name.split())


def test_a_typical_plan_is_short() -> None:
    assert len(_ids('<|tool_call>call:plan{include:[<|"|>dog<|"|>]}<tool_call|>')) == 7


@given(st.text(max_size=60))
def test_every_text_is_kept(text: str) -> None:
    ids = _ids(text)
    assert tokenizer().unk_token_id not in ids
    if "▁" not in text:  # Gemma's tokenizers write spaces so
        assert tokenizer().decode(ids) == text


def test_it_survives_saving_as_the_class_that_gemma_has(tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert isinstance(loaded, GemmaTokenizer)
    text = 'The dögs.\n<|tool_call>call:plan{include:[<|"|>dog<|"|>]}<tool_call|>'
    assert loaded(text).input_ids == tokenizer()(text).input_ids
    assert loaded.image_token == "<|image|>"
    assert loaded.boi_token == "<|image>"
    messages = plan_messages("The Dogs.")
    assert loaded.apply_chat_template(
        messages, tools=[PLAN_TOOL], tokenize=False, add_generation_prompt=True
    ) == (
        "<bos><|turn>system\n<|tool>declaration:plan{}<tool|><turn|>\n"
        "<|turn>user\n<|image|>the dogs.<turn|>\n<|turn>model\n"
    )


def test_a_retry_keeps_the_answer_as_it_was_written() -> None:
    answer = '<|tool_call>call:plan{include:[<|"|>Dog<|"|>]}<tool_call|>'
    chat = tokenizer().apply_chat_template(
        plan_messages("dogs", [(answer, "No")]), tools=[PLAN_TOOL], tokenize=False
    )
    assert f"<|turn>model\n{answer}<turn|>\n<|turn>user\nerror: no." in chat


def test_a_review_has_two_images() -> None:
    chat = tokenizer().apply_chat_template(review_messages("dogs", "dog", 2), tokenize=False)
    assert chat.count("<|image|>") == 2
    assert chat.startswith("<bos><|turn>user\n<|image|>")
