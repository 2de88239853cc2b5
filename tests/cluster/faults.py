"""Faults under load, and what callers notice of them: for every test that ends something."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

from tests.cluster.conftest import Load, Namespace, ready, until

# A head's workers end up to half a minute after it was replaced.
STEADY_S = 40.0
NOW = ("--grace-period=0", "--force")


@dataclass(frozen=True)
class Fault:
    """Something that ends.

    Attributes:
        name: what it is, for the table.
        happen: makes it so.
        phrases, instructions: what calls of either kind are promised: no failure, or at most so
            many seconds until all are answered again.
    """

    name: str
    happen: Callable[[Namespace], None]
    phrases: float | None
    instructions: float | None


def end(component: str, node: str = "", *options: str) -> Callable[[Namespace], None]:
    """Deletes the first pod of a component."""

    def happen(release: Namespace) -> None:
        (pod, *_) = release.pods(component, node)
        release.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", *options)

    return happen


@contextmanager
def loads_of_both_kinds(release: Namespace) -> Iterator[dict[str, Load]]:
    """Steady calls that need the segmenter, and such that need the planner as well."""
    with (
        release.load(callers=2, pause_s=0.3, name="phrases") as phrases,
        release.load(
            callers=2, pause_s=0.3, instruction="all the dogs", name="instructions"
        ) as instructions,
    ):
        yield {"phrases": phrases, "instructions": instructions}


def broken_promises(
    fault: Fault,
    release: Namespace,
    loads: dict[str, Load],
    whole: dict[str, int],
    table: list[str],
) -> list[str]:
    """Make a fault happen under load, wait until all is well, and add its rows to `table`.

    Args:
        fault: what ends.
        release: where.
        loads: calls that are going on, by their kind: phrases, instructions.
        whole: how many pods each component has when all is well.
        table: lines of Markdown.

    Returns:
        What was promised and did not hold.
    """
    before = {kind: load.now() for kind, load in loads.items()}
    began = time.time()
    fault.happen(release)
    for load in loads.values():
        load.more(60)
    until("everything is there again", lambda: _stays_whole(release, whole))
    missed = []
    for kind, promised_s in (("phrases", fault.phrases), ("instructions", fault.instructions)):
        loads[kind].more(20)
        course = [line for line in loads[kind].course() if line["at"] >= before[kind]["at"]]
        failed = course[-1]["failed"] - before[kind]["failed"]
        calls = failed + course[-1]["answered"] - before[kind]["answered"]
        # The last second in which a call failed, and the slowest answer meanwhile.
        failures = [
            later["at"]
            for earlier, later in pairwise(course)
            if later["failed"] > earlier["failed"]
        ]
        lasted_s = failures[-1] - began if failures else 0.0
        slowest_s = max(line["p99_s"] or 0.0 for line in course)
        seen = f"{failed} of {calls} failed, slowest answer {slowest_s:.1f} s"
        if failures:
            seen += f", well again after {lasted_s:.0f} s"
        promise = "no call fails" if promised_s is None else f"well again within {promised_s:.0f} s"
        table.append(f"| {fault.name} | with {kind} | {promise} | {seen} |")
        print(f"\n{table[-1]}")
        if lasted_s > (promised_s or 0.0):
            missed.append(f"{kind}: {seen}; {course[-1]['why']}")
    return missed


def _stays_whole(release: Namespace, whole: dict[str, int]) -> bool:
    """Whether all parts are there, and half a minute later still: a head's workers follow it."""
    end = time.monotonic() + STEADY_S
    while _is_whole(release, whole):
        if time.monotonic() > end:
            return True
        time.sleep(2.0)
    return False


def _is_whole(release: Namespace, whole: dict[str, int]) -> bool:
    """Whether all parts are there and ready, and none is still ending."""
    for component, count in whole.items():
        pods = release.get("pods", "-l", f"app.kubernetes.io/component={component}")
        if len(pods) != count or not all(ready(pod) for pod in pods):
            return False
    return True
