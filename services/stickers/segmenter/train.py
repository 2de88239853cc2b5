"""Trains a segmenter: ``python -m services.stickers.segmenter.train --help``.

Without a dataset it makes the tiny model of sticker world from nothing. With one it fine-tunes any
SAM 3: ``--start facebook/sam3 --coco annotations.json --images folder``.

Restartable: started again with the same arguments it goes on from the last checkpoint, also after
an interrupt. At every validation and at the end the averaged weights are exported to
``<out>/export``, which `Sam3Model.from_pretrained` and the segmenter service read. On a CPU, set
the allocator's variables as ``make train-tiny`` does: without them most of the time goes into page
faults.
"""

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase, Sam3Model

from services.segmenter.operators import install_roi_align
from services.stickers.coco import CocoError, CocoScenes, Part
from services.stickers.interrupts import interruptible
from services.stickers.phrases import PhraseBook
from services.stickers.runlog import RunLog, last_recipe
from services.stickers.segmenter.checkpoint import (
    export,
    new_model,
    new_tokenizer,
    open_checkpoint,
)
from services.stickers.segmenter.data import BatchMaker, name_tokens
from services.stickers.segmenter.grids import Grids
from services.stickers.segmenter.growing import go_on_from
from services.stickers.segmenter.loop import Trainer
from services.stickers.segmenter.losses import LossWeights
from services.stickers.segmenter.plan import Plan, fine_tuning
from services.stickers.segmenter.sampling import PhraseSampler
from services.stickers.segmenter.scenes import PracticeScenes
from services.stickers.segmenter.validation import validate
from services.stickers.sources import SceneSource, WorldScenes
from services.stickers.splits import VALIDATION
from services.stickers.vocabulary import Vocabulary

_SCRATCH, _TUNING = Plan(), fine_tuning()


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    Attributes:
        model: to be trained in place.
        tokenizer: the model's.
        sampler: asks about the scenes.
        practice: scenes to train on.
        unseen: scenes to validate on.
    """

    model: Sam3Model
    tokenizer: PreTrainedTokenizerBase
    sampler: PhraseSampler
    practice: SceneSource
    unseen: SceneSource


def sticker_world(start: str | None, seed: int) -> Task:
    """A new tiny model, by default from random weights, and the renderer's scenes.

    Args:
        start: a smaller tiny checkpoint to go on from, see `go_on_from`.
        seed: of the random weights.
    """
    sampler = PhraseSampler(PhraseBook(Vocabulary.load()))
    tokenizer = new_tokenizer(sampler.book)
    model = new_model(tokenizer, seed)
    if start is not None:
        go_on_from(start, model)
    return Task(model, tokenizer, sampler, PracticeScenes(sampler), WorldScenes())


def dataset(start: str, annotations: Path, images: Path) -> Task:
    """A trained SAM 3 and the pictures of a COCO-style dataset, of which a tenth is held out.

    Args:
        start: folder or hub id of the checkpoint.
        annotations: the instances JSON.
        images: the folder of the pictures.

    Raises:
        CocoError: the dataset is broken.
        OSError, ValueError: so is the checkpoint.
    """
    scenes = CocoScenes.load(annotations, images)
    practice, unseen = scenes.part(Part.TRAINING), scenes.part(Part.VALIDATION)
    model, tokenizer = open_checkpoint(start)
    sampler = PhraseSampler.of_dataset(scenes.vocabulary)
    return Task(model, tokenizer, sampler, practice, unseen)


def freeze(model: Sam3Model, encoders: Iterable[str]) -> None:
    """Keep the named encoders ("vision", "text") as they are; in place."""
    for name in encoders:
        getattr(model, f"{name}_encoder").requires_grad_(False)


def recompute_activations(model: Sam3Model) -> None:
    """Make the encoders' layers forget what they computed and compute it again going backwards."""
    # Their layers can; only the class does not say so.
    model.supports_gradient_checkpointing = True
    model.activation_checkpointing_enable()


