"""The trainer's command line.

Flow: words -> `options` -> `chosen_recipe` -> `services.stickers.planner.train`.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from services.stickers.planner.config import MAX_SOFT_TOKENS
from services.stickers.planner.recipe import ADAPTING, FINE_TUNING, Recipe

# Options that change a number of the recipe: its name, type, what it is.
_RECIPE: Mapping[str, tuple[type, str]] = {
    "steps": (int, "optimiser steps; the learning rate falls to nothing over them"),
    "minutes": (
        float,
        "budget of wall clock instead of steps; with --steps as well, whichever is nearer its end "
        "counts. The weights then depend on how fast the machine is",
    ),
    "scenes": (int, "pictures in a batch"),
    "accumulate": (int, "batches in a step, where memory holds no larger one"),
    "questions": (int, "about a picture, packed behind it into one row"),
    "vision_share": (float, "share of the run that trains the vision tower alone, to look"),
    "dense_weight": (float, "of the looking losses after that; 0 does without them"),
    "matrix_rate": (float, "peak learning rate of Muon, for matrices; 0 leaves them to AdamW"),
    "rate": (float, "peak learning rate of AdamW"),
    "average": (float, "how slowly the averaged weights follow"),
    "review_every": (int, "each so many steps is one of second looks at candidates"),
    "own_share": (float, "share of a step's pictures that are own examples, with --coco as well"),
}


def options() -> argparse.ArgumentParser:
    """The parser of `python -m services.stickers.planner.train`."""
    parser = argparse.ArgumentParser(
        prog="python -m services.stickers.planner.train",
        description="Train the tiny planner of sticker world, or fine-tune any Gemma 4 on a "
        "COCO-style dataset or on questions and plans of your own. Started again with the same "
        "arguments, it goes on from its last state; interrupted, it saves first. Writes state.pt, "
        "metrics.jsonl, curves.png and figures.md into the run's folder, and at the end a "
        "checkpoint that the planner service loads.",
        epilog="Fine-tuning the full-size model: services/stickers/TRAINING.md.",
    )
    parser.add_argument(
        "--run", type=Path, default=Path("runs/planner"), help="the run's folder (%(default)s)"
    )
    parser.add_argument("--out", type=Path, help="the checkpoint's folder (RUN/export)")
    parser.add_argument(
        "--start", help="checkpoint to begin from: a folder, or a hub id as google/gemma-4-E2B-it"
    )
    data = parser.add_argument_group("data", "without any: sticker world")
    data.add_argument("--coco", type=Path, help="instances JSON; a tenth of it is held out")
    data.add_argument("--images", type=Path, help="folder of its pictures, and of the examples'")
    data.add_argument(
        "--examples",
        type=Path,
        help='JSON lines {"image": ..., "instruction": ..., "plan": {"include": [...], ...}}',
    )
    tuning = parser.add_argument_group("fine-tuning")
    tuning.add_argument(
        "--lora", type=int, default=0, metavar="RANK", help="train adapters of this rank only"
    )
    tuning.add_argument("--train-vision", action="store_true", help="train the vision tower, too")
    tuning.add_argument(
        "--soft-tokens",
        type=int,
        choices=(70, 140, 280, 560, 1120),
        help=f"an image becomes, at most (as the checkpoint has it; sticker world "
        f"{MAX_SOFT_TOKENS})",
    )
    tuning.add_argument(
        "--merge",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write the weights with the adapters added in, or the adapters alone",
    )
    recipe = parser.add_argument_group(
        "recipe", "defaults: sticker world / fine-tuning, with --lora"
    )
    for name, (kind, text) in _RECIPE.items():
        defaults = [getattr(each, name) for each in (Recipe(), FINE_TUNING, ADAPTING)]
        tuned = dict.fromkeys(_written(value) for value in defaults[1:])
        shown = dict.fromkeys((_written(defaults[0]), ", ".join(tuned)))
        recipe.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            dest=f"recipe_{name}",
            metavar="N",
            help=f"{text} ({' / '.join(shown)})",
        )
    recipe.add_argument(
        "--evaluate-every", type=int, default=500, metavar="N", help="steps (%(default)s)"
    )
    recipe.add_argument(
        "--evaluate-scenes", type=int, default=40, metavar="N", help="scenes (%(default)s)"
    )
    machine = parser.add_argument_group("machine")
    machine.add_argument(
        "--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N"
    )
    machine.add_argument("--threads", type=int, default=1, help="CPU threads (%(default)s)")
    machine.add_argument(
        "--precision",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the layers; auto is bfloat16 on a GPU",
    )
    machine.add_argument(
        "--gradient-checkpointing",
        action="store_true",
        help="less memory for a third more time: the layers are computed twice",
    )
    return parser


def chosen_recipe(arguments: argparse.Namespace, own: bool) -> Recipe:
    """The recipe that fits what is trained, with the numbers that the command line changes.

    Args:
        arguments: parsed by `options`.
        own: whether there is a dataset, or examples.

    Raises:
        ValueError: the numbers do not go together.
    """
    recipe = ADAPTING if arguments.lora else FINE_TUNING if own else Recipe()
    given = {name: getattr(arguments, f"recipe_{name}") for name in _RECIPE}
    given = {name: value for name, value in given.items() if value is not None}
    if "minutes" in given and "steps" not in given:
        given["steps"] = None
    return replace(recipe, **given)


def _written(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"
