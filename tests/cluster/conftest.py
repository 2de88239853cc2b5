"""A release of the chart on the cluster that KUBECONFIG names, with real images.

`LOAD_IMAGE` is the command that puts an image of the local Docker into the cluster: `kind load
docker-image`, `minikube image load`. Tests are skipped where either is missing. Whatever they make
lies in namespaces of their own, which are deleted at the end.
"""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chart.conftest import CHART, ROOT, tool

IMAGES = ("limelight-gateway", "limelight-models")
VERSION = "0.1.0"
GATEWAY_IMAGE = f"{IMAGES[0]}:{VERSION}"
# A model's pods on a busy laptop: pulled, started, imported, loaded.
PATIENCE_S = 600.0

LOCKED_DOWN = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Namespace:
    """A namespace that enforces the `restricted` Pod Security Standard."""

    name: str

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        command = [tool("kubectl"), "--namespace", self.name, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def helm(self, *arguments: str) -> str:
        command = [tool("helm"), "--namespace", self.name, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"helm {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """The items of `kubectl get`."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", *arguments, "-o", "json"))[
            "items"
        ]
        return found

    def pods(self, component: str, node: str = "") -> list[dict[str, Any]]:
        """Pods of a component that are not ending."""
        labels = f"app.kubernetes.io/component={component}"
        if node:
            labels += f",limelight/ray-node={node}"
        found = self.get("pods", "-l", labels)
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def names(self, *components: str) -> set[str]:
        """Names of the components' pods that are not ending."""
        return {pod["metadata"]["name"] for one in components for pod in self.pods(one)}

    def rayservice(self, model: str) -> dict[str, Any]:
        """The RayService of a model, as it is now."""
        found: dict[str, Any] = json.loads(
            self.kubectl("get", "rayservice", f"{RELEASE}-{model}", "-o", "json")
        )
        return found

    def run(self, name: str, command: list[str], files: dict[str, str] | None = None) -> None:
        """Start a pod of the gateway's image that anyone could start; `files` lie in /files."""
        if files:
            self.apply(
                {
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": name},
                    "data": files,
                }
            )
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 90,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1000},
            "containers": [
                {
                    "name": "main",
                    "image": GATEWAY_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                    "command": command,
                    "securityContext": LOCKED_DOWN,
                    "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
                }
            ],
        }
        if files:
            spec["volumes"] = [{"name": "files", "configMap": {"name": name}}]
            spec["containers"][0]["volumeMounts"] = [{"name": "files", "mountPath": "/files"}]
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})

    def apply(self, manifest: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    @contextmanager
    def load(
        self, callers: int, pause_s: float, instruction: str = "", name: str = "load"
    ) -> Iterator["Load"]:
        """Steady calls from a pod: with an instruction to both models, without to the segmenter."""
        script = (Path(__file__).parent / "load.py").read_text()
        command = ["python", "/files/load.py", ADDRESS, str(callers), str(pause_s)]
        self.run(name, [*command, *([instruction] if instruction else [])], {"load.py": script})
        load = Load(self, name)
        until("the load is answered", lambda: load.now()["answered"] > 0)
        try:
            yield load
        finally:
            self.kubectl("delete", "pod,configmap", name, "--wait", "--ignore-not-found")


@dataclass(frozen=True)
class Load:
    """Calls that are going on."""

    namespace: Namespace
    name: str

    def course(self) -> list[dict[str, Any]]:
        """What it told each second so far."""
        lines = self.namespace.kubectl("logs", self.name, check=False).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def now(self) -> dict[str, Any]:
        """How many calls were answered and failed so far."""
        course = self.course()
        return course[-1] if course else {"answered": 0, "failed": 0}

    def more(self, calls: int) -> dict[str, Any]:
        """Wait until so many more calls were answered."""
        goal = self.now()["answered"] + calls
        until(f"{calls} more calls are answered", lambda: self.now()["answered"] >= goal)
        return self.now()


RELEASE = "limelight"
MODELS = ("planner", "segmenter")
ADDRESS = f"{RELEASE}-gateway:50551"


def until(what: str, holds: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
    """Wait until `holds` gives something true; how long it took, in seconds."""
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < patience_s, f"never: {what}"
        time.sleep(1.0)
    return time.monotonic() - begin


def ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is ready and not ending."""
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def serving(namespace: Namespace, model: str) -> int:
    """Worker pods of a model that are ready: that serve."""
    return sum(map(ready, namespace.pods(model, "worker")))


@pytest.fixture(scope="session")
def cluster() -> None:
    """A cluster that answers, with KubeRay and our images on it."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster (kind, minikube, or a real one)")
    kubectl = tool("kubectl")
    answers = subprocess.run([kubectl, "get", "crd", "rayservices.ray.io"], capture_output=True)
    if answers.returncode:
        pytest.skip("the cluster of KUBECONFIG has no KubeRay: helm install kuberay-operator")
    load = os.environ.get("LOAD_IMAGE")
    if not load:
        pytest.skip("LOAD_IMAGE is not set: the command that puts an image into the cluster")
    for image in IMAGES:
        subprocess.run([*shlex.split(load), f"{image}:{VERSION}"], check=True, cwd=ROOT)


@contextmanager
def namespace(name: str) -> Iterator[Namespace]:
    """A namespace and, at the end, nothing of it: the next one needs the room."""
    made = Namespace(name)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    made.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    )
    try:
        yield made
    finally:
        made.helm("uninstall", RELEASE, "--ignore-not-found", "--wait")
        made.kubectl("delete", "namespace", name, "--wait", "--timeout=5m")


@contextmanager
def installed(name: str, *arguments: str) -> Iterator[Namespace]:
    """A release of the chart in a namespace of its own."""
    with namespace(name) as made:
        made.helm("install", RELEASE, str(CHART), *arguments)
        yield made


def profile(*values: str, name: str = "laptop") -> list[str]:
    """Arguments of helm: a profile and `values` over it."""
    arguments = ["--values", str(CHART / f"values-{name}.yaml")]
    for value in values:
        arguments += ["--set", value]
    return arguments
