"""Requests that are no messages: found while they are read, told as faults of a field.

gRPC answers what its deserializer raises with UNKNOWN and an exception's text. So the deserializer
raises nothing: it gives a `MalformedRequest` in the message's place. What protobuf says of bytes it
cannot parse names no field, so they are walked once more here, by the message's descriptor
(https://protobuf.dev/programming-guides/encoding/), up to the first fault.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from limelight.paths import FieldPath
from services.errors import ServiceError, out_of

# Where nothing better is known: the request itself.
REQUEST = FieldPath(("request",))
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# As protobuf's own parsers have it.
_MAX_DEPTH = 100
_MAX_VARINT = 10

Deserialize = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class MalformedRequest:
    """In place of a message that could not be read.

    Attributes:
        field: where the first fault is.
        fault: what it is, for the caller.
    """

    field: FieldPath
    fault: str


class _WireError(Exception):
    def __init__(self, fault: str, path: FieldPath) -> None:
        super().__init__(fault)
        self.malformed = MalformedRequest(path if path.parts else REQUEST, fault)


def reader(deserialize: Deserialize | None) -> Deserialize | None:
    """`deserialize`, which gives a `MalformedRequest` or `OutOf` where it would raise; None stays
    None.
    """
    if deserialize is None:
        return None

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except MemoryError as exc:
            return out_of(exc)
        except (DecodeError, ValueError):
            # To protobuf it is all one whether bytes are no message, or there is no room for one.
            if (full := _no_room_for(data)) is not None:
                return full
            return malformed(data, getattr(deserialize, "__self__", None))

    return read


def _no_room_for(data: bytes) -> ServiceError | None:
    try:
        bytearray(2 * len(data))
    except MemoryError as exc:
        return out_of(exc)
    return None


def malformed(data: bytes, kind: Any) -> MalformedRequest:
    """The first fault of `data`, which cannot be read as a message of the class `kind`."""
    if isinstance(kind, type) and issubclass(kind, Message):
        try:
            _walk(memoryview(data), kind.DESCRIPTOR, FieldPath(), 0)
        except _WireError as error:
            return error.malformed
    return MalformedRequest(REQUEST, "the request is not a message of this method")


def _walk(data: memoryview, kind: Any, path: FieldPath, depth: int) -> None:
    """Raises `_WireError` at the first fault of a message's bytes."""
    if depth > _MAX_DEPTH:
        raise _WireError("the message is nested too deeply", path)
    at = 0
    seen: dict[int, int] = {}
    while at < len(data):
        tag, at = _varint(data, at, path)
        number, wire = tag >> 3, tag & 7
        field = kind.fields_by_number.get(number)
        inside = _inside(path, field, seen)
        match wire:
            case _ if number == 0:
                raise _WireError("the bytes are not protobuf", path)
            case 0:
                _, at = _varint(data, at, inside)
            case 1 | 5:
                at += 8 if wire == _FIXED64 else 4
            case 2:
                length, at = _varint(data, at, inside)
                if at + length > len(data):
                    raise _WireError("the bytes end in the middle of the message", inside)
                _check(data[at : at + length], field, inside, depth)
                at += length
            case _:
                raise _WireError("the bytes are not protobuf", inside)
        if at > len(data):
            raise _WireError("the bytes end in the middle of the message", inside)


def _check(data: memoryview, field: FieldDescriptor | None, path: FieldPath, depth: int) -> None:
    if field is None:
        return
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        _walk(data, field.message_type, path, depth + 1)
    elif field.type == FieldDescriptor.TYPE_STRING:
        try:
            str(data, "utf-8")
        except UnicodeDecodeError:
            raise _WireError("the text is not UTF-8", path) from None


def _inside(path: FieldPath, field: FieldDescriptor | None, seen: dict[int, int]) -> FieldPath:
    if field is None:
        return path
    if not field.is_repeated:
        return path / field.name
    index = seen.get(field.number, 0)
    seen[field.number] = index + 1
    return path / field.name / index


def _varint(data: memoryview, at: int, path: FieldPath) -> tuple[int, int]:
    value = 0
    for place in range(_MAX_VARINT):
        if at >= len(data):
            raise _WireError("the bytes end in the middle of the message", path)
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at
    raise _WireError("the bytes are not protobuf", path)
