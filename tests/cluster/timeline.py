"""The picture of a load and what the cluster made of it, over time."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def draw(
    steady: Sequence[dict[str, Any]],
    heavy: Sequence[dict[str, Any]],
    pods: Sequence[tuple[float, int, int]],
    file: Path,
) -> None:
    """Calls per second, pods, and the 99th percentile of the steady calls' seconds.

    Args:
        steady: what a load that goes on all the time told each second (`load.py`).
        heavy: the same of a second load, that comes and goes.
        pods: Unix time, worker pods, worker pods that serve.
        file: where the picture goes.
    """
    begin = min(steady[0]["at"], pods[0][0])
    figure = Figure(figsize=(9, 6), layout="constrained")
    calls, replicas, waits = figure.subplots(3, sharex=True)
    for name, course in (("steady callers", steady), ("heavy callers", heavy)):
        at = [line["at"] - begin for line in course[1:]]
        calls.plot(at, _rates(course), label=name)
    calls.set_ylabel("answers/s")
    calls.legend(loc="upper left", fontsize=8)
    seconds = [at - begin for at, _, _ in pods]
    replicas.step(seconds, [there for _, there, _ in pods], where="post", label="worker pods")
    replicas.step(
        seconds,
        [ready for _, _, ready in pods],
        where="post",
        label="those that serve",
    )
    replicas.set_ylabel("pods")
    replicas.set_ylim(0, max(there for _, there, _ in pods) + 0.5)
    replicas.legend(loc="upper left", fontsize=8)
    told = [line for line in steady if line["p99_s"] is not None]
    waits.plot([line["at"] - begin for line in told], [line["p99_s"] for line in told])
    waits.set_ylabel("steady callers, p99 s")
    waits.set_ylim(bottom=0)
    waits.set_xlabel("seconds")
    for axes in (calls, replicas, waits):
        axes.grid(alpha=0.3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=90)


def _rates(course: Sequence[dict[str, Any]]) -> list[float]:
    """Answers per second between a line and the next."""
    return [
        (after["answered"] - before["answered"]) / (after["at"] - before["at"])
        for before, after in pairwise(course)
    ]
