"""Trains the tiny segmenter: ``python -m services.stickers.segmenter.train``.

Restartable: started again with the same arguments it goes on from the last checkpoint. The
schedule follows ``--steps`` or ``--minutes``, whichever is nearer its end. At every
validation and at the end the averaged weights are exported to ``<out>/export``, which
`Sam3Model.from_pretrained` reads. On a CPU, set the allocator's variables as ``make
train-tiny`` does: without them most of the time goes into page faults.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPTokenizer, Sam3Model

from services.segmenter.operators import install_roi_align
from services.stickers.phrases import PhraseBook
from services.stickers.segmenter.checkpoint import export, go_on_from, new_model, new_tokenizer
from services.stickers.segmenter.data import BatchMaker
from services.stickers.segmenter.loop import Plan, Trainer
from services.stickers.segmenter.sampling import PhraseSampler
from services.stickers.segmenter.validation import validate
from services.stickers.splits import VALIDATION
from services.stickers.vocabulary import Vocabulary


def name_tokens(tokenizer: CLIPTokenizer, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Token ids and masks of all names and all plurals, ``[2, concepts, t]`` each."""
    names = [concept.name for concept in vocabulary.concepts]
    plurals = [concept.plural for concept in vocabulary.concepts]
    text = tokenizer(names + plurals, padding=True, return_tensors="pt")
    shape = (2, len(names), -1)
    return text.input_ids.view(shape), text.attention_mask.view(shape)


def main() -> None:
    """Assemble the trainer from the command line and run it."""
    parser = argparse.ArgumentParser(description="Train the tiny Sam3Model of sticker world.")
    parser.add_argument("--out", type=Path, default=Path("runs/segmenter"))
    parser.add_argument("--start", help="checkpoint to go on from: a folder or hub id")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--images", type=int, default=Plan.images)
    parser.add_argument("--dense-share", type=float, default=Plan.dense_share)
    parser.add_argument("--exemplar-from", type=float, default=Plan.exemplar_from)
    parser.add_argument("--learning-rate", type=float, default=Plan.learning_rate)
    parser.add_argument("--validation-scenes", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    install_roi_align()
    book = PhraseBook(Vocabulary.load())
    sampler = PhraseSampler(book)
    tokenizer = new_tokenizer(book)
    model = new_model(tokenizer, arguments.seed)
    if arguments.start is not None:
        go_on_from(arguments.start, model)
    finest, *_, grid, _ = (side for side, _ in model.config.vision_config.backbone_feature_sizes)
    batches = BatchMaker(sampler, tokenizer, model.config.image_size, grid, finest)
    plan = Plan(
        steps=arguments.steps,
        minutes=arguments.minutes,
        images=arguments.images,
        dense_share=arguments.dense_share,
        learning_rate=arguments.learning_rate,
        exemplar_from=arguments.exemplar_from,
    )
    names = name_tokens(tokenizer, book.vocabulary)
    trainer = Trainer(model, batches, names, plan, arguments.out)
    if trainer.resume():
        print(f"resumed at step {trainer.step}", flush=True)

    def check(averaged: Sam3Model) -> Mapping[str, float]:
        export(averaged, tokenizer, arguments.out / "export")
        seeds = VALIDATION[: arguments.validation_scenes]
        return validate(averaged, tokenizer, sampler, seeds).as_dict()

    trainer.run(check)


if __name__ == "__main__":
    main()
