"""The address that a command talks to."""

from pathlib import Path

from services.cli.console import Exit, fail
from services.local.stack import Stack
from services.local.state import Phase, default_root


def local_stack(state_dir: Path | None, name: str) -> Stack:
    """The local stack of that name, whether it runs or not."""
    return Stack(state_dir or default_root(), name)


def resolve(address: str | None, state_dir: Path | None, name: str) -> str:
    """`address`, or else that of the local stack; ends the command if no stack is ready."""
    if address is not None:
        return address
    state = local_stack(state_dir, name).running()
    if state is None:
        which = "" if name == "default" else f" named {name!r}"
        fail(
            f"no local stack{which} is running",
            Exit.NO_STACK,
            "start one with: limelight up   (or talk to a deployment with --address HOST:PORT)",
        )
    if state.phase is not Phase.READY:
        fail(
            f"the local stack is {state.phase}: {state.stage}",
            Exit.NO_STACK,
            "limelight status shows how far it is",
        )
    return state.addresses["gateway"]
