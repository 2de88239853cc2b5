"""The state of a local stack on disk, by which later commands find it.

Each stack has a folder with `state.json` (replaced atomically), `lock` (held while the stack is
started) and the logs. The supervisor writes; `up`, `down`, `status` and `segment` read.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import platformdirs

from services.local import log_file
from services.local.ports import LOOPBACK
from services.local.processes import ProcessRef


class Phase(StrEnum):
    """The phase of a stack's life."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StackConfig:
    """The configuration of a stack.

    Attributes:
        name: of the stack; several can run on a machine.
        profile: "tiny" or "full", shown by `status`; the arguments below follow from it.
        planner, segmenter, tracker: arguments of the apps' `build` (their settings); without those
            of the tracker there is none, and videos are refused.
        host: the address that the gateway listens at.
        port, metrics_port: the gateway's preferred ports; it takes another where one is in use.
        gateways: that share the port; each further one prefers the next port for its metrics.
    """

    name: str = "default"
    profile: str = "tiny"
    planner: dict[str, str] = field(default_factory=dict)
    segmenter: dict[str, str] = field(default_factory=dict)
    tracker: dict[str, str] | None = None
    host: str = LOOPBACK
    port: int = 50551
    metrics_port: int = 9464
    gateways: int = 1

    @property
    def services(self) -> dict[str, dict[str, str]]:
        """The arguments of each model service, by the name of its application."""
        services = {"planner": self.planner, "segmenter": self.segmenter}
        return services if self.tracker is None else {**services, "tracker": self.tracker}


@dataclass(frozen=True, slots=True)
class StackFault:
    """A part of a stack that died: what, at which time (seconds since the epoch), and its log."""

    what: str
    at: float
    log: str


@dataclass(frozen=True, slots=True)
class StackState:
    """A snapshot of a stack, written by its supervisor.

    Attributes:
        config: as requested.
        mark: value in the environment of every process of the stack, and of no other.
        phase, stage: the progress; `stage` is text for a person.
        supervisor: the process that holds the stack together.
        processes: its other processes by name ("serve", "gateway", "gateway-2").
        addresses: `host:port` by name ("gateway", "serve", "ray_metrics"; of each gateway "direct"
            and "metrics", the second's "direct-2" and "metrics-2").
        ray_dir: Ray's session folder, removed with the stack.
        started: seconds since the epoch.
        ready_s: seconds that the start took; None until it is ready.
        error: why it failed; empty otherwise.
        restarts: how often each part, by its process's name, was started again.
        fault: what died last, when (seconds since the epoch) and the log that tells of it.
        versions: of the packages that run, by name.
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
    restarts: dict[str, int] = field(default_factory=dict)
    fault: StackFault | None = None
    versions: dict[str, str] = field(default_factory=dict)


def numbered(name: str, number: int) -> str:
    """The name of one of several gateways, or of its address; the first's has no number."""
    return name if number == 1 else f"{name}-{number}"


class StackFolder:
    """The folder of one stack."""

    def __init__(self, root: Path, name: str) -> None:
        self.path = root / name
        self.supervisor_log = self.path / "supervisor.log"
        self.serve_log = self.path / "serve.log"
        self._state = self.path / "state.json"
        self._failed = self.path / "failed.json"

    def log_of(self, error: str) -> Path:
        """The log that tells more of what the supervisor says went wrong."""
        found = re.search(r"gateway(?: (\d+))?", error)
        return self.gateway_log(int(found[1] or 1)) if found else self.serve_log

    def gateway_log(self, number: int = 1) -> Path:
        """The log of one gateway."""
        return self.path / f"{numbered('gateway', number)}.log"

    def make(self) -> None:
        """Make the folder, readable by its owner alone."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self) -> StackState | None:
        """The state on disk; None if there is none that this version can read."""
        try:
            return _state_from(json.loads(self._state.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, state: StackState) -> None:
        """Replace the state on disk atomically."""
        fresh = self._state.with_suffix(f".{os.getpid()}.tmp")
        fresh.write_text(json.dumps(dataclasses.asdict(state), indent=2), encoding="utf-8")
        fresh.replace(self._state)

    def forget(self) -> None:
        """Remove the state; logs stay until the next start."""
        self._state.unlink(missing_ok=True)

    def bury(self, fault: StackFault) -> None:
        """Leave word of why the last stack failed, for who looks for it before the next start."""
        self._failed.write_text(json.dumps(dataclasses.asdict(fault)), encoding="utf-8")

    def last_failure(self) -> StackFault | None:
        """Why the last stack failed; None if it was ended, or nobody knows."""
        try:
            return StackFault(**json.loads(self._failed.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def clear(self) -> None:
        """Forget the last stack's failure and its logs."""
        self._failed.unlink(missing_ok=True)
        for log in (self.supervisor_log, self.serve_log, *self.path.glob("gateway*.log")):
            log_file.clear(log)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock of this stack while it is started; the kernel frees a dead holder's."""
        self.make()
        with (self.path / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def running_names(root: Path) -> list[str]:
    """The names of the stacks under `root` that start, run or stop."""
    try:
        names = sorted(folder.name for folder in root.iterdir() if folder.is_dir())
    except OSError:
        return []
    states = {name: StackFolder(root, name).read() for name in names}
    return [
        name
        for name, state in states.items()
        if state is not None and state.phase is not Phase.FAILED and state.supervisor.alive
    ]


def default_root() -> Path:
    """The folder of this user's stacks."""
    return Path(platformdirs.user_state_dir("limelight", appauthor=False))


def _state_from(values: dict[str, Any]) -> StackState:
    return StackState(
        **{
            **values,
            "config": StackConfig(**values["config"]),
            "supervisor": ProcessRef(**values["supervisor"]),
            "phase": Phase(values["phase"]),
            "fault": StackFault(**values["fault"]) if values["fault"] else None,
            "processes": {
                name: ProcessRef(**process) for name, process in values["processes"].items()
            },
        }
    )
