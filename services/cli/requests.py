"""The lines of `limelight batch`: requests in, results out.

A request: `{"id": …, "image": "path", "instruction": "…"}`, or `"phrases": ["…"]` in place of the
instruction. A result: the answer with the request's id, or `{"id": …, "error": {"code", "reason",
"message"}}`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from limelight import LimelightError, Segmentation

_KEYS = frozenset({"id", "image", "instruction", "phrases"})

RequestId = str | int | float | bool | None


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

    id: RequestId
    line: int
    message: str


def read_requests(lines: TextIO, folder: Path) -> Iterator[BatchRequest | BadLine]:
    """Yield the requests of a file one at a time; blank lines are skipped.

    A relative image path starts at the current directory or, if nothing is there, at `folder`.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _request(line, number, folder)


def result_line(request: BatchRequest, answer: Segmentation) -> str:
    """The line for an answer."""
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


def unreadable_line(request: BatchRequest, fault: OSError | ValueError) -> str:
    """The line for a request that cannot be sent: a missing image, or text that is not Unicode."""
    if isinstance(fault, OSError):
        message = f"{request.image}: {fault.strerror or fault}"
        return _fault(request.id, "NOT_FOUND", "IMAGE_MISSING", message)
    return _fault(request.id, "INVALID_ARGUMENT", "REQUEST_INVALID", str(fault))


def bad_line(bad: BadLine) -> str:
    """The line for an invalid request line."""
    return _fault(bad.id, "INVALID_ARGUMENT", "REQUEST_INVALID", f"line {bad.line}: {bad.message}")


def kept_results(lines: TextIO) -> Iterator[tuple[str, str]]:
    """Yield (key of its id, line) of each complete answer; errors and a cut last line are not."""
    for line in lines:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if line.endswith("\n") and isinstance(values, dict) and "error" not in values:
            yield id_key(values.get("id")), line


def id_key(value: RequestId) -> str:
    """The id as JSON, by which ids are compared: 1 and "1" differ."""
    return json.dumps(value)


def _request(line: str, number: int, folder: Path) -> BatchRequest | BadLine:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as exc:
        return BadLine(None, number, f"not valid JSON: {exc}")
    if not isinstance(values, dict):
        return BadLine(None, number, "not a JSON object")
    given = values.get("id")
    if isinstance(given, dict | list):
        return BadLine(None, number, "id must be a string or a number")
    message = _fault_of(values)
    if message:
        return BadLine(given, number, message)
    image = Path(values["image"])
    if not image.is_absolute() and not image.exists() and (folder / image).exists():
        image = folder / image
    phrases = values.get("phrases")
    return BatchRequest(
        given, image, values.get("instruction"), None if phrases is None else tuple(phrases)
    )


def _fault_of(values: dict[str, Any]) -> str:
    unknown = sorted(values.keys() - _KEYS)
    if unknown:
        return f"unknown key {unknown[0]!r}"
    if values.get("id") is None:
        return "id is missing"
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


def _fault(given: RequestId, code: str, reason: str, message: str) -> str:
    return _line({"id": given, "error": {"code": code, "reason": reason, "message": message}})


def _line(values: dict[str, Any]) -> str:
    # ASCII: a lone surrogate in an id can be escaped, but not written.
    return json.dumps(values, separators=(",", ":")) + "\n"
