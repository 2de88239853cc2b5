"""What callers notice when parts of a release end: promise beside what was seen.

Two gateways, two segmenter workers, one planner worker, the laptop profile otherwise. Each fault
happens under steady calls of both kinds, and the next waits until everything is well again. With
LIMELIGHT_FAULTS=docs/faults.md the table becomes that file's.
"""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cluster.conftest import (
    RELEASE,
    Load,
    Namespace,
    installed,
    profile,
    ready,
    serving,
    until,
)

pytestmark = pytest.mark.timeout(1200)

VALUES = (
    "gateway.replicas=2",
    "segmenter.replicas.min=2",
    "segmenter.replicas.max=2",
    "segmenter.worker.pods.min=2",
)
# A head's workers end up to half a minute after it was replaced.
STEADY_S = 40.0
# Where the table stands in its file.
BEGIN = "<!-- faults: written by tests/cluster/test_chaos.py -->"
END = "<!-- end of faults -->"


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


NOW = ("--grace-period=0", "--force")


def evict_gateways(release: Namespace) -> None:
    """As a node's drain does it: one after the other, as the disruption budget allows."""
    for pod in release.pods("gateway"):
        name = pod["metadata"]["name"]
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": release.name},
        }
        path = f"/api/v1/namespaces/{release.name}/pods/{name}/eviction"

        def evicted(path: str = path, eviction: dict[str, object] = eviction) -> bool:
            body = json.dumps(eviction)
            return "Success" in release.kubectl(
                "create", "--raw", path, "-f", "-", stdin=body, check=False
            )

        until("the budget allows it", evicted)


def restart_gateways(release: Namespace) -> None:
    release.kubectl("rollout", "restart", f"deployment/{RELEASE}-gateway")
    release.kubectl("rollout", "status", f"deployment/{RELEASE}-gateway", "--timeout=5m")


def end_operator(release: Namespace) -> None:
    operator = Namespace("kuberay-system")
    operator.kubectl("delete", "pod", "--all", "--wait=false")


FAULTS = [
    Fault("a gateway pod is deleted", end("gateway"), None, None),
    Fault("a gateway is killed", end("gateway", "", *NOW), None, None),
    Fault("the gateways are evicted one by one", evict_gateways, None, None),
    Fault("the gateways are rolled", restart_gateways, None, None),
    Fault("KubeRay's operator is deleted", end_operator, None, None),
    Fault("one of two segmenter workers is deleted", end("segmenter", "worker"), None, None),
    Fault("one of two segmenter workers is killed", end("segmenter", "worker", *NOW), None, None),
    Fault("the only planner worker is killed", end("planner", "worker", *NOW), None, 120),
    Fault("the segmenter's head is killed", end("segmenter", "head", *NOW), 180, 180),
    Fault("the planner's head is deleted", end("planner", "head"), None, 180),
]


@pytest.fixture(scope="module")
def release(cluster: None) -> Iterator[Namespace]:
    with installed("limelight-chaos", *profile(*VALUES)) as made:
        made.helm("test", RELEASE, "--timeout", "15m")
        until("two segmenter workers serve", lambda: serving(made, "segmenter") == 2)
        yield made


@pytest.fixture(scope="module")
def loads(release: Namespace) -> Iterator[dict[str, Load]]:
    with (
        release.load(callers=2, pause_s=0.3, name="phrases") as phrases,
        release.load(
            callers=2, pause_s=0.3, instruction="all the dogs", name="instructions"
        ) as both,
    ):
        yield {"phrases": phrases, "instructions": both}


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Rows of the table, written at the end where a file is named."""
    rows: list[str] = []
    yield rows
    if file := os.environ.get("LIMELIGHT_FAULTS"):
        path = Path(file)
        before, _, rest = path.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        lines = ["| fault | calls | promised | seen |", "| --- | --- | --- | --- |", *rows]
        path.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"]))


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_costs_what_is_promised(
    fault: Fault, release: Namespace, loads: dict[str, Load], table: list[str]
) -> None:
    before = {kind: load.now() for kind, load in loads.items()}
    began = time.time()
    fault.happen(release)
    for load in loads.values():
        load.more(60)
    until("everything is there again", lambda: stays_whole(release))
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
    assert not missed


def stays_whole(release: Namespace) -> bool:
    """Whether all parts are there, and half a minute later still: a head's workers follow it."""
    end = time.monotonic() + STEADY_S
    while is_whole(release):
        if time.monotonic() > end:
            return True
        time.sleep(2.0)
    return False


def is_whole(release: Namespace) -> bool:
    """Whether all parts are there and ready, and none is still ending."""
    wanted = {"gateway": 2, "planner": 2, "segmenter": 3}
    for component, count in wanted.items():
        pods = release.get("pods", "-l", f"app.kubernetes.io/component={component}")
        if len(pods) != count or not all(ready(pod) for pod in pods):
            return False
    return True
