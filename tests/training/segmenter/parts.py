"""The tiny segmenter's parts, put together as its trainer does."""

from typing import Any

from transformers import Sam3Model

from training.datasets.sources import WorldScenes
from training.segmenter.data import BatchBuilder
from training.segmenter.grids import Grids
from training.segmenter.models import new_model, new_tokenizer
from training.segmenter.recipe import SCRATCH, SegmenterRecipe
from training.segmenter.sampling import PhraseSampler
from training.segmenter.scenes import SegmenterScenes
from training.segmenter.task import SegmenterData, SegmenterTask
from training.world.phrases import PhraseBook
from training.world.vocabulary import Vocabulary

BOOK = PhraseBook(Vocabulary.load())
SAMPLER = PhraseSampler(BOOK)
TOKENIZER = new_tokenizer(BOOK)
GRIDS = Grids(image=240, tokens=20, masks=80)
DATA = SegmenterData(
    TOKENIZER, SAMPLER, SegmenterScenes(SAMPLER), WorldScenes(BOOK.vocabulary, (320, 288))
)


def tiny_model(seed: int = 1) -> Sam3Model:
    return new_model(TOKENIZER, seed)


def batch_builder(kind: type[BatchBuilder] = BatchBuilder, **changes: Any) -> BatchBuilder:
    fields = {"max_targets": 25, "phrases_per_image": 2} | changes
    return kind(SegmenterScenes(SAMPLER), SAMPLER, TOKENIZER, GRIDS, **fields)


def tiny_task(recipe: SegmenterRecipe = SCRATCH, model: Sam3Model | None = None) -> SegmenterTask:
    return SegmenterTask(model or tiny_model(), DATA, recipe, phrases_per_image=2)
