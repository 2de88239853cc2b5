"""CPU seconds and memory of each process of a local stack: says what bounds the throughput."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Mapping

import psutil

from services.local.processes import ProcessRef
from services.local.state import StackState

CLIENT, GATEWAY, TRACKER, REST = "client", "gateway", "tracker replica", "Ray, the rest"
# Ray names its processes after their actors.
_ACTORS = {
    "ray::ProxyActor": "Serve proxy",
    "ray::ServeController": "Serve controller",
    "ray::ServeReplica:segmenter": "segmenter replica",
    "ray::ServeReplica:planner": "planner replica",
    "ray::ServeReplica:tracker": TRACKER,
}


class Meter:
    """Reads the CPU seconds used so far, by role; two readings make a difference."""

    def __init__(self, state: StackState) -> None:
        self._gateway = state.processes["gateway"]
        self._serve = state.processes["serve"]

    def read(self) -> dict[str, float]:
        """Seconds by role, those of this very process as the client's."""
        return self._sums(_cpu)

    def memory(self) -> dict[str, float]:
        """Bytes resident by role; what processes share counts in each."""
        return self._sums(_resident)

    def _sums(self, of: Callable[[psutil.Process], float]) -> dict[str, float]:
        sums: defaultdict[str, float] = defaultdict(float)
        sums[CLIENT] = of(psutil.Process(os.getpid()))
        if (gateway := self._gateway.resolve()) is not None:
            sums[GATEWAY] = of(gateway)
        for process in _family(self._serve):
            with contextlib.suppress(psutil.Error):
                sums[_role(process)] += of(process)
        return dict(sums)


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """CPU seconds by role between two readings, most first."""
    used = {role: after[role] - before.get(role, 0.0) for role in after}
    return dict(sorted(used.items(), key=lambda item: -item[1]))


def _family(ref: ProcessRef) -> list[psutil.Process]:
    parent = ref.resolve()
    return [] if parent is None else [parent, *parent.children(recursive=True)]


def _role(process: psutil.Process) -> str:
    title = " ".join(process.cmdline()[:1])
    return next((role for start, role in _ACTORS.items() if title.startswith(start)), REST)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _resident(process: psutil.Process) -> float:
    return float(process.memory_info().rss)
