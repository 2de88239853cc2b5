"""Your own questions and plans, from a file of JSON lines.

Flow: `examples.jsonl` -> `ExampleFile.load` -> `example` -> `training.planner.task`. Each line is
an object of three keys:

    {"image": "shelf.jpg", "instruction": "the ripe ones", "plan": {"include": ["red tomato"]}}

`image` is a path relative to the file (or to another folder), `plan` holds the arguments of the
planner's function (`services.planner.prompt.PLAN_TOOL`), which say everything a plan can say. All
lines are checked when the file is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from limelight.values import Plan
from services.codecs import strict_json
from services.codecs.images import decode
from services.codecs.strict_json import JsonFault
from services.codecs.text_files import EncodingFault, decoded, numbered_lines
from services.errors import ServiceError
from services.planner.calls import (
    PLAN,
    Call,
    CallError,
    call_from_plan,
    format_call,
    plan_from_call,
)
from training.datasets.faults import DatasetError, DatasetFault, counted, reasons
from training.datasets.pictures import PictureFault, inside, judge
from training.planner.examples import TrainingExample, training_example
from training.planner.images import plain_image
from training.planner.preprocessing import Preprocessor

_KEYS = ("image", "instruction", "plan")
_MAX_INSTRUCTION = 1000  # characters; the service takes no more


@dataclass(frozen=True, slots=True)
class ExampleFault(DatasetFault):
    """A fault of one line: its number, from 1, and which of its keys, or empty."""

    line: int = 1
    key: str = ""


def example_fault(line: int, key: str, message: str, kind: str) -> ExampleFault:
    """A fault of the line of that number, from 1, in one of its keys or ("") all of it."""
    where = f"line {line}" + (f", {key}" if key else "")
    return ExampleFault(where, "", message, kind, line, key)


class ExampleError(DatasetError):
    """A file of examples that cannot be used.

    Attributes:
        line: number of the first line at fault, from 1.
        field: which of its keys, or empty.
    """

    _before_field = ", "

    def __init__(self, file: Path, faults: Sequence[ExampleFault]) -> None:
        super().__init__(file, faults)
        self.line: int = faults[0].line
        self.field: str = faults[0].key


@dataclass(frozen=True)
class FileExample:
    """One line: its number from 1, the image's path, what a caller would type, the right plan."""

    line: int
    image: Path
    instruction: str
    plan: Plan


def read_examples(
    file: Path, folder: Path | None = None, *, skip: bool = False
) -> tuple[tuple[FileExample, ...], ...]:
    """Read and check a file and the headers of its images; prints what it holds.

    Args:
        file: JSON lines; empty lines are skipped.
        folder: what image paths are relative to; by default the file's own.
        skip: leave out lines that are wrong.

    Returns:
        The examples about each image.

    Raises:
        ExampleError: lines are wrong, or there is none; it says which, and what.
        OSError: the file cannot be read.
    """
    faults: list[ExampleFault] = []
    examples: list[FileExample] = []
    try:
        text = decoded(file.read_bytes())
    except EncodingFault as error:
        fault = example_fault(error.line, "", error.fault, "line of another form")
        raise ExampleError(file, [fault]) from error
    for number, line in numbered_lines(text):
        example = _parsed(number, line, folder or file.parent)
        (examples if isinstance(example, FileExample) else faults).append(example)  # type: ignore[arg-type]
    headers = judge(list({example.image: None for example in examples}))
    images: dict[Path, list[FileExample]] = {}
    for example in examples:
        header = headers[example.image]
        if isinstance(header, PictureFault):
            faults.append(example_fault(example.line, "image", header.message, header.kind))
        else:
            images.setdefault(example.image, []).append(example)
    if faults and not (skip and images):
        raise ExampleError(file, sorted(faults, key=lambda fault: fault.line))
    if not images:
        raise ExampleError(file, [example_fault(1, "", "the file holds no examples", "no use")])
    held = counted(sum(map(len, images.values())), "example")
    about = counted(len(images), "picture")
    print(f"{file}: {held} about {about}; dropped: {reasons(faults)}", flush=True)
    return tuple(map(tuple, images.values()))


@dataclass(frozen=True)
class ExampleFile:
    """The examples of one file: at least one image, and those about each."""

    file: Path
    images: tuple[tuple[FileExample, ...], ...]
    preprocessor: Preprocessor

    @classmethod
    def load(cls, file: Path, preprocessor: Preprocessor, folder: Path | None = None) -> Self:
        """The examples of `read_examples`, for the checkpoint that `preprocessor` is of.

        Raises:
            ExampleError: a line is wrong, or there is none.
            OSError: the file cannot be read.
        """
        return cls(file, read_examples(file, folder), preprocessor)

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
            fault = example_fault(chosen[0].line, "image", str(error), "picture unreadable")
            raise ExampleError(self.file, [fault]) from error
        prepared = self.preprocessor
        texts = [
            (prepared.planning_chat(one.instruction), format_call(call_from_plan(one.plan)))
            for one in chosen
        ]
        return training_example(prepared, (plain_image(prepared, image),), texts)


def _parsed(number: int, line: str, folder: Path) -> FileExample | ExampleFault:
    def fault(key: str, message: str, kind: str = "line of another form") -> ExampleFault:
        return example_fault(number, key, message, kind)

    try:
        record = strict_json.loads(line)
    except JsonFault as error:
        return fault("", str(error))
    if not isinstance(record, dict):
        return fault("", "not a JSON object")
    if unknown := sorted(set(record) - set(_KEYS)):
        return fault(unknown[0], f"not one of {', '.join(_KEYS)}")
    for key in ("image", "instruction"):
        if not isinstance(record.get(key), str) or not record[key].strip():
            return fault(key, "not a string, or an empty one")
    image, instruction = inside(folder, record["image"].strip()), record["instruction"].strip()
    if image is None:
        return fault("image", f"{record['image']!r} leads out of {folder}")
    if len(instruction) > _MAX_INSTRUCTION:
        message = f"{len(instruction)} characters, of at most {_MAX_INSTRUCTION}"
        return fault("instruction", message)
    if not isinstance(record.get("plan"), dict):
        return fault("plan", "not a JSON object")
    try:
        plan = plan_from_call(Call(PLAN, record["plan"]))
    except CallError as error:
        return fault("plan", str(error), "plan that is not valid")
    return FileExample(number, image, instruction, plan)
