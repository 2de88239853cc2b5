"""Trains a tracker: ``python -m training.tracker.train --help``.

Around the shipped detector, or any `Sam3Model` or `Sam3VideoModel` of its kind (``--start``). On a
CPU, set the allocator's variables as ``make train-tracker`` does.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from training.kit import command
from training.kit.recipe import chosen
from training.tracker.models import open_checkpoint
from training.tracker.recipe import GPU, SCRATCH
from training.tracker.task import TrackerTask

DETECTOR = Path(__file__).parents[2] / "services" / "segmenter" / "checkpoints" / "sticker-sam3"


def opened(arguments: argparse.Namespace) -> TrackerTask:
    """The task that the command line describes.

    Raises:
        OSError, ValueError: the checkpoint is broken, or the options contradict each other.
    """
    if arguments.coco is not None:
        raise ValueError("trackers learn from clips of sticker world; --coco has none")
    device = command.chosen_device(arguments.device)
    recipe = chosen(GPU if device.type == "cuda" else SCRATCH, arguments)
    model, tokenizer = open_checkpoint(arguments.start or str(DETECTOR), recipe.seed)
    return TrackerTask(model, tokenizer, recipe)


def command_parser() -> argparse.ArgumentParser:
    """The parser of ``python -m training.tracker.train``."""
    return command.parser(
        "tracker",
        "a `Sam3Model` for a new tracker around it; by default the shipped detector",
        {"CPU": SCRATCH, "GPU": GPU},
        "Train the tracker of the tiny video model of sticker world; its detector stays as it is.",
    )


def main(words: Sequence[str] | None = None) -> None:
    """Train what the command line names, by default the process's own."""
    parser = command_parser()
    arguments = parser.parse_args(words)
    try:
        command.train(opened(arguments), arguments, {"detector": "frozen"})
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
