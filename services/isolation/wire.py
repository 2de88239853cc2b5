"""What a process and its workers send each other: frames over a socket pair.

A frame is a kind of one byte, the length of its content, and the content, a pickle. A worker trusts
what it is asked. What it answers is read by `loads`, which makes nothing but plain values and the
classes that the asking side names: a decoder that was taken over must not run code in its parent.
"""

import fcntl
import io
import mmap
import os
import pickle
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from limelight.paths import FieldPath
from services import errors
from services.errors import Internal, Reason, ServiceError

CALL = b"C"
RESULT = b"R"
REFUSAL = b"E"
FAULT = b"F"
NOTE = b"N"
ASK = b"A"
SHARED = b"S"

_HEAD = struct.Struct("<cQ")
# Of a file in memory that can neither shrink under who reads it, nor change (linux/fcntl.h).
_SEALS = 0x2 | 0x4 | 0x8
_ADD_SEALS, _GET_SEALS = 1033, 1034
# More than any message of the service may have.
_MAX_CONTENT = 1 << 31
_REFUSALS: dict[str, type[ServiceError]] = {
    kind.__name__: kind for kind in (errors.InvalidRequest, errors.InvalidMedia, errors.TooLarge)
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take.

    Attributes:
        memory_bytes: of data beyond what it has when it starts.
        jobs: after so many it makes way for a fresh one, so that nothing piles up in it.
    """

    memory_bytes: int
    jobs: int = 1000


def send(to: socket.socket, kind: bytes, content: bytes) -> None:
    """Send one frame."""
    to.sendall(_HEAD.pack(kind, len(content)))
    to.sendall(content)


def receive(source: socket.socket) -> tuple[bytes, bytearray]:
    """The next frame's kind and content; EOFError where the other side has ended."""
    kind, length = _HEAD.unpack(_exactly(source, _HEAD.size))
    return kind, _content(source, length)


@dataclass(frozen=True, slots=True)
class Shared:
    """A job's answer of many bytes, which are not sent but handed over where they lie.

    Attributes:
        value: plain, and small.
        buffer: the bytes.
    """

    value: Any
    buffer: memoryview


def send_shared(to: socket.socket, answer: Shared) -> None:
    """Send a frame of the kind `SHARED`; the bytes are in a file in memory, which nobody changes.

    Where there are no such files, it is a result like any other.
    """
    if not hasattr(os, "memfd_create"):
        send(to, RESULT, pickle.dumps((answer.value, bytes(answer.buffer)), protocol=5))
        return
    fd = os.memfd_create("answer", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        left = answer.buffer
        while left:
            left = left[os.write(fd, left) :]
        fcntl.fcntl(fd, _ADD_SEALS, _SEALS)
        content = pickle.dumps((answer.value, answer.buffer.nbytes), protocol=5)
        socket.send_fds(to, [_HEAD.pack(SHARED, len(content))], [fd])
    finally:
        os.close(fd)
    to.sendall(content)


def receive_any(source: socket.socket) -> tuple[bytes, bytearray, mmap.mmap | None]:
    """As `receive`, and the bytes of a `SHARED` answer, whose content is then its value.

    Pages that are written to become our own; those who sent them can change nothing.
    """
    head, fds = b"", []
    try:
        while len(head) < _HEAD.size:
            part, came, _, _ = socket.recv_fds(source, _HEAD.size - len(head), 1)
            fds += came
            if not part:
                raise EOFError("the other side has ended")
            head += part
        kind, length = _HEAD.unpack(head)
        content = _content(source, length)
        if kind != SHARED:
            return kind, content, None
        value, size = loads(content, {})
        if len(fds) != 1 or fcntl.fcntl(fds[0], _GET_SEALS) & _SEALS != _SEALS:
            raise EOFError("bytes that can still change")
        if not 0 < size <= os.fstat(fds[0]).st_size:
            raise EOFError("fewer bytes than were told")
        mapped = mmap.mmap(fds[0], size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        return kind, bytearray(pickle.dumps(value)), mapped
    finally:
        for fd in fds:
            os.close(fd)


def _content(source: socket.socket, length: int) -> bytearray:
    if length > _MAX_CONTENT:
        raise EOFError(f"a frame of {length} bytes")
    return _exactly(source, length)


def _exactly(source: socket.socket, length: int) -> bytearray:
    content = bytearray(length)
    view = memoryview(content)
    while view:
        count = source.recv_into(view, min(len(view), 1 << 20))
        if count == 0:
            raise EOFError("the other side has ended")
        view = view[count:]
    return content


def call(function: Callable[..., Any], args: Iterable[Any], cpu_s: float) -> bytes:
    """A frame's content that asks for `function(*args)` within `cpu_s` of processor time."""
    name = (function.__module__, function.__qualname__)
    return pickle.dumps((name, tuple(args), cpu_s), protocol=5)


def refusal(error: ServiceError) -> bytes:
    """A frame's content that tells a request's fault."""
    kind = next((k.__name__ for k in type(error).__mro__ if k.__name__ in _REFUSALS), "")
    field = "" if error.field is None else str(error.field)
    return pickle.dumps((kind, error.reason.value, error.message, field), protocol=5)


def refused(content: bytes | bytearray) -> ServiceError:
    """The error of `refusal`."""
    kind, reason, message, field = loads(content, {})
    if kind not in _REFUSALS:
        return Internal()
    path = FieldPath.parse(field) if field else None
    return _REFUSALS[kind](Reason(reason), message, field=path)


def loads(content: bytes | bytearray, known: dict[tuple[str, str], type]) -> Any:
    """The value of a pickle of plain values and of the classes that are `known` by their names.

    Raises:
        pickle.UnpicklingError: it is none, or of another class.
    """
    return _Reader(content, known).load()


class _Reader(pickle.Unpickler):
    def __init__(self, content: bytes | bytearray, known: dict[tuple[str, str], type]) -> None:
        super().__init__(io.BytesIO(content))
        self._known = known

    def find_class(self, module_name: str, global_name: str) -> Any:
        kind = self._known.get((module_name, global_name))
        if kind is None:
            raise pickle.UnpicklingError(f"a worker answered with {module_name}.{global_name}")
        return kind
