"""The tiny Gemma 4's shape and first weights."""

import pytest
import torch
from torch.nn import functional
from transformers import Gemma4ForConditionalGeneration

from services.stickers.planner.config import (
    MAX_SOFT_TOKENS,
    Shape,
    model_config,
    new_image_processor,
    new_model,
)
from services.stickers.planner.train import new_teacher, word_forms
from services.stickers.vocabulary import Vocabulary

TOKENIZER = new_teacher().tokenizer


@pytest.fixture(scope="module")
def model() -> Gemma4ForConditionalGeneration:
    return new_model(Shape(), TOKENIZER, 0, word_forms(Vocabulary.load()))


def test_the_shipped_shape_is_tiny(model: Gemma4ForConditionalGeneration) -> None:
    assert 2e6 < sum(parameter.numel() for parameter in model.parameters()) < 4e6
    assert not any("audio" in name or "per_layer" in name for name in model.state_dict())


def test_ids_of_the_configuration_are_the_tokenizers() -> None:
    config = model_config(Shape(), TOKENIZER)
    assert config.image_token_id == TOKENIZER.convert_tokens_to_ids("<|image|>")
    assert config.text_config.vocab_size == len(TOKENIZER)
    assert config.text_config.bos_token_id == TOKENIZER.bos_token_id
    assert new_image_processor().max_soft_tokens == MAX_SOFT_TOKENS


def test_forms_of_a_word_start_alike_and_not_the_same(
    model: Gemma4ForConditionalGeneration,
) -> None:
    embeddings = model.get_input_embeddings().weight

    def embedding(word: str) -> torch.Tensor:
        (piece,) = TOKENIZER(word, add_special_tokens=False).input_ids
        return embeddings[piece]

    for form in (" dog", " dogs"):
        likeness = functional.cosine_similarity(embedding("dog"), embedding(form), dim=0)
        assert 0.5 < likeness < 0.99
    assert functional.cosine_similarity(embedding("dog"), embedding(" cat"), dim=0) < 0.5
    assert model.lm_head.weight is embeddings


def test_the_same_seed_gives_the_same_weights() -> None:
    shape = Shape(vision_width=32, vision_layers=1, text_width=32, text_layers=2, head_dim=16)
    first, second = (new_model(shape, TOKENIZER, seed=5).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = new_model(shape, TOKENIZER, seed=6).state_dict()
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
