"""The processes of a running stack by what they do."""

import psutil

from services.local import processes
from services.local.state import StackState

GATEWAY = "gateway"
SEGMENTER = "segmenter replica"
PROXY = "Serve proxy"
CONTROLLER = "Serve controller"
RAYLET = "raylet"
SUPERVISOR = "supervisor"
# Ray names its processes after their actors.
_TITLES = {
    "ray::ServeReplica:segmenter": SEGMENTER,
    "ray::ProxyActor": PROXY,
    "ray::ServeController": CONTROLLER,
}


class NoSuchPart(Exception):
    """The stack has no living process of that kind now."""


def part_of(name: str, arguments: list[str]) -> str | None:
    """What a process of Ray does, by its name and command line; None: nothing that is ended."""
    if name == "raylet":
        return RAYLET
    title = arguments[0] if arguments else ""
    return next((part for start, part in _TITLES.items() if title.startswith(start)), None)


def find(state: StackState, part: str) -> psutil.Process:
    """A living process that is that part; of several gateways the first.

    Raises:
        NoSuchPart: there is none.
    """
    ref = {GATEWAY: state.processes.get("gateway"), SUPERVISOR: state.supervisor}.get(part)
    if ref is not None and (process := ref.resolve()) is not None:
        return process
    for found in processes.marked(state.mark, "serve"):
        process = found.resolve()
        try:
            if process is not None and part_of(process.name(), process.cmdline()) == part:
                return process
        except psutil.Error:  # it has just ended
            continue
    raise NoSuchPart(f"no {part} runs")
