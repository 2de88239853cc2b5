"""With Redis or Valkey to keep Ray's state, a model's head can end and its workers go on answering.

`REDIS_IMAGE` names an image with `redis-server` or `valkey-server` on its PATH that the cluster can
have (`valkey/valkey:8`); it is put into the cluster by `LOAD_IMAGE`, as the others are.
"""

import os
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from tests.chart.conftest import CHART
from tests.cluster.conftest import (
    LOCKED_DOWN,
    MODELS,
    RELEASE,
    Namespace,
    namespace,
    profile,
    until,
)
from tests.cluster.faults import NOW, Fault, broken_promises, end, loads_of_both_kinds

pytestmark = pytest.mark.timeout(1200)

REDIS = "redis"
CHART_VALUES = (f"models.redisAddress={REDIS}:6379", "gateway.replicas=1")
WHOLE = {"gateway": 1, "planner": 2, "segmenter": 2}


@pytest.fixture(scope="module")
def release(cluster: None) -> Iterator[Namespace]:
    image = os.environ.get("REDIS_IMAGE")
    if not image:
        pytest.skip("REDIS_IMAGE is not set: an image of Redis or Valkey, such as valkey/valkey:8")
    subprocess.run([*shlex.split(os.environ["LOAD_IMAGE"]), image], check=True)
    with namespace("limelight-ray-state") as made:
        serve_redis(made, image)
        made.helm("install", RELEASE, str(CHART), *profile(*CHART_VALUES))
        made.helm("test", RELEASE, "--timeout", "15m")
        yield made
        # Before its Redis: KubeRay takes a cluster's keys out of it when the cluster ends.
        made.helm("uninstall", RELEASE, "--wait")
        until("Ray's clusters are gone", lambda: not made.get("rayclusters"))


def serve_redis(release: Namespace, image: str) -> None:
    """A Redis without a disk, and its Service."""
    labels = {"app": REDIS}
    server = "redis-server" if "valkey" not in image else "valkey-server"
    container = {
        "name": REDIS,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": [server, "--save", "", "--appendonly", "no", "--protected-mode", "no"],
        "securityContext": LOCKED_DOWN,
        "readinessProbe": {"tcpSocket": {"port": 6379}},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
    }
    release.apply(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": REDIS, "labels": labels},
            "spec": {
                "automountServiceAccountToken": False,
                "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
                "containers": [container],
            },
        }
    )
    release.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": REDIS},
            "spec": {"selector": labels, "ports": [{"port": 6379}]},
        }
    )
    release.kubectl("wait", "--for=condition=Ready", f"pod/{REDIS}", "--timeout=3m")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("the segmenter's head is killed", end("segmenter", "head", *NOW), None, None),
        Fault("the planner's head is deleted", end("planner", "head"), None, None),
    ],
    ids=lambda fault: fault.name,
)
def test_workers_outlive_their_head(fault: Fault, release: Namespace) -> None:
    workers = {pod["metadata"]["name"] for model in MODELS for pod in release.pods(model, "worker")}
    with loads_of_both_kinds(release) as loads:
        assert not broken_promises(fault, release, loads, WHOLE, [])
    assert workers <= release.names(*MODELS)
