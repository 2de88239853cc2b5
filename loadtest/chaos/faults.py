"""What can happen to a stack, and what its callers are promised then."""

import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psutil

from loadtest.chaos.clock import put_forward
from loadtest.chaos.evidence import Evidence, LostLines, Pictures, Uploads
from loadtest.chaos.parts import (
    CONTROLLER,
    GATEWAY,
    PROXY,
    RAYLET,
    SEGMENTER,
    SUPERVISOR,
    find,
)
from services.local.state import StackState

# What a process stands still for: less than what makes anyone replace it.
STILL_S = 8.0
# Connections of clients that say nothing more.
_MUTE = 200
# The start of an HTTP/2 connection, and empty settings (RFC 9113, section 3.4).
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"

# Makes a fault happen to the stack, and ends it when the block is left.
Happening = Callable[[StackState], "ExitStack"]


@dataclass(frozen=True, slots=True)
class LocalFault:
    """One fault.

    Attributes:
        name: of the fault.
        happens: makes it happen.
        lasts_s: seconds until what can be undone is undone.
        well_s: seconds within which all is promised to be well again, where a part that exists once
            is away until then: calls that can wait so long do not fail. None: none is.
        evidence: tells whether a limit was met that may pass unnoticed.
        clock: whether it takes a stack whose clock can be set (`loadtest.chaos.clock`).
    """

    name: str
    happens: Happening
    lasts_s: float
    well_s: float | None
    evidence: Evidence | None = None
    clock: bool = False

    @property
    def promise(self) -> str:
        """What is promised, in words."""
        within = "" if self.well_s is None else f", well again within {self.well_s:g} s"
        return f"no call fails{within}"


def _happening(*steps: Callable[[StackState, ExitStack], None]) -> Happening:
    def happens(state: StackState) -> ExitStack:
        undo = ExitStack()
        for step in steps:
            step(state, undo)
        return undo

    return happens


def killed(part: str) -> Happening:
    """`kill -9`: it has no time to finish anything."""
    return _happening(lambda state, _: find(state, part).kill())


def told_to_end(part: str) -> Happening:
    """SIGTERM."""
    return _happening(lambda state, _: find(state, part).terminate())


def still(part: str) -> Happening:
    """SIGSTOP, and SIGCONT when the fault is over."""

    def stop(state: StackState, undo: ExitStack) -> None:
        process = find(state, part)
        process.suspend()
        undo.callback(_if_there, process.resume)

    return _happening(stop)


def still_for_good(part: str) -> Happening:
    """SIGSTOP alone."""
    return _happening(lambda state, _: find(state, part).suspend())


def limited(part: str, kind: int, limit: Callable[[psutil.Process], int]) -> Happening:
    """A resource limit (`resource.RLIMIT_...`) that is lifted when the fault is over."""

    def lower(state: StackState, undo: ExitStack) -> None:
        process = find(state, part)
        soft, hard = process.rlimit(kind)
        process.rlimit(kind, (limit(process), hard))
        undo.callback(_if_there, lambda: process.rlimit(kind, (soft, hard)))

    return _happening(lower)


def clock_set(seconds: float) -> Happening:
    """The wall clock of all processes of the stack jumps, and stays where it is then."""
    return _happening(lambda state, _: put_forward(state, seconds))


def _mute(state: StackState, undo: ExitStack) -> None:
    """Clients that connect, and then neither send nor read."""
    undo.enter_context(mute_connections(state.addresses["gateway"], _MUTE))


@contextmanager
def mute_connections(address: str, count: int) -> Iterator[list[socket.socket]]:
    """Connections that have begun HTTP/2 and say nothing more."""
    host, _, port = address.rpartition(":")
    with ExitStack() as opened:
        connections = []
        for _ in range(count):
            connection = opened.enter_context(socket.create_connection((host, int(port)), 10))
            connection.sendall(_PREFACE)
            connections.append(connection)
        yield connections


def _if_there(undo: Callable[[], object]) -> None:
    try:
        undo()
    except psutil.Error:  # it has ended since
        return


def _held_memory(process: psutil.Process) -> int:
    """The address space that it has: whatever it asks for beyond is refused."""
    return int(process.memory_info().vms)


FAULTS = (
    LocalFault("a gateway is told to end", told_to_end(GATEWAY), 0, None),
    LocalFault("a gateway is killed", killed(GATEWAY), 0, None),
    LocalFault(f"a gateway stands still for {STILL_S:g} s", still(GATEWAY), STILL_S, None),
    LocalFault("a gateway stands still for good", still_for_good(GATEWAY), 25, None),
    LocalFault("the only segmenter replica is killed", killed(SEGMENTER), 0, 30),
    LocalFault(
        f"the only segmenter replica stands still for {STILL_S:g} s", still(SEGMENTER), STILL_S, 20
    ),
    LocalFault("Serve's only proxy is killed", killed(PROXY), 0, 20),
    LocalFault(f"Serve's only proxy stands still for {STILL_S:g} s", still(PROXY), STILL_S, 20),
    LocalFault("Serve's controller is killed", killed(CONTROLLER), 0, None),
    LocalFault(
        f"Serve's controller stands still for {STILL_S:g} s", still(CONTROLLER), STILL_S, None
    ),
    LocalFault("the raylet is killed", killed(RAYLET), 0, 90),
    LocalFault(f"the raylet stands still for {STILL_S:g} s", still(RAYLET), STILL_S, None),
    LocalFault(
        f"{_MUTE} clients connect, and neither send nor read", _happening(_mute), STILL_S, None
    ),
    LocalFault(
        "a full disk: the supervisor writes neither logs nor state",
        limited(SUPERVISOR, resource.RLIMIT_FSIZE, lambda _: 0),
        STILL_S,
        None,
        LostLines(),
    ),
    LocalFault(
        "a full disk: a gateway writes no file",
        limited(GATEWAY, resource.RLIMIT_FSIZE, lambda _: 0),
        STILL_S,
        None,
        Uploads(),
    ),
    LocalFault(
        "a gateway gets no more memory",
        limited(GATEWAY, resource.RLIMIT_AS, _held_memory),
        STILL_S,
        None,
        Pictures(),
    ),
    LocalFault("the stack's clock jumps an hour ahead", clock_set(3600), 20, None, clock=True),
    LocalFault("the stack's clock jumps an hour back", clock_set(-3600), 20, None, clock=True),
)
