"""A local stack from outside: start it, find it, stop it, clear what a killed one left."""

import asyncio
import contextlib
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from services.local import processes, ray_folder
from services.local.processes import MARK_VARIABLE
from services.local.state import Phase, StackConfig, StackFault, StackFolder, StackState
from services.local.supervisor import Supervisor

_POLL_S = 0.1
_STOP_S = 45.0
_LOG_TAIL_LINES = 25

OnChange = Callable[[StackState], None]


class StartFailed(Exception):
    """The stack did not start; `log` is the end of the log that tells why."""

    def __init__(self, message: str, log_path: Path | None = None, log: str = "") -> None:
        super().__init__(message)
        self.log_path = log_path
        self.log = log


class Stack:
    """The stack `name` under `root`."""

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.folder = StackFolder(root, name)

    def running(self) -> StackState | None:
        """The state of a stack that starts, runs or stops; what a killed one left is cleared."""
        state = self.folder.read()
        if state is None:
            return None
        if state.supervisor.alive and state.phase is not Phase.FAILED:
            return state
        self._clear(state)
        return None

    def start(self, config: StackConfig, on_change: OnChange) -> tuple[StackState, bool]:
        """Start the stack in the background, unless it runs already, and wait until it is ready.

        Args:
            config: used if the stack is started.
            on_change: called with each new state.

        Returns:
            The ready state, and whether this call started the stack.

        Raises:
            StartFailed: it did not start.
        """
        with self.folder.locked():
            state = self.running()
            if state is not None and state.phase is Phase.STOPPING:
                processes.wait_gone(state.supervisor, _STOP_S)
                state = self.running()
            if state is not None:
                return self._wait_ready(state, on_change), False
            require_packages(config)
            mark = self._prepare()
            with self.folder.supervisor_log.open("ab") as log:
                child = subprocess.Popen(
                    (
                        sys.executable,
                        *("-m", "services.local.supervisor"),
                        str(self.root),
                        json.dumps(dataclasses.asdict(config)),
                    ),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # Python files of the current folder are not the stack's.
                    env={**os.environ, MARK_VARIABLE: mark, "PYTHONSAFEPATH": "1"},
                    start_new_session=True,
                )
            state = self._wait_state(child)
            return self._wait_ready(state, on_change), True

    def run(self, config: StackConfig, on_change: OnChange) -> StackState:
        """Run the supervisor in this process until the stack ends; return the last state.

        Raises:
            StartFailed: it runs already, or did not start.
        """
        with self.folder.locked():
            if self.running() is not None:
                raise StartFailed(f"the stack {self.name!r} runs already; `limelight down` ends it")
            require_packages(config)
            mark = self._prepare()
        os.environ[MARK_VARIABLE] = mark

        async def supervise() -> StackState:
            return await Supervisor(self.folder, config, mark, on_change).run()

        state = asyncio.run(supervise())
        if state.phase is Phase.FAILED:
            raise self._failure(state)
        return state

    def stop(self) -> bool:
        """Stop the stack and kill what is left of it; return whether it was running."""
        state = self.folder.read()
        if state is None:
            return False
        was_alive = state.supervisor.alive
        if was_alive:
            with contextlib.suppress(Exception):
                if process := state.supervisor.resolve():
                    process.terminate()
            processes.wait_gone(state.supervisor, _STOP_S)
            state = dataclasses.replace(self.folder.read() or state, phase=Phase.STOPPING)
        self._clear(state)
        return was_alive

    def _prepare(self) -> str:
        """Forget the last stack's logs and failure, and return a new mark."""
        self.folder.clear()
        return uuid.uuid4().hex

    def _wait_state(self, child: subprocess.Popen[bytes]) -> StackState:
        while True:
            state = self.folder.read()
            if state is not None and state.supervisor.pid == child.pid:
                return state
            if child.poll() is not None:
                log = self.folder.supervisor_log
                raise StartFailed("the supervisor did not start", log, _tail(log))
            time.sleep(_POLL_S)

    def _wait_ready(self, state: StackState, on_change: OnChange) -> StackState:
        shown: StackState | None = None
        while True:
            if state != shown:
                on_change(state)
                shown = state
            if state.phase is Phase.READY:
                return state
            alive = state.supervisor.alive
            fresh = self.folder.read()
            if state.phase is Phase.FAILED or (fresh is None and not alive) or not alive:
                failure = self._failure(fresh or state)
                self._clear(fresh or state)
                raise failure
            time.sleep(_POLL_S)
            state = fresh or state

    def _failure(self, state: StackState) -> StartFailed:
        message = state.error or "the stack was stopped before it was ready"
        log = self.folder.log_of(message)
        return StartFailed(message, log, _tail(log))

    def _clear(self, state: StackState) -> None:
        """End what is left of a dead stack, and only that; forget it."""
        left = processes.with_descendants([state.supervisor, *state.processes.values()])
        left += processes.marked(state.mark)
        own = os.getpid()
        processes.end([ref for ref in left if ref.pid != own], 0.0)
        ray_folder.remove(state.ray_dir)
        # Another command may have cleared it before, and a new stack may be there by now.
        current = self.folder.read()
        if current is None or current.mark == state.mark:
            self.folder.forget()
            if state.phase in (Phase.READY, Phase.FAILED):
                self.folder.bury(
                    StackFault(
                        state.error or "its supervisor was killed",
                        state.fault.at if state.fault else time.time(),
                        state.fault.log if state.fault else str(self.folder.supervisor_log),
                    )
                )


def require_packages(config: StackConfig) -> None:
    """Raise `StartFailed` unless what the stack's processes import is installed."""
    needed = {"ray", "pydantic_settings", "grpc_health"}
    if any(arguments.get("engine") != "fake" for arguments in config.services.values()):
        needed |= {"torch", "transformers"}
    missing = sorted(name for name in needed if importlib.util.find_spec(name) is None)
    if missing:
        raise StartFailed(
            f"the local stack needs {', '.join(missing)}: pip install 'limelight-server[models]'"
        )


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(line[:300] for line in lines[-_LOG_TAIL_LINES:])
