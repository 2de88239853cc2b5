from pathlib import Path

import pytest
from transformers import AutoTokenizer, CLIPTokenizer

from training.segmenter.models import new_tokenizer
from training.segmenter.tokenizer import special_tokens
from training.world.phrases import PhraseBook
from training.world.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return new_tokenizer(PhraseBook(Vocabulary.load()))


def test_names_take_one_token_a_word(tokenizer: CLIPTokenizer):
    for concept in Vocabulary.load().concepts:
        words = len(concept.name.split())
        assert len(tokenizer(concept.name).input_ids) == words + 2


def test_phrases_open_and_close_as_clips_do(tokenizer: CLIPTokenizer):
    tokens = special_tokens(tokenizer)
    ids = tokenizer("red apple").input_ids
    assert (ids[0], ids[-1]) == (tokens.start, tokens.end)
    assert tokens.end == len(tokenizer) - 1, "CLIP pools at the highest id"
    assert tokenizer.pad_token_id == tokens.end


def test_any_text_has_tokens_and_case_does_not_matter(tokenizer: CLIPTokenizer):
    assert tokenizer("Red APPLE").input_ids == tokenizer("red apple").input_ids
    for text in ("zebra", "déjà vu 🦓", "x" * 40, "日本"):
        ids = tokenizer(text).input_ids[1:-1]
        assert ids
        assert max(ids) < len(tokenizer) - 2, "an unknown token"


def test_reads_back_from_its_folder(tokenizer: CLIPTokenizer, tmp_path: Path):
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("the green books").input_ids == tokenizer("the green books").input_ids
    assert again.model_max_length == 32
    assert len(again) <= 1024
