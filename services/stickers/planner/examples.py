"""One's own questions and plans, from a file of JSON lines.

Flow: `examples.jsonl` -> `OwnExamples.load` -> `lesson` -> `services.stickers.planner.curriculum`.
Each line is an object of three keys:

    {"image": "shelf.jpg", "instruction": "the ripe ones", "plan": {"include": ["red tomato"]}}

`image` is a path relative to the file (or to another folder), `plan` holds the arguments of the
planner's function (`services.planner.prompt.PLAN_TOOL`), which say everything a plan can say. All
lines are checked when the file is loaded.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from services.codecs.images import decode
from services.domain import Plan
from services.errors import ServiceError
from services.planner.calls import (
    PLAN,
    Call,
    CallError,
    call_from_plan,
    format_call,
    plan_from_call,
)
from services.stickers.planner.lessons import Lesson, lesson
from services.stickers.planner.pictures import plain_picture
from services.stickers.planner.preprocessing import Preprocessor

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
class Example:
    """One line.

    Attributes:
        line: its number, from 1.
        image: the picture's path.
        instruction: what a caller would type.
        plan: the right answer.
    """

    line: int
    image: Path
    instruction: str
    plan: Plan


@dataclass(frozen=True)
class OwnExamples:
    """The examples of one file, those about the same picture together.

    Attributes:
        file: where they come from.
        pictures: at least one; the examples about each.
        preprocessor: of the checkpoint.
    """

    file: Path
    pictures: tuple[tuple[Example, ...], ...]
    preprocessor: Preprocessor

    @classmethod
    def load(cls, file: Path, preprocessor: Preprocessor, images: Path | None = None) -> Self:
        """Read and check a file.

        Args:
            file: JSON lines; empty lines are passed over.
            preprocessor: of the checkpoint.
            images: what image paths are relative to; by default the file's own folder.

        Raises:
            ExampleError: a line is wrong, or there is none; it says which, and what.
            OSError: the file cannot be read.
        """
        folder = file.parent if images is None else images
        pictures: dict[Path, list[Example]] = {}
        for number, text in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            if text.strip():
                example = _example(file, number, text, folder)
                pictures.setdefault(example.image, []).append(example)
        if not pictures:
            raise ExampleError(file, 1, "", "the file holds no examples")
        return cls(file, tuple(map(tuple, pictures.values())), preprocessor)

    def lesson(self, seed: Sequence[int], questions: int) -> Lesson:
        """A picture, and up to `questions` of the examples about it; the same for the same seed.

        Raises:
            ExampleError: the picture cannot be decoded.
        """
        rng = np.random.default_rng(list(seed))
        about = self.pictures[int(rng.integers(len(self.pictures)))]
        chosen = [about[int(index)] for index in rng.permutation(len(about))[:questions]]
        try:
            image = decode(chosen[0].image.read_bytes())
        except (OSError, ServiceError) as error:
            raise ExampleError(self.file, chosen[0].line, "image", str(error)) from error
        texts = [
            (
                self.preprocessor.planning_chat(example.instruction),
                format_call(call_from_plan(example.plan)),
            )
            for example in chosen
        ]
        return lesson(self.preprocessor, (plain_picture(self.preprocessor, image),), texts)


def _example(file: Path, number: int, text: str, folder: Path) -> Example:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise ExampleError(file, number, "", f"no JSON: {error}") from error
    if not isinstance(record, dict):
        raise ExampleError(file, number, "", "not a JSON object")
    if unknown := sorted(set(record) - set(_KEYS)):
        raise ExampleError(file, number, unknown[0], f"not one of {', '.join(_KEYS)}")
    image = folder / _text(file, number, record, "image")
    if not image.is_file():
        raise ExampleError(file, number, "image", f"there is no file {image}")
    instruction = _text(file, number, record, "instruction")
    if len(instruction) > _MAX_INSTRUCTION:
        message = f"{len(instruction)} characters, of at most {_MAX_INSTRUCTION}"
        raise ExampleError(file, number, "instruction", message)
    return Example(number, image, instruction, _plan(file, number, record))


def _text(file: Path, number: int, record: Mapping[str, Any], field: str) -> str:
    text = record.get(field)
    if not isinstance(text, str) or not text.strip():
        raise ExampleError(file, number, field, "not a text, or an empty one")
    return text.strip()


def _plan(file: Path, number: int, record: Mapping[str, Any]) -> Plan:
    arguments = record.get("plan")
    if not isinstance(arguments, dict):
        raise ExampleError(file, number, "plan", "not a JSON object")
    try:
        return plan_from_call(Call(PLAN, arguments))
    except CallError as error:
        raise ExampleError(file, number, "plan", str(error)) from error
