"""Trains a planner: ``python -m training.planner.train --help``.

Without a dataset it makes the tiny Gemma 4 of sticker world from nothing, or goes on with it
(`--start`). With one it fine-tunes any Gemma 4: `--start google/gemma-4-E2B-it --coco
annotations.json --images folder --lora 16`, or `--examples examples.jsonl`, or both.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from training.datasets.coco import DatasetSplit
from training.datasets.sources import SceneSource, WorldScenes
from training.kit import command
from training.kit.recipe import chosen
from training.planner.config import MAX_SOFT_TOKENS, Shape
from training.planner.example_file import ExampleFile, read_examples
from training.planner.examples import ExampleBuilder
from training.planner.models import PlannerModel, load_planner, new_planner
from training.planner.packing import Layout
from training.planner.recipe import ADAPTING, FINE_TUNING, SCRATCH, PlannerRecipe
from training.planner.scenery import PlannerScenes
from training.planner.task import PlannerTask
from training.world.vocabulary import Vocabulary

_SHAPE = Shape()  # of a new model
_WORLD_SIZE = (320, 288)  # pixels of sticker world's held-out scenes while it trains


def recipe_for(arguments: argparse.Namespace) -> PlannerRecipe:
    """The recipe of what the command line trains, with the numbers that it changes.

    Raises:
        ValueError: the numbers contradict each other.
    """
    own = arguments.coco is not None or arguments.examples is not None
    return chosen(ADAPTING if arguments.lora else FINE_TUNING if own else SCRATCH, arguments)


def opened(arguments: argparse.Namespace) -> PlannerTask:
    """The task that the command line describes.

    Raises:
        CocoError, ExampleError: the dataset or the file is broken.
        OSError, ValueError: the checkpoint is, or the options contradict each other.
    """
    recipe = recipe_for(arguments)
    device = command.chosen_device(arguments.device)
    own = arguments.coco is not None or arguments.examples is not None
    if (own or arguments.lora) and arguments.start is None:
        raise ValueError("fine-tuning needs --start, the checkpoint to begin from")
    examples = None
    scenes: SceneSource | None = None
    held_out: SceneSource | None = None
    # Before a checkpoint of gigabytes is read.
    if arguments.examples is not None:
        examples = read_examples(arguments.examples, arguments.images, skip=arguments.skip_faults)
    if arguments.coco is not None:
        dataset = command.coco(arguments)
        scenes = dataset.only(DatasetSplit.TRAINING)
        held_out = dataset.only(DatasetSplit.VALIDATION)
    elif examples is None:
        scenes, held_out = PlannerScenes(Vocabulary.load()), WorldScenes()
    planner = _planner(arguments, recipe, command.half(arguments, device), own)
    if arguments.gradient_checkpointing:
        planner.model.activation_checkpointing_enable()
    file = ExampleFile(arguments.examples, examples, planner.preprocessor) if examples else None
    builder = ExampleBuilder(scenes, planner.preprocessor, recipe.dense) if scenes else None
    size = None if own else _WORLD_SIZE
    return PlannerTask(planner, recipe, builder, file, held_out, size, arguments.merge)


def _planner(
    arguments: argparse.Namespace, recipe: PlannerRecipe, half: bool, own: bool
) -> PlannerModel:
    if arguments.start is None:
        return new_planner(_SHAPE, recipe.seed)
    tuned = own or arguments.lora
    return load_planner(
        arguments.start,
        soft_tokens=arguments.soft_tokens or (None if tuned else MAX_SOFT_TOKENS),
        rank=arguments.lora,
        vision=arguments.train_vision or not tuned,
        # Weights that stay as they are may be kept in half as many bits.
        dtype=torch.bfloat16 if arguments.lora and half else torch.float32,
        seed=recipe.seed,
    )


def main(words: Sequence[str] | None = None) -> None:
    """Train what the command line names, by default the process's own."""
    parser = command_parser()
    arguments = parser.parse_args(words)
    try:
        task = opened(arguments)
        if obstacle := Layout.of(task.model.config).obstacle:
            print(f"planner: one question a row, slower and as right: {obstacle}", flush=True)
        settings = {
            "examples": str(arguments.examples or "none"),
            "LoRA rank": arguments.lora or "none",
        }
        command.train(task, arguments, settings)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def command_parser() -> argparse.ArgumentParser:
    """The parser of ``python -m training.planner.train``."""
    parser = command.parser(
        "planner",
        "google/gemma-4-E2B-it",
        {"sticker world": SCRATCH, "fine-tuning": FINE_TUNING, "with --lora": ADAPTING},
        "Train the tiny planner of sticker world, or fine-tune any Gemma 4 on a COCO-style dataset "
        "or on your own questions and plans.",
    )
    own = parser.add_argument_group("planner")
    own.add_argument(
        "--examples",
        type=Path,
        help='JSON lines {"image": ..., "instruction": ..., "plan": {"include": [...], ...}}; '
        "images are relative to --images, or to the file's folder",
    )
    own.add_argument(
        "--lora", type=int, default=0, metavar="RANK", help="train adapters of this rank only"
    )
    own.add_argument("--train-vision", action="store_true", help="train the vision tower, too")
    own.add_argument(
        "--soft-tokens",
        type=int,
        choices=(70, 140, 280, 560, 1120),
        help="an image becomes, at most (as the checkpoint has it; sticker world "
        f"{MAX_SOFT_TOKENS})",
    )
    own.add_argument(
        "--merge",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the weights with the adapters added in, or the adapters alone",
    )
    return parser


if __name__ == "__main__":
    main()
