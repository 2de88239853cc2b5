"""The lines of `limelight batch`: requests in, results out.

A request: `{"id": …, "image": "path", "instruction": "…"}`, or `"phrases": ["…"]` in place of the
instruction. A result: the answer with the request's id, or `{"id": …, "error": {"code", "reason",
"message"}}`.

An id is a string or a number, and no two requests may share one: 1 and 1.0 are the same number, 1
and "1" are two ids. The file is judged as a whole before the first request is sent; a line that is
not a request costs that line alone, as long as every id is known.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limelight import LimelightError, Segmentation
from services.codecs import strict_json
from services.codecs.strict_json import JsonFault
from services.codecs.text_files import EncodingFault, decoded, numbered_lines

_KEYS = frozenset({"id", "image", "instruction", "phrases"})
_SHOWN_FAULTS = 10

RequestId = str | int | float


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """One valid request line, with either an instruction or phrases."""

    id: RequestId
    image: Path
    instruction: str | None
    phrases: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class BadLine:
    """An invalid request line; `id` is None where it could not be read."""

    id: RequestId | None
    line: int
    message: str


class RequestFileRefused(ValueError):
    """A file of requests that cannot be worked through as a whole; the message is for a person."""


class RequestFile:
    """The requests of a file, which is read once: it may be a pipe, or change meanwhile.

    Attributes:
        total: lines that are not blank.
        lines_of: the number of the line with each id, by `id_key`.
    """

    def __init__(self, content: bytes, folder: Path) -> None:
        """Judge the file whose bytes are `content`; relative image paths may start at `folder`.

        Raises:
            RequestFileRefused: it is not text, or ids are given twice.
        """
        try:
            self._text = decoded(content)
        except EncodingFault as exc:
            raise RequestFileRefused(str(exc)) from exc
        self._folder = folder
        self.total = 0
        self.lines_of: dict[Hashable, int] = {}
        faults = []
        for number, line in numbered_lines(self._text):
            self.total += 1
            given = _parsed(line, number).id
            if given is None:
                continue
            first = self.lines_of.setdefault(id_key(given), number)
            if first != number:
                faults.append(f"line {number}: the id {shown_id(given)} is that of line {first}")
        if faults:
            raise RequestFileRefused(listed("ids are given again", faults))

    def __iter__(self) -> Iterator[BatchRequest | BadLine]:
        """The requests in the file's order, each made when it is asked for."""
        for number, line in numbered_lines(self._text):
            parsed = _parsed(line, number)
            if isinstance(parsed, BatchRequest):
                image = parsed.image
                if not image.is_absolute() and not _exists(image) and _exists(self._folder / image):
                    image = self._folder / image
                parsed = BatchRequest(parsed.id, image, parsed.instruction, parsed.phrases)
            yield parsed


def result_line(request: BatchRequest, answer: Segmentation) -> str:
    """The line for an answer; ValueError if it holds what JSON cannot, or a mask that is broken."""
    return _line({"id": request.id, **answer.to_dict()})


def error_line(request: BatchRequest, error: LimelightError) -> str:
    """The line for a call that failed."""
    fault: dict[str, Any] = {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
    }
    if error.field:
        fault["field"] = error.field
    return _line({"id": request.id, "error": fault, "request_id": error.request_id})


def broken_line(request: BatchRequest, fault: ValueError) -> str:
    """The line for an answer that cannot be written."""
    return _fault(request.id, "INTERNAL", "INTERNAL", f"the answer is broken: {fault}")


def unreadable_line(request: BatchRequest, fault: OSError | ValueError) -> str:
    """The line for a request that cannot be sent: a missing image, say."""
    if isinstance(fault, OSError):
        message = f"{request.image}: {fault.strerror or fault}"
        return _fault(request.id, "NOT_FOUND", "IMAGE_MISSING", message)
    return _fault(request.id, "INVALID_ARGUMENT", "REQUEST_INVALID", str(fault))


def bad_line(bad: BadLine) -> str:
    """The line for an invalid request line."""
    return _fault(bad.id, "INVALID_ARGUMENT", "REQUEST_INVALID", f"line {bad.line}: {bad.message}")


def is_id(value: object) -> bool:
    """Whether it is a string or a number."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def id_key(value: RequestId) -> Hashable:
    """What an id is known by: 1 and 1.0 are the same, 1 and "1" are not."""
    return isinstance(value, str), value


def shown_id(value: RequestId) -> str:
    """The id as it stands in a file, for messages."""
    text = strict_json.dumps(value, ascii_only=False)
    return text if len(text) <= 60 else f"{text[:60]}…"


def listed(what: str, faults: list[str]) -> str:
    """`what`, and the first of its `faults` on lines below it."""
    lines = [f"{what}:", *(f"  {fault}" for fault in faults[:_SHOWN_FAULTS])]
    if len(faults) > _SHOWN_FAULTS:
        lines.append(f"  and {len(faults) - _SHOWN_FAULTS} more")
    return "\n".join(lines)


def _parsed(line: str, number: int) -> BatchRequest | BadLine:
    try:
        values = strict_json.loads(line, exact=True)
    except JsonFault as exc:
        return BadLine(None, number, str(exc))
    if not isinstance(values, dict):
        return BadLine(None, number, "not a JSON object")
    given = values.get("id")
    if given is None:
        return BadLine(None, number, "id is missing")
    if not is_id(given):
        return BadLine(None, number, "id must be a string or a number")
    message = _fault_of(values)
    if message:
        return BadLine(given, number, message)
    phrases = values.get("phrases")
    return BatchRequest(
        given,
        Path(values["image"]),
        values.get("instruction"),
        None if phrases is None else tuple(phrases),
    )


def _fault_of(values: dict[str, Any]) -> str:
    unknown = sorted(values.keys() - _KEYS)
    if unknown:
        return f"unknown key {unknown[0]!r}"
    if not isinstance(values.get("image"), str) or not values["image"]:
        return "image must be a path"
    instruction, phrases = values.get("instruction"), values.get("phrases")
    if (instruction is None) == (phrases is None):
        return "give either instruction or phrases"
    if instruction is not None and not isinstance(instruction, str):
        return "instruction must be a string"
    if phrases is not None and not (
        isinstance(phrases, list) and all(isinstance(phrase, str) for phrase in phrases)
    ):
        return "phrases must be a list of strings"
    return ""


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a name, say: the call will say so
        return False


def _fault(given: RequestId | None, code: str, reason: str, message: str) -> str:
    return _line({"id": given, "error": {"code": code, "reason": reason, "message": message}})


def _line(values: dict[str, Any]) -> str:
    return strict_json.dumps(values) + "\n"
