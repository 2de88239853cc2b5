"""Trains the shipped planner checkpoint: `python -m services.stickers.planner.train --help`.

Flow: recipe -> `Trainer` in a run directory -> averaged weights, tokenizer, processor and
configuration in a checkpoint directory that `from_pretrained` loads.
"""

import argparse
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, Gemma4ForConditionalGeneration

from services.domain import SelectBy
from services.planner.calls import Call, call_from_plan, format_call
from services.planner.prompt import plan_messages, review_messages
from services.stickers.instructions import Family, InstructionWriter
from services.stickers.planner.config import (
    MAX_SOFT_TOKENS,
    POOLING,
    Shape,
    new_image_processor,
    new_model,
    widen_positions,
)
from services.stickers.planner.data import Teacher
from services.stickers.planner.evaluate import Examiner, shares
from services.stickers.planner.loop import Recipe, Student, Trainer
from services.stickers.planner.oracle import Oracle
from services.stickers.planner.tokenizer import train_tokenizer
from services.stickers.scenes import random_scene
from services.stickers.splits import TRAINING, VALIDATION
from services.stickers.vocabulary import Vocabulary

_PIECES = 1200
_LOG_EVERY = 20
_SAVE_EVERY_S = 180.0
_SHAPE = Shape()


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tiny Gemma 4 planner of sticker world.")
    parser.add_argument("--run", type=Path, default=Path("runs/planner"), help="run directory")
    parser.add_argument("--out", type=Path, help="where to export the checkpoint at the end")
    parser.add_argument("--start", help="checkpoint to go on from: a folder or hub id")
    parser.add_argument("--minutes", type=float, default=Recipe.minutes, help="wall-clock budget")
    parser.add_argument("--scenes", type=int, default=Recipe.scenes, help="scenes a step")
    parser.add_argument("--questions", type=int, default=Recipe.questions, help="a scene")
    parser.add_argument("--vision-share", type=float, default=Recipe.vision_share)
    parser.add_argument("--matrix-rate", type=float, default=Recipe.matrix_rate)
    parser.add_argument("--rate", type=float, default=Recipe.rate)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--evaluate-minutes", type=float, default=8.0, help="between evaluations")
    parser.add_argument("--evaluate-scenes", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = Recipe(
        minutes=arguments.minutes,
        scenes=arguments.scenes,
        questions=arguments.questions,
        vision_share=arguments.vision_share,
        matrix_rate=arguments.matrix_rate,
        rate=arguments.rate,
    )
    teacher, model = (
        new_pair() if arguments.start is None else pair_from(arguments.start, MAX_SOFT_TOKENS)
    )
    vocabulary = teacher.writer.vocabulary
    student = Student(model, len(vocabulary.concepts))
    trainer = Trainer(student, teacher, recipe, arguments.run)
    examiner = Examiner(teacher, Oracle(teacher.writer.phrases))
    seeds = VALIDATION[: arguments.evaluate_scenes]
    print(f"{sum(p.numel() for p in student.model.parameters()) / 1e6:.2f} M parameters")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    train(trainer, examiner, seeds, arguments.evaluate_minutes * 60, stop.is_set)
    if arguments.out is not None and trainer.progress >= 1.0:
        export(trainer, teacher, arguments.out)


def new_pair() -> tuple[Teacher, Gemma4ForConditionalGeneration]:
    """A new tokenizer and an untrained model that reads it."""
    teacher = new_teacher()
    alike = word_forms(teacher.writer.vocabulary)
    return teacher, new_model(_SHAPE, teacher.tokenizer, seed=0, alike=alike)


def pair_from(checkpoint: str, soft_tokens: int) -> tuple[Teacher, Gemma4ForConditionalGeneration]:
    """A trained model and its own tokenizer, to go on with.

    Args:
        checkpoint: folder or hub id.
        soft_tokens: at most so many an image, whatever it had before.
    """
    model = Gemma4ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32)
    widen_positions(model, soft_tokens * POOLING)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    processor = new_image_processor()
    return Teacher(InstructionWriter(Vocabulary.load()), tokenizer, processor), model


