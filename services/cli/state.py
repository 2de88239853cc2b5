"""What is written down about a local stack, so that any later command finds it.

One folder a stack: `state.json` (replaced whole, never half-written), `lock` (held while a stack is
started), and the logs. The supervisor writes; `up`, `down`, `status` and `segment` read.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import platformdirs

from services.cli.processes import ProcessRef


class Phase(StrEnum):
    """Where a stack is in its life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StackConfig:
    """What a stack is to be.

    Attributes:
        name: of the stack; a machine may hold several.
        profile: "tiny" or "full", for `status` only; it was made into the arguments below.
        planner, segmenter: arguments of the apps' `build` (their settings).
        port, metrics_port: what the gateway would like to listen on; another if it is taken.
    """

    name: str = "default"
    profile: str = "tiny"
    planner: dict[str, str] = field(default_factory=dict)
    segmenter: dict[str, str] = field(default_factory=dict)
    port: int = 50551
    metrics_port: int = 9464


@dataclass(frozen=True, slots=True)
class StackState:
    """A stack as its supervisor sees it.

    Attributes:
        config: what was asked for.
        mark: in the environment of every process of the stack, and of no other.
        phase, stage: how far it is; `stage` is a word for a person.
        supervisor: the process that holds the stack together.
        processes: its other processes by name ("serve", "gateway").
        addresses: `host:port` by name ("gateway", "metrics", "serve").
        ray_dir: Ray's session folder, which goes with the stack.
        started: seconds since the epoch.
        ready_s: seconds the start took; None before.
        error: why it failed; empty otherwise.
        restarts: how often the gateway was started anew.
        versions: of what runs.
    """

    config: StackConfig
    mark: str
    supervisor: ProcessRef
    started: float
    phase: Phase = Phase.STARTING
    stage: str = ""
    processes: dict[str, ProcessRef] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    ray_dir: str = ""
    ready_s: float | None = None
    error: str = ""
    restarts: int = 0
    versions: dict[str, str] = field(default_factory=dict)


class StackFolder:
    """The folder of one stack."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / name
        self.supervisor_log = self.path / "supervisor.log"
        self.serve_log = self.path / "serve.log"
        self.gateway_log = self.path / "gateway.log"
        self._state = self.path / "state.json"

    def make(self) -> None:
        """Make the folder, readable by its owner alone."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self) -> StackState | None:
        """What is written down; None if nothing is, or nothing that this version can read."""
        try:
            return _state_from(json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, state: StackState) -> None:
        fresh = self._state.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(dataclasses.asdict(state), indent=2), encoding="utf-8")
        fresh.replace(self._state)

    def forget(self) -> None:
        """Remove the state; logs stay until the next start."""
        self._state.unlink(missing_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Held by whoever starts or clears this stack; the kernel lets go of a dead holder's."""
        self.make()
        with (self.path / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def default_root() -> Path:
    """Where stacks are written down, per user."""
    return Path(platformdirs.user_state_dir("limelight", appauthor=False))


def _state_from(values: dict[str, Any]) -> StackState:
    return StackState(
        **{
            **values,
            "config": StackConfig(**values["config"]),
            "supervisor": ProcessRef(**values["supervisor"]),
            "phase": Phase(values["phase"]),
            "processes": {
                name: ProcessRef(**process) for name, process in values["processes"].items()
            },
        }
    )