def main(arguments: Sequence[str] | None = None) -> None:
    """Assemble the trainer from the command line and run it.

    Args:
        arguments: without the program's name; by default the process's own.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    install_roi_align()
    try:
        task, plan = _task(options, parser), _plan(options)
        longest = task.model.config.text_config.max_position_embeddings
        names = name_tokens(task.tokenizer, task.practice.vocabulary, longest)
    except (CocoError, OSError, ValueError) as error:
        parser.error(str(error))
    device = _device(options.device)
    model = task.model.to(device)
    freeze(model, options.freeze)
    if options.gradient_checkpointing:
        recompute_activations(model)
    batches = BatchMaker(
        task.practice,
        task.sampler,
        task.tokenizer,
        Grids.of(model.config),
        most_targets=model.config.detr_decoder_config.num_queries,
    )
    trainer = Trainer(model, batches, names, plan, options.out, half=_half(options, device))
    recipe = _recipe(options, model, plan)
    for name, value in last_recipe(options.out).items():
        if recipe.get(name) != value:
            print(f"segmenter: {name} was {value}, is {recipe.get(name)}", flush=True)
    RunLog(options.out).recipe(recipe)

    def check(averaged: Sam3Model) -> Mapping[str, float]:
        export(averaged, task.tokenizer, options.out / "export")
        seeds = VALIDATION[: options.validation_scenes]
        return validate(averaged, task.tokenizer, task.sampler, task.unseen, seeds).as_dict()

    with interruptible() as stopped:
        resumed = trainer.resume()
        print(
            f"segmenter: training {recipe['trained parameters']} parameters on {device}, "
            + (f"resumed at step {trainer.step}" if resumed else "from the start"),
            flush=True,
        )
        trainer.run(check, stopped)
    if trainer.progress < 1:
        print(
            f"segmenter: stopped at step {trainer.step}; the same command goes on from there",
            flush=True,
        )


def _task(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Task:
    if options.coco is None:
        return sticker_world(options.start, options.seed)
    if options.start is None or options.images is None:
        parser.error("--coco needs --start, a checkpoint to fine-tune, and --images, the pictures")
    return dataset(options.start, options.coco, options.images)


def _plan(options: argparse.Namespace) -> Plan:
    plan = _SCRATCH if options.coco is None else _TUNING
    given = {name: getattr(options, f"plan_{name}") for name in _PLANNED}
    weights = plan.weights.changed(dict(options.loss_weights))
    planned = {name: value for name, value in given.items() if value is not None}
    return replace(plan, weights=weights, **planned)


def _recipe(options: argparse.Namespace, model: Sam3Model, plan: Plan) -> Mapping[str, object]:
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return {
        "start": options.start or f"random weights, seed {options.seed}",
        "scenes": "sticker world" if options.coco is None else str(options.coco),
        "frozen": " ".join(options.freeze) or "nothing",
        "trained parameters": trained,
        **plan.settings(),
    }


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def _half(options: argparse.Namespace, device: torch.device) -> bool:
    if options.precision == "auto":
        return options.coco is not None and device.type == "cuda"
    return bool(options.precision == "bfloat16")


# Options that change a field of the plan: name of the field, type, what it is.
_PLANNED: Mapping[str, tuple[type, str]] = {
    "steps": (int, "optimiser steps"),
    "minutes": (float, "wall clock, if that ends first; the result then depends on the machine"),
    "images": (int, "images in a batch"),
    "accumulate": (int, "batches in a step"),
    "learning_rate": (float, "its peak"),
    "warm_up": (int, "steps to that peak"),
    "dense_share": (float, "share of the run that trains the encoders alone, without phrases"),
    "dense_weight": (float, "factor on the token-wise losses after that; 0 does without them"),
    "exemplar_from": (float, "share of the run after which one step in four shows exemplar boxes"),
    "checkpoint_every": (int, "steps"),
    "validate_every": (int, "steps"),
}


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train the tiny segmenter of sticker world from nothing, or fine-tune any "
        "SAM 3 on a COCO-style dataset. Started again with the same arguments, it goes on from its "
        "last checkpoint. Writes checkpoint.pt, metrics.jsonl, curves.png, figures.md and export/.",
        epilog="Fine-tuning the full-size model: services/stickers/TRAINING.md.",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/segmenter"), help="the run's folder (%(default)s)"
    )
    parser.add_argument(
        "--start", help="checkpoint, folder or hub id: to fine-tune, or without --coco to grow from"
    )
    data = parser.add_argument_group("dataset", "without one: sticker world")
    data.add_argument("--coco", type=Path, help="instances JSON, polygons or run lengths")
    data.add_argument("--images", type=Path, help="folder of its pictures")
    data.add_argument(
        "--freeze",
        nargs="+",
        choices=("vision", "text"),
        default=[],
        help="encoders that keep their weights",
    )
    plan = parser.add_argument_group("plan", "defaults: from nothing / fine-tuning")
    for name, (kind, text) in _PLANNED.items():
        defaults = {getattr(_SCRATCH, name): None, getattr(_TUNING, name): None}
        shown = " / ".join("none" if value == math.inf else f"{value:g}" for value in defaults)
        option = "--batch" if name == "images" else f"--{name.replace('_', '-')}"
        plan.add_argument(
            option, type=kind, dest=f"plan_{name}", metavar="N", help=f"{text} ({shown})"
        )
    plan.add_argument(
        "--loss-weights",
        nargs="+",
        type=_loss_weight,
        default=(),
        metavar="NAME=FACTOR",
        help="factors on parts of the loss, such as mask=6 dice=16 for sharper outlines ("
        + " ".join(f"{name}={factor:g}" for name, factor in _SCRATCH.weights.by_name.items())
        + ")",
    )
    plan.add_argument("--validation-scenes", type=int, default=60, help="(%(default)s)")
    plan.add_argument("--seed", type=int, default=1, help="of new weights (%(default)s)")
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N"
    )
    machine.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    machine.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the forward pass; auto is bfloat16 for fine-tuning on a GPU",
    )
    machine.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="less memory for a quarter more time: the encoders' layers are computed twice",
    )
    return parser


if __name__ == "__main__":
    main()
