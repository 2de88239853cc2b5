"""The address that a command talks to."""

from datetime import datetime
from pathlib import Path
from typing import NoReturn

from services.cli.console import Exit, fail
from services.local.stack import Stack
from services.local.state import Phase, StackFault, default_root, running_names


def local_stack(state_dir: Path | None, name: str) -> Stack:
    """The local stack of that name, whether it runs or not."""
    return Stack(state_dir or default_root(), name)


def resolve(address: str | None, state_dir: Path | None, name: str) -> str:
    """`address`, or else that of the local stack; ends the command if no stack is ready."""
    if address is not None:
        return address
    state = local_stack(state_dir, name).running()
    if state is None:
        fail_without_stack(state_dir, name)
    if state.phase is not Phase.READY:
        fail(
            f"the local stack is {state.phase}: {state.stage}",
            Exit.NO_STACK,
            "limelight status shows how far it is",
        )
    return state.addresses["gateway"]


def fail_without_stack(state_dir: Path | None, name: str) -> NoReturn:
    """End the command because no stack of that name runs, and name those that do."""
    where = "" if state_dir is None else f" with its state in {state_dir}"
    others = running_names(state_dir or default_root())
    failure = local_stack(state_dir, name).folder.last_failure()
    last = "" if failure is None else f"; the last one failed: {fault_line(failure)}"
    if not others:
        fail(
            f"no local stack is running{where}{last}",
            Exit.NO_STACK,
            "start one with: limelight up   (or talk to a deployment with --address HOST:PORT)",
        )
    fail(
        f"no local stack named {name!r} is running{where}{last}; running: {', '.join(others)}",
        Exit.NO_STACK,
        f"choose one with --name, or start this one with: limelight up --name {name}",
    )


def fault_line(fault: StackFault) -> str:
    """What died, when, and where it is told."""
    at = datetime.fromtimestamp(fault.at).astimezone().isoformat(" ", "seconds")
    return f"{fault.what} at {at}, see {fault.log}"
