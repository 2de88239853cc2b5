"""Trains a planner: `python -m services.stickers.planner.train --help`.

Without a dataset it makes the tiny Gemma 4 of sticker world from nothing, or goes on with it
(`--start`). With one it fine-tunes any Gemma 4: `--start google/gemma-4-E2B-it --coco
annotations.json --images folder --lora 16`, or `--examples examples.jsonl`, or both.

Flow: command line -> `Task`, `Recipe` -> `Trainer` in a run folder -> averaged weights, tokenizer,
processor and configuration in a checkpoint folder that the planner service loads. Started again
with the same arguments it goes on from the last state, also after an interrupt.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from services.stickers import curves
from services.stickers.coco import CocoError, CocoScenes, Part
from services.stickers.interrupts import interruptible
from services.stickers.planner.checkpoints import Pupil, export, load_pupil, new_pupil
from services.stickers.planner.config import MAX_SOFT_TOKENS, Shape
from services.stickers.planner.curriculum import Curriculum
from services.stickers.planner.devices import chosen_device
from services.stickers.planner.examiner import Examiner
from services.stickers.planner.examples import ExampleError, OwnExamples
from services.stickers.planner.figures import figures_of
from services.stickers.planner.lessons import Teacher
from services.stickers.planner.loop import Trainer
from services.stickers.planner.losses import Student
from services.stickers.planner.options import chosen_recipe, options
from services.stickers.planner.packing import Layout
from services.stickers.planner.scenery import TrainingScenes
from services.stickers.runlog import RunLog
from services.stickers.sources import SceneSource, WorldScenes
from services.stickers.splits import VALIDATION
from services.stickers.vocabulary import Vocabulary

_SHAPE = Shape()  # of a new model
_LOG_EVERY = 20  # steps
_SAVE_EVERY_S = 180.0
_SMOOTHED = 0.95


@dataclass(frozen=True)
class Task:
    """What is trained on what.

    Attributes:
        pupil: to be trained in place.
        curriculum: scenes or own examples to train on, and the recipe.
        unseen: scenes to examine on; None where there are only own examples.
        size: of those scenes in pixels, if they can be drawn so.
    """

    pupil: Pupil
    curriculum: Curriculum
    unseen: SceneSource | None
    size: tuple[int, int] | None = None


def main(words: Sequence[str] | None = None) -> None:
    """Assemble the trainer from the command line and run it."""
    parser = options()
    arguments = parser.parse_args(words)
    torch.set_num_threads(arguments.threads)
    try:
        device = chosen_device(arguments.device)
        task = _task(arguments, device)
        trainer = _trainer(task, arguments, device)
    except (CocoError, ExampleError, OSError, ValueError) as error:
        parser.error(str(error))
    with interruptible() as stopped:
        _introduce(task, trainer, arguments)
        train(trainer, task, arguments.evaluate_every, arguments.evaluate_scenes, stopped)
    if trainer.progress < 1.0:
        print(f"stopped at step {trainer.step}; the same command goes on from there", flush=True)
        return
    trainer.settle()
    out = arguments.out or arguments.run / "export"
    export(task.pupil, out, merged=arguments.merge)
    print(f"written to {out}", flush=True)


def train(
    trainer: Trainer,
    task: Task,
    evaluate_every: int,
    evaluate_scenes: int,
    stopped: Callable[[], bool],
) -> None:
    """Run the trainer to its end, or until `stopped`, with a progress line and examinations.

    Args:
        trainer: of the task.
        task: what is trained on what.
        evaluate_every: steps between two examinations.
        evaluate_scenes: how many scenes one has.
        stopped: asked after every step; the state is saved before this returns.
    """
    log = RunLog(trainer.directory)
    saved = trainer.spent
    smoothed: dict[str, float] = {}
    for figures in trainer.steps():
        for key, value in figures.items():
            smoothed[key] = _SMOOTHED * smoothed.get(key, value) + (1 - _SMOOTHED) * value
        if trainer.step % _LOG_EVERY == 0:
            log.losses(trainer.step, trainer.minutes, smoothed)
            curves.publish(trainer.directory)
            line = " ".join(f"{key} {value:.3f}" for key, value in smoothed.items())
            left = trainer.minutes * (1 / trainer.progress - 1)
            print(
                f"step {trainer.step} ({trainer.progress:.1%}), {trainer.minutes:.1f} min, "
                f"{left:.0f} left: {line}",
                flush=True,
            )
        if stopped():
            trainer.save()
            return
        if trainer.spent - saved > _SAVE_EVERY_S:
            saved = trainer.spent
            trainer.save()
        if trainer.answering and trainer.step % evaluate_every == 0 and trainer.progress < 1.0:
            _examine(trainer, task, evaluate_scenes, log)
    trainer.save()
    _examine(trainer, task, evaluate_scenes, log)


def _examine(trainer: Trainer, task: Task, scenes: int, log: RunLog) -> None:
    """Examine the averaged weights on unseen scenes, log it, and draw the run's curves."""
    if task.unseen is not None and scenes:
        examiner = Examiner(Teacher(task.unseen, task.pupil.preprocessor, looks=False))
        seeds = VALIDATION[:scenes]
        with trainer.averaged() as student:
            answered = examiner.examine(student.model, seeds, size=task.size)
            judged = examiner.judge(student.model, seeds)
        figures = figures_of(answered, judged, task.unseen.vocabulary).brief()
        log.validation(trainer.step, trainer.minutes, figures)
        line = " ".join(f"{name} {value:.2f}" for name, value in figures.items())
        print(f"step {trainer.step}, {scenes} unseen scenes: {line}", flush=True)
    curves.publish(trainer.directory)


