"""The GPU profiles: the right pods on the right pools, and a run from end to end.

Pools are told apart by the label `node-pool`, as values-pools.yaml selects them. On nodes that
kwok pretends (their kubelet's version says so) pods are placed and do not run. Where a node offers
GPUs and runs pods, be they GPUs or only their number, the profile for one GPU runs with the tiny
checkpoints on the CPU.
"""

from typing import Any

import pytest

from tests.cluster.conftest import MODELS, RELEASE, Namespace, installed, profile, until

pytestmark = pytest.mark.timeout(1200)

GPU = "nvidia.com/gpu"
# What fits beside everything else on a small machine: the profiles ask for GPU nodes' worth.
SMALL_HEADS = [
    f"{model}.head.resources.requests.{amount}"
    for model in MODELS
    for amount in ("cpu=100m", "memory=768Mi")
]


def gpu_nodes(pretended: bool) -> list[dict[str, Any]]:
    """Nodes that offer GPUs."""
    return [
        node
        for node in Namespace("default").get("nodes")
        if int(node["status"]["allocatable"].get(GPU, 0)) > 0
        and node["status"]["nodeInfo"]["kubeletVersion"].startswith("kwok") == pretended
    ]


def test_pods_land_on_their_pools(cluster: None) -> None:
    pools: dict[str, set[str]] = {}
    for node in gpu_nodes(pretended=True):
        pool = node["metadata"]["labels"].get("node-pool")
        pools.setdefault(pool, set()).add(node["metadata"]["name"])
    if not {"h100", "l4"} <= set(pools):
        pytest.skip("no pretended GPU nodes with the labels node-pool=h100 and node-pool=l4 (kwok)")
    values = [*SMALL_HEADS, "gateway.resources.requests.cpu=20m"]
    with installed("limelight-pools", *profile(*values, name="pools")) as release:
        wanted = {"planner": ("h100", 1), "segmenter": ("l4", 2)}

        def placed(model: str) -> list[str]:
            pods = release.pods(model, "worker")
            return [pod["spec"]["nodeName"] for pod in pods if "nodeName" in pod["spec"]]

        for model, (pool, count) in wanted.items():
            until(
                f"{model}'s workers are placed", lambda m=model, c=count: len(placed(m)) == c, 120
            )
            assert set(placed(model)) <= pools[pool]
        every = set().union(*pools.values())
        for component in ("gateway", *MODELS):
            node_type = "" if component == "gateway" else "head"
            for pod in release.pods(component, node_type):
                assert pod["spec"].get("nodeName") not in every, "no GPU node for what needs none"


def test_the_profile_for_one_gpu_runs(cluster: None) -> None:
    enough = [
        node["metadata"]["labels"]["kubernetes.io/hostname"]
        for node in gpu_nodes(pretended=False)
        if int(node["status"]["allocatable"][GPU]) >= len(MODELS)
    ]
    if not enough:
        pytest.skip(f"no node that runs pods offers two {GPU}")
    values = [*SMALL_HEADS, "models.variant=cpu"]
    for model in MODELS:
        values += [
            f"{model}.model=",
            f"{model}.settings.device=cpu",
            f"{model}.settings.threads=1",
            f"{model}.worker.nodeSelector.kubernetes\\.io/hostname={enough[0]}",
            f"{model}.worker.cpus=1",
            f"{model}.worker.resources.requests.cpu=200m",
            f"{model}.worker.resources.requests.memory=768Mi",
            f"{model}.worker.resources.limits.memory=4Gi",
        ]
    with installed("limelight-gpu", *profile(*values, name="single-gpu")) as release:
        output = release.helm("test", RELEASE, "--logs", "--timeout", "15m")
        assert output.count("right  ") == 2, output
        for model in MODELS:
            (pod,) = release.pods(model, "worker")
            resources = pod["spec"]["containers"][0]["resources"]
            assert resources["limits"][GPU] == resources["requests"][GPU] == "1"
            # Ray counts it as well, and gave it to the replica.
            status = release.kubectl(
                *("exec", release.pods(model, "head")[0]["metadata"]["name"], "-c", "ray-head"),
                *("--", "ray", "status"),
            )
            assert "1.0/1.0 GPU" in status, status
