"""Your own questions and plans, from a file of JSON lines.

Flow: `examples.jsonl` -> `ExampleFile.load` -> `example` -> `training.planner.task`. Each line is
an object of three keys:

    {"image": "shelf.jpg", "instruction": "the ripe ones", "plan": {"include": ["red tomato"]}}

`image` is a path relative to the file (or to another folder), `plan` holds the arguments of the
planner's function (`services.planner.prompt.PLAN_TOOL`), which say everything a plan can say. All
lines are checked when the file is loaded.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from limelight.values import Plan
from services.codecs.images import decode
from services.errors import ServiceError
from services.planner.calls import (
    PLAN,
    Call,
    CallError,
    call_from_plan,
    format_call,
    plan_from_call,
)
from training.planner.examples import TrainingExample, training_example
from training.planner.images import plain_image
from training.planner.preprocessing import Preprocessor

_KEYS = ("image", "instruction", "plan")
_MAX_INSTRUCTION = 1000  # characters; the service takes no more


class ExampleError(ValueError):
    """A file of examples that cannot be used.

    Attributes:
        line: number of the line at fault, from 1.
        field: which of its keys, or empty.
    """

    def __init__(self, file: Path, line: int, field: str, message: str) -> None:
        where = f"{file}, line {line}" + (f", {field}" if field else "")
        super().__init__(f"{where}: {message}")
        self.line = line
        self.field = field


@dataclass(frozen=True)
class FileExample:
    """One line: its number from 1, the image's path, what a caller would type, the right plan."""

    line: int
    image: Path
    instruction: str
    plan: Plan


@dataclass(frozen=True)
class ExampleFile:
    """The examples of one file: at least one image, and those about each."""

    file: Path
    images: tuple[tuple[FileExample, ...], ...]
    preprocessor: Preprocessor

    @classmethod
    def load(cls, file: Path, preprocessor: Preprocessor, folder: Path | None = None) -> Self:
        """Read and check a file.

        Args:
            file: JSON lines; empty lines are skipped.
            preprocessor: of the checkpoint.
            folder: what image paths are relative to; by default the file's own.

        Raises:
            ExampleError: a line is wrong, or there is none; it says which, and what.
            OSError: the file cannot be read.
        """
        images: dict[Path, list[FileExample]] = {}
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if text.strip():
                example = _parsed(file, number, text, folder or file.parent)
                images.setdefault(example.image, []).append(example)
        if not images:
            raise ExampleError(file, 1, "", "the file holds no examples")
        return cls(file, tuple(map(tuple, images.values())), preprocessor)

    def example(self, seed: Sequence[int], questions: int) -> TrainingExample:
        """An image, and up to `questions` of the examples about it; the same for the same seed.

        Raises:
            ExampleError: the image cannot be decoded.
        """
        rng = np.random.default_rng(list(seed))
        about = self.images[int(rng.integers(len(self.images)))]
        chosen = [about[int(index)] for index in rng.permutation(len(about))[:questions]]
        try:
            image = decode(chosen[0].image.read_bytes())
        except (OSError, ServiceError) as error:
            raise ExampleError(self.file, chosen[0].line, "image", str(error)) from error
        prepared = self.preprocessor
        texts = [
            (prepared.planning_chat(one.instruction), format_call(call_from_plan(one.plan)))
            for one in chosen
        ]
        return training_example(prepared, (plain_image(prepared, image),), texts)


def _parsed(file: Path, number: int, text: str, folder: Path) -> FileExample:
    def fault(field: str, message: str) -> ExampleError:
        return ExampleError(file, number, field, message)

    try:
        record = json.loads(text)
    except ValueError as error:
        raise fault("", f"not JSON: {error}") from error
    if not isinstance(record, dict):
        raise fault("", "not a JSON object")
    if unknown := sorted(set(record) - set(_KEYS)):
        raise fault(unknown[0], f"not one of {', '.join(_KEYS)}")
    for field in ("image", "instruction"):
        if not isinstance(record.get(field), str) or not record[field].strip():
            raise fault(field, "not a string, or an empty one")
    image, instruction = folder / record["image"].strip(), record["instruction"].strip()
    if not image.is_file():
        raise fault("image", f"there is no file {image}")
    if len(instruction) > _MAX_INSTRUCTION:
        raise fault("instruction", f"{len(instruction)} characters, of at most {_MAX_INSTRUCTION}")
    if not isinstance(record.get("plan"), dict):
        raise fault("plan", "not a JSON object")
    try:
        return FileExample(number, image, instruction, plan_from_call(Call(PLAN, record["plan"])))
    except CallError as error:
        raise fault("plan", str(error)) from error
