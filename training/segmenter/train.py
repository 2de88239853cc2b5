"""Trains a segmenter: ``python -m training.segmenter.train --help``.

Without a dataset it makes the tiny model of sticker world from nothing. With one it fine-tunes any
SAM 3: ``--start facebook/sam3 --coco annotations.json --images folder``. On a CPU, set the
allocator's variables as ``make train-tiny`` does, or most of the time goes into page faults.
"""

import argparse
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from transformers import Sam3Model

from services.segmenter.operators import install_roi_align
from training.datasets.coco import DatasetSplit
from training.datasets.sources import WorldScenes
from training.kit import command
from training.kit.recipe import chosen
from training.segmenter.growing import grow_from
from training.segmenter.losses import LossWeights
from training.segmenter.models import new_model, new_tokenizer, open_checkpoint
from training.segmenter.recipe import FINE_TUNING, SCRATCH
from training.segmenter.sampling import PhraseSampler
from training.segmenter.scenes import SegmenterScenes
from training.segmenter.task import SegmenterData, SegmenterTask
from training.world.phrases import PhraseBook
from training.world.vocabulary import Vocabulary


def freeze(model: Sam3Model, encoders: Iterable[str]) -> None:
    """Keep the named encoders ("vision", "text") as they are; in place."""
    for name in encoders:
        getattr(model, f"{name}_encoder").requires_grad_(False)


def recompute_activations(model: Sam3Model) -> None:
    """Make the encoders' layers forget what they computed and compute it again going backwards."""
    # Their layers can; only the class does not say so.
    model.supports_gradient_checkpointing = True
    model.activation_checkpointing_enable()


def opened(arguments: argparse.Namespace) -> SegmenterTask:
    """The task that the command line describes.

    Raises:
        CocoError: the dataset is broken.
        OSError, ValueError: the checkpoint is, or the options contradict each other.
    """
    recipe = chosen(SCRATCH if arguments.coco is None else FINE_TUNING, arguments)
    recipe = replace(recipe, weights=recipe.weights.changed(dict(arguments.loss_weights)))
    if arguments.coco is None:
        sampler = PhraseSampler(PhraseBook(Vocabulary.load()))
        tokenizer = new_tokenizer(sampler.book)
        model = new_model(tokenizer, recipe.seed)
        if arguments.start is not None:
            grow_from(arguments.start, model)
        data = SegmenterData(tokenizer, sampler, SegmenterScenes(sampler), WorldScenes())
    else:
        if arguments.start is None:
            raise ValueError("--coco needs --start, a checkpoint to fine-tune")
        scenes = command.coco(arguments)
        training = scenes.only(DatasetSplit.TRAINING)
        held_out = scenes.only(DatasetSplit.VALIDATION)
        model, tokenizer = open_checkpoint(arguments.start)
        sampler = PhraseSampler.of_dataset(training.vocabulary)
        data = SegmenterData(tokenizer, sampler, training, held_out)
    freeze(model, arguments.freeze)
    if arguments.gradient_checkpointing:
        recompute_activations(model)
    return SegmenterTask(model, data, recipe)


def main(words: Sequence[str] | None = None) -> None:
    """Train what the command line names, by default the process's own."""
    parser = command_parser()
    arguments = parser.parse_args(words)
    install_roi_align()
    try:
        frozen = {"frozen": " ".join(arguments.freeze) or "nothing"}
        command.train(opened(arguments), arguments, frozen)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def _loss_weight(text: str) -> tuple[str, float]:
    """``dice=10`` as the name of a part of the loss and its factor."""
    names = LossWeights().by_name
    name, _, value = text.partition("=")
    with suppress(ValueError):
        if name in names and 0 <= (factor := float(value)) < math.inf:
            return name, factor
    raise argparse.ArgumentTypeError(
        f"{text!r} is not NAME=FACTOR, a factor of 0 or more and one of {', '.join(names)}"
    )


def command_parser() -> argparse.ArgumentParser:
    """The parser of ``python -m training.segmenter.train``."""
    presets = {"from nothing": SCRATCH, "fine-tuning": FINE_TUNING}
    parser = command.parser(
        "segmenter",
        "facebook/sam3, to fine-tune; without --coco a smaller tiny one, to grow from",
        presets,
        "Train the tiny segmenter of sticker world from nothing, or fine-tune any SAM 3 on a "
        "COCO-style dataset.",
    )
    tuning = parser.add_argument_group("segmenter")
    tuning.add_argument(
        "--freeze",
        nargs="+",
        choices=("vision", "text"),
        default=[],
        help="encoders that keep their weights",
    )
    defaults = " ".join(f"{name}={factor:g}" for name, factor in LossWeights().by_name.items())
    tuning.add_argument(
        "--loss-weights",
        nargs="+",
        type=_loss_weight,
        default=(),
        metavar="NAME=FACTOR",
        help="factors on parts of the loss, such as mask=6 dice=16 for sharper outlines "
        f"({defaults})",
    )
    return parser


if __name__ == "__main__":
    main()
