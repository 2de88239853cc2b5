"""What callers notice when parts of a release end: promise beside what was seen.

Two gateways, two segmenter workers, one planner worker, the laptop profile otherwise. Each fault
happens under steady calls of both kinds, and the next waits until everything is well again. With
LIMELIGHT_FAULTS=docs/faults.md the table becomes that file's.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import (
    RELEASE,
    Load,
    Namespace,
    installed,
    profile,
    serving,
    until,
)
from tests.cluster.faults import NOW, Fault, broken_promises, end, loads_of_both_kinds
from training.evaluation.cards import inserted

pytestmark = pytest.mark.timeout(1200)

VALUES = (
    "gateway.replicas=2",
    "segmenter.replicas.min=2",
    "segmenter.replicas.max=2",
    "segmenter.worker.pods.min=2",
)
# Pods of each component when all is well.
WHOLE = {"gateway": 2, "planner": 2, "segmenter": 3}
# Where the table stands in its file.
BEGIN = "<!-- faults: written by tests/cluster/test_chaos.py -->"
END = "<!-- end of faults -->"


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
    with loads_of_both_kinds(release) as loads:
        yield loads


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """Rows of the table, written at the end where a file is named."""
    rows: list[str] = []
    yield rows
    if file := os.environ.get("LIMELIGHT_FAULTS"):
        path = Path(file)
        lines = ["| fault | calls | promised | seen |", "| --- | --- | --- | --- |", *rows]
        path.write_text(inserted(path.read_text(), "\n".join(lines), BEGIN, END))


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_costs_what_is_promised(
    fault: Fault, release: Namespace, loads: dict[str, Load], table: list[str]
) -> None:
    assert not broken_promises(fault, release, loads, WHOLE, table)
