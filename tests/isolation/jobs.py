"""What workers are asked for in the tests: the ways in which a decoder can go wrong."""

import ctypes
import fcntl
import os
import pickle
import socket
import struct
import time
from pathlib import Path

from services.errors import InvalidMedia, Reason
from services.gateway.request_fields import IMAGE
from services.isolation import wire, zygote
from services.isolation.wire import Shared
from services.isolation.zygote import ask, note


def echoed(value: object) -> object:
    return value


def pid() -> int:
    return os.getpid()


def refused() -> None:
    raise InvalidMedia(Reason.IMAGE_CORRUPT, "the image is no good", field=IMAGE)


def failed() -> None:
    raise KeyError("a bug of ours")


def crashed(where: str) -> None:
    note(where)
    ctypes.string_at(0)


def spun() -> None:
    while True:
        pass


def slept(started: str) -> None:
    Path(started).touch()
    time.sleep(3600)


def grown(length: int) -> int:
    return len(bytearray(length))


def killed() -> None:
    os.kill(os.getpid(), 9)


class Unknown:
    """An answer that nobody asked for."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def strange() -> Unknown:
    return Unknown()


_counted = 0


def counted() -> int:
    """How often it was asked in this process."""
    global _counted
    _counted += 1
    return _counted


def asked(name: str, *args: object) -> object:
    return ask(name, *args)


def asked_strangely() -> object:
    return ask("answer", Unknown())


def handed_over(length: int) -> Shared:
    return Shared({"length": length}, memoryview(b"ab" * (length // 2)))


def handed_over_unsealed() -> None:
    """Hands over a file that can shrink under who reads it."""
    assert zygote._connection is not None
    fd = os.memfd_create("answer", os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(100))
    content = pickle.dumps((None, 100))
    socket.send_fds(zygote._connection, [struct.pack("<cQ", b"S", len(content))], [fd])
    zygote._connection.sendall(content)
    time.sleep(3600)


def handed_over_too_few() -> None:
    """Hands over fewer bytes than it says."""
    fd = os.memfd_create("answer", os.MFD_ALLOW_SEALING)
    os.write(fd, b"ab")
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, wire._SEALS)
    content = pickle.dumps((None, 1 << 20))
    assert zygote._connection is not None
    socket.send_fds(zygote._connection, [struct.pack("<cQ", b"S", len(content))], [fd])
    zygote._connection.sendall(content)
    time.sleep(3600)