def _task(arguments: argparse.Namespace, device: torch.device) -> Task:
    own = arguments.coco is not None or arguments.examples is not None
    recipe = chosen_recipe(arguments, own)
    if own or arguments.lora:
        if arguments.start is None:
            raise ValueError("fine-tuning needs --start, the checkpoint to begin from")
        # Weights that stay as they are may be kept in half as many bits.
        halved = arguments.lora and _half(arguments, device)
        pupil = load_pupil(
            arguments.start,
            soft_tokens=arguments.soft_tokens,
            rank=arguments.lora,
            vision=arguments.train_vision,
            dtype=torch.bfloat16 if halved else torch.float32,
            seed=recipe.seed,
        )
    elif arguments.start is None:
        pupil = new_pupil(_SHAPE)
    else:
        pupil = load_pupil(
            arguments.start,
            soft_tokens=arguments.soft_tokens or MAX_SOFT_TOKENS,
            vision=True,
            seed=recipe.seed,
        )
    if arguments.gradient_checkpointing:
        pupil.model.activation_checkpointing_enable()
    if not own:
        teacher = Teacher(TrainingScenes(Vocabulary.load()), pupil.preprocessor, recipe.looks)
        return Task(pupil, Curriculum(recipe, teacher), WorldScenes(), (320, 288))
    teachers, unseen = None, None
    if arguments.coco is not None:
        if arguments.images is None:
            raise ValueError("--coco needs --images, the folder of its pictures")
        practice = CocoScenes.load(arguments.coco, arguments.images, Part.TRAINING)
        unseen = CocoScenes.load(arguments.coco, arguments.images, Part.VALIDATION)
        teachers = Teacher(practice, pupil.preprocessor, recipe.looks)
    examples = None
    if arguments.examples is not None:
        examples = OwnExamples.load(arguments.examples, pupil.preprocessor, arguments.images)
    return Task(pupil, Curriculum(recipe, teachers, examples), unseen)


def _trainer(task: Task, arguments: argparse.Namespace, device: torch.device) -> Trainer:
    recipe, teacher = task.curriculum.recipe, task.curriculum.teacher
    concepts = teacher.concepts if recipe.looks and teacher is not None else 0
    student = Student(task.pupil.model, concepts)
    return Trainer(student, task.curriculum, arguments.run, device, _half(arguments, device))


def _half(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Whether the layers run in bfloat16."""
    wish: str = arguments.precision
    return wish == "bfloat16" or (wish == "auto" and device.type == "cuda")


def _introduce(task: Task, trainer: Trainer, arguments: argparse.Namespace) -> None:
    """Say what will be done, to the person and to the run's log."""
    recipe = asdict(trainer.recipe)
    trained = sum(p.numel() for p in trainer.student.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in trainer.student.parameters())
    print(f"{trained / 1e6:.2f} of {everything / 1e6:.2f} M weights are trained", flush=True)
    if obstacle := Layout.of(task.pupil.model.config).obstacle:
        print(f"one question a row, since {obstacle}: slower, and as right", flush=True)
    if trainer.step:
        print(f"resumed at step {trainer.step}", flush=True)
        for name, value in trainer.resumed_recipe.items():
            if name in recipe and value != recipe[name]:
                print(f"{name} is {recipe[name]} now, was {value}", flush=True)
    settings: Mapping[str, object] = {
        "start": arguments.start or "random weights",
        "scenes": "sticker world" if arguments.coco is None else str(arguments.coco),
        "examples": str(arguments.examples or "none"),
        "LoRA rank": arguments.lora or "none",
        "weights trained": trained,
        **recipe,
    }
    RunLog(trainer.directory).recipe(settings)


if __name__ == "__main__":
    main()
