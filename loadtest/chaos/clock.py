"""A wall clock for a stack's processes alone, which can be set while they run.

`wall_clock.c` is compiled and preloaded into the stack's supervisor, and with its environment into
all that it starts, Ray's own programs included.
"""

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.local.state import StackState

_SOURCE = Path(__file__).with_name("wall_clock.c")
_FILE = "LIMELIGHT_CLOCK_FILE"
_SECONDS = struct.Struct("d")


class NoWallClock(Exception):
    """No such clock can be made here; the message says why."""


@contextmanager
def settable_clock(folder: Path) -> Iterator[None]:
    """Processes that are started in this block, and theirs, have a clock that `put_forward` sets.

    Args:
        folder: for the compiled clock and its setting; must outlive those processes.

    Raises:
        NoWallClock: this is not Linux, or there is no C compiler.
    """
    added = {"LD_PRELOAD": str(_compiled(folder)), _FILE: str(folder / "clock")}
    (folder / "clock").write_bytes(_SECONDS.pack(0.0))
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def put_forward(state: StackState, seconds: float) -> None:
    """Let the clock of a running stack jump; back, where `seconds` are below 0."""
    supervisor = state.supervisor.resolve()
    assert supervisor is not None
    put_file_forward(Path(supervisor.environ()[_FILE]), seconds)


def put_file_forward(file: Path, seconds: float) -> None:
    """The same for whoever has the clock that is set by `file`."""
    with file.open("r+b") as setting:  # in place: processes have the file mapped
        (held,) = _SECONDS.unpack(setting.read(_SECONDS.size))
        setting.seek(0)
        setting.write(_SECONDS.pack(held + seconds))


def _compiled(folder: Path) -> Path:
    if sys.platform != "linux":
        raise NoWallClock("it would take Linux, whose loader preloads a clock")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoWallClock("it would take a C compiler (cc), for a clock that can be set")
    library = folder / "wall_clock.so"
    options = ("-std=gnu11", "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl")
    done = subprocess.run((compiler, *options), capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoWallClock(f"the clock does not compile: {done.stderr.strip()[-200:]}")
    return library