def train(
    trainer: Trainer,
    examiner: Examiner,
    seeds: range,
    evaluate_every_s: float,
    stopped: Callable[[], bool],
) -> None:
    """Run the trainer to its end, or until `stopped`, with a progress line and evaluations."""
    saved = evaluated = trainer.spent
    sums: dict[str, float] = {}
    for count, figures in enumerate(trainer.steps(), start=1):
        for key, value in figures.items():
            sums[key] = 0.95 * sums.get(key, value) + 0.05 * value
        if count % _LOG_EVERY == 0:
            rounded = {key: round(value, 4) for key, value in sums.items()}
            trainer.log(rounded)
            line = " ".join(f"{key} {value:.3f}" for key, value in sums.items())
            print(f"{trainer.spent / 60:6.1f} min  step {trainer.step}  {line}", flush=True)
        if stopped():
            trainer.save()
            return
        if trainer.spent - saved > _SAVE_EVERY_S:
            saved = trainer.spent
            trainer.save()
        if trainer.answering and trainer.spent - evaluated > evaluate_every_s:
            evaluated = trainer.spent
            _evaluate(trainer, examiner, seeds)
    trainer.save()
    _evaluate(trainer, examiner, seeds)


def export(trainer: Trainer, teacher: Teacher, out: Path) -> None:
    """Write the averaged weights with all that `from_pretrained` needs beside them."""
    out.mkdir(parents=True, exist_ok=True)
    with trainer.averaged() as student:
        student.model.save_pretrained(out)
    teacher.tokenizer.save_pretrained(out)
    teacher.image_processor.save_pretrained(out)


def word_forms(vocabulary: Vocabulary) -> list[tuple[str, ...]]:
    """The forms in which each word of an answer comes in a question: spaced, and in the plural."""
    forms: dict[str, tuple[str, ...]] = {}
    for concept in vocabulary.concepts:
        for word, plural in zip(concept.name.split(), concept.plural.split(), strict=True):
            forms[word] = (word, f" {word}", plural, f" {plural}")
    for by in SelectBy:
        forms[by.value] = (by.value, f" {by.value}")
    return list(forms.values())


def new_teacher() -> Teacher:
    """The teacher with a tokenizer learnt from sample instructions; always the same one."""
    writer = InstructionWriter(Vocabulary.load())
    rng = np.random.default_rng(TRAINING[-1])
    prose, calls = [], []
    for _ in range(300):
        scene = random_scene(rng, size=(96, 96))
        for family in list(Family) * 4:
            instruction = writer.generate(scene, rng, family)
            if instruction is not None:
                prose.append(instruction.text.lower())
                calls.append(format_call(call_from_plan(instruction.plan)))
    # What every conversation holds, often enough to become whole pieces.
    for concept in writer.vocabulary.concepts:
        prose += [f"the {concept.name}, {concept.plural}"] * 30
        calls += [format_call(Call("plan", {"include": [concept.name, concept.plural]}))] * 30
    plan = plan_messages("", [("", "a")])[-1]["content"]
    review = review_messages("", "", 1)[-1]["content"]
    prose += [str(parts[-1]["text"]).lower() for parts in (plan, review)] * 50  # type: ignore[index]
    calls += [f"<|turn>{role}\n<turn|>\n" for role in ("system", "user", "model")] * 50
    calls += [f"<|tool>declaration:{name}{{}}<tool|>" for name in ("plan", "verdict")] * 50
    calls += [format_call(Call("verdict", {"accept": truth})) for truth in (True, False)] * 50
    calls += ['<|tool_call>call:plan{include:[<|"|>x<|"|>],review:true}<tool_call|>'] * 50
    return Teacher(writer, train_tokenizer(prose, calls, _PIECES), new_image_processor())


def _evaluate(trainer: Trainer, examiner: Examiner, seeds: range) -> None:
    with trainer.averaged() as student:
        figures = shares(examiner.examine(student.model, seeds, size=(320, 288)))
    trainer.log({f"exact_{key}": round(value, 4) for key, value in figures.items()})
    print("exact: " + " ".join(f"{k} {v:.2f}" for k, v in figures.items()), flush=True)


if __name__ == "__main__":
    main()
