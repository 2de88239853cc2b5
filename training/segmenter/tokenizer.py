"""The text tokenizer of the tiny segmenter: CLIP's kind, with a small vocabulary.

A byte-level BPE trained on the world's phrases and common words: known names are one or two
tokens, anything else still has tokens. Saved beside the weights, so that
``AutoTokenizer.from_pretrained(folder)`` gives it back.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
# CLIP's own pattern: contractions, runs of letters, single digits, runs of other signs.
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that open and close a phrase; the closing one also pads."""

    start: int
    end: int


def train_tokenizer(
    phrases: Sequence[str], words: Iterable[str], size: int, max_length: int
) -> CLIPTokenizer:
    """A CLIP tokenizer of at most `size` tokens, laid out as CLIP's: bytes, bytes that end a
    word, merges, the two special tokens.

    Args:
        phrases: the world's phrases; they weigh most.
        words: other words worth a short spelling.
        size: bound on the vocabulary, more than 514.
        max_length: `model_max_length` of the result, tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [byte + _WORD_END for byte in alphabet]
    merges: list[tuple[str, str]] = []
    for pair in _learned_merges([*list(phrases) * 50, *words], alphabet):
        if len(tokens) + 2 == size:
            break
        merges.append(pair)
        tokens.append("".join(pair))
    vocabulary = {token: index for index, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=max_length)


def special_tokens(tokenizer: CLIPTokenizer) -> SpecialTokens:
    """The ids that the model's configuration needs."""
    return SpecialTokens(start=tokenizer.bos_token_id, end=tokenizer.eos_token_id)


def _learned_merges(corpus: Iterable[str], alphabet: Sequence[str]) -> list[tuple[str, str]]:
    bpe = Tokenizer(BPE(end_of_word_suffix=_WORD_END))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = BpeTrainer(
        vocab_size=4096,
        initial_alphabet=list(alphabet),
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    bpe.train_from_iterator(corpus, trainer)
    return [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
