"""The command line that all trainers share, and what it starts."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch

from training.datasets.coco import CocoScenes
from training.kit.interrupts import interruptible
from training.kit.metrics import MetricsLog, last_recipe
from training.kit.recipe import Recipe, add_options
from training.kit.task import TrainingTask
from training.kit.trainer import Trainer


def parser(
    name: str, start: str, presets: Mapping[str, Recipe], description: str
) -> argparse.ArgumentParser:
    """The options of every trainer; each adds its own.

    Args:
        name: of the trainer's package.
        start: a hub id to give as an example.
        presets: recipes by what they are for.
        description: of what is trained.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m training.{name}.train",
        description=f"{description} Started again with the same arguments, it goes on from its "
        "last checkpoint; interrupted, it saves first. Writes checkpoint.pt, metrics.jsonl, logs "
        "for TensorBoard, curves.png, figures.md, and at the end export/, a checkpoint that the "
        f"{name} service loads.",
        epilog="Fine-tuning the full-size model: training/TRAINING.md.",
    )
    made.add_argument(
        "--out", type=Path, default=Path("runs") / name, help="the run's folder (%(default)s)"
    )
    made.add_argument(
        "--start", metavar="CHECKPOINT", help=f"what to train: a folder, or a hub id as {start}"
    )
    data = made.add_argument_group("dataset", "without one: sticker world")
    data.add_argument("--coco", type=Path, help="instances JSON; a tenth of it is held out")
    data.add_argument("--images", type=Path, help="folder of its images")
    add_skipping(data)
    add_options(made, presets)
    machine = made.add_argument_group("machine")
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
    return made


def chosen_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first GPU, or the CPU where there is none.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name!r} is not a device: auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"there is no {name} here: torch sees {torch.cuda.device_count()} GPUs")
    return device


def half(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Whether the layers run in bfloat16."""
    wish: str = arguments.precision
    return wish == "bfloat16" or (wish == "auto" and device.type == "cuda")


def coco(arguments: argparse.Namespace) -> CocoScenes:
    """The dataset that the command line names, all of it; prints what it holds.

    Raises:
        ValueError: the command line lacks the folder of its images.
        CocoError: the dataset is broken.
    """
    if arguments.images is None:
        raise ValueError("--coco needs --images, the folder of its images")
    scenes = CocoScenes.load(arguments.coco, arguments.images, skip=arguments.skip_faults)
    print(f"{arguments.coco}: {scenes.summary}", flush=True)
    return scenes


def add_skipping(options: argparse._ActionsContainer) -> None:
    """The option of every command that takes a dataset to leave out what is faulty in it."""
    options.add_argument(
        "--skip-faults",
        action="store_true",
        help="leave out what is faulty and count it, instead of naming it and ending",
    )


def train(
    task: TrainingTask, arguments: argparse.Namespace, settings: Mapping[str, object]
) -> None:
    """Train a task as the command line says, from the folder's checkpoint if there is one.

    Args:
        task: what to train.
        arguments: parsed by `parser`.
        settings: what to log beside the recipe.

    Raises:
        ValueError: there is no such device, or the folder holds a run of other weights.
    """
    torch.set_num_threads(arguments.threads)
    device = chosen_device(arguments.device)
    trainer = Trainer(task, arguments.out, device=device, half=half(arguments, device))
    resumed = trainer.resume()
    sizes = [p.numel() for p in task.parameters() if p.requires_grad]
    recipe = {
        "start": arguments.start or f"random weights, seed {task.recipe.seed}",
        "scenes": str(arguments.coco or "sticker world"),
        "trained weights": sum(sizes),
        **settings,
        **task.recipe.settings(),
    }
    total = sum(p.numel() for p in task.parameters())
    where = f"resumed at step {trainer.step}" if resumed else "from the start"
    for name, value in last_recipe(arguments.out).items() if resumed else ():
        if recipe.get(name) != value:
            print(f"{task.name}: {name} was {value}, is {recipe.get(name)}", flush=True)
    MetricsLog(arguments.out).recipe(recipe)
    with interruptible() as stopped:
        print(
            f"{task.name}: training {sum(sizes) / 1e6:.2f} of {total / 1e6:.2f} M weights on "
            f"{device}, {where}",
            flush=True,
        )
        trainer.run(stopped)
    if trainer.progress < 1.0:
        print(f"{task.name}: stopped at step {trainer.step}; the same command goes on from there")
    else:
        print(f"{task.name}: written to {arguments.out / 'export'}")
