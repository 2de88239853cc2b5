"""The tiny segmenter's parts, put together as its trainer does."""

from pathlib import Path
from typing import Any

from transformers import Sam3Model

from services.stickers.phrases import PhraseBook
from services.stickers.segmenter.checkpoint import new_model, new_tokenizer
from services.stickers.segmenter.data import BatchMaker, name_tokens
from services.stickers.segmenter.grids import Grids
from services.stickers.segmenter.loop import Trainer
from services.stickers.segmenter.plan import Plan
from services.stickers.segmenter.sampling import PhraseSampler
from services.stickers.segmenter.scenes import PracticeScenes
from services.stickers.vocabulary import Vocabulary

BOOK = PhraseBook(Vocabulary.load())
SAMPLER = PhraseSampler(BOOK)
TOKENIZER = new_tokenizer(BOOK)
GRIDS = Grids(image=240, tokens=20, masks=80)


def tiny_model(seed: int = 1) -> Sam3Model:
    return new_model(TOKENIZER, seed)


def batch_maker(kind: type[BatchMaker] = BatchMaker, **changes: Any) -> BatchMaker:
    fields = {"most_targets": 25, "phrases_per_image": 2} | changes
    return kind(PracticeScenes(SAMPLER), SAMPLER, TOKENIZER, GRIDS, **fields)


def tiny_trainer(
    out: Path,
    plan: Plan,
    batches: BatchMaker | None = None,
    model: Sam3Model | None = None,
    **changes: Any,
) -> Trainer:
    names = name_tokens(TOKENIZER, BOOK.vocabulary, 32)
    own = tiny_model() if model is None else model
    return Trainer(own, batches or batch_maker(), names, plan, out, **changes)
