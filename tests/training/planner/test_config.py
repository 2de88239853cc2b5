"""The tiny Gemma 4's shape and first weights."""

import pytest
import torch
from torch.nn import functional
from transformers import Gemma4ForConditionalGeneration

from tests.training.planner.tiny import SHAPE, tokenizer
from training.planner.config import (
    MAX_SOFT_TOKENS,
    Shape,
    model_config,
    new_image_processor,
    new_model,
    widen_positions,
)
from training.planner.models import word_forms
from training.world.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def model() -> Gemma4ForConditionalGeneration:
    return new_model(Shape(), tokenizer(), 0, word_forms(Vocabulary.load()))


def test_the_shipped_shape_is_tiny(model: Gemma4ForConditionalGeneration) -> None:
    assert 2e6 < sum(parameter.numel() for parameter in model.parameters()) < 4e6
    assert not any("audio" in name or "per_layer" in name for name in model.state_dict())


def test_ids_of_the_configuration_are_the_tokenizers() -> None:
    config = model_config(Shape(), tokenizer())
    assert config.image_token_id == tokenizer().convert_tokens_to_ids("<|image|>")
    assert config.text_config.vocab_size == len(tokenizer())
    assert config.text_config.bos_token_id == tokenizer().bos_token_id
    assert new_image_processor().max_soft_tokens == MAX_SOFT_TOKENS


def test_forms_of_a_word_start_alike_and_not_the_same(
    model: Gemma4ForConditionalGeneration,
) -> None:
    embeddings = model.get_input_embeddings().weight

    def embedding(word: str) -> torch.Tensor:
        (piece,) = tokenizer()(word, add_special_tokens=False).input_ids
        return embeddings[piece]

    for form in (" dog", " dogs"):
        likeness = functional.cosine_similarity(embedding("dog"), embedding(form), dim=0)
        assert 0.5 < likeness < 0.99
    assert functional.cosine_similarity(embedding("dog"), embedding(" cat"), dim=0) < 0.5
    assert model.lm_head.weight is embeddings


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = (new_model(SHAPE, tokenizer(), seed=5).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = new_model(SHAPE, tokenizer(), seed=6).state_dict()
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


def test_a_longer_table_of_positions_begins_with_the_old_one() -> None:
    model = new_model(SHAPE, tokenizer(), seed=5)
    embedder = model.model.vision_tower.patch_embedder
    old = embedder.position_embedding_table.detach().clone()
    rows = old.shape[1]
    pixels = torch.rand(1, 36, 768)
    places = torch.stack(torch.meshgrid(torch.arange(6), torch.arange(6), indexing="xy"), -1)
    places = places.view(1, 36, 2)
    with torch.no_grad():
        before = model.model.get_image_features(pixels, places, return_dict=True).pooler_output[0]
        widen_positions(model, rows + 9)
        after = model.model.get_image_features(pixels, places, return_dict=True).pooler_output[0]
    table = embedder.position_embedding_table
    assert table.shape[1] == rows + 9
    assert torch.equal(table[:, :rows], old)
    assert table[:, rows:].std() > 0.01
    assert table.requires_grad
    assert torch.equal(before, after)
    widen_positions(model, rows)  # long enough already
    assert embedder.position_embedding_table is table
