"""The life of a release of the laptop profile, in order: install, upgrade, scale, uninstall."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chart.conftest import CHART
from tests.cluster import timeline
from tests.cluster.conftest import (
    ADDRESS,
    MODELS,
    RELEASE,
    Namespace,
    installed,
    profile,
    ready,
    serving,
    until,
)

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def release(cluster: None) -> Iterator[Namespace]:
    """The laptop profile, installed."""
    with installed("limelight-laptop", *profile()) as made:
        yield made


def test_from_install_to_masks(release: Namespace) -> None:
    begin = time.monotonic()
    output = release.helm("test", RELEASE, "--logs", "--timeout", "15m")
    print(f"\nhelm install to the right masks: {time.monotonic() - begin:.0f} s")
    assert "Phase:          Succeeded" in output
    assert output.count("right  ") == 2, output


def test_every_pod_says_which_request_it_answered(release: Namespace) -> None:
    code = (
        "import services.cli, pathlib; from limelight import Client; "
        "p = pathlib.Path(services.cli.__file__).parent / 'pictures/girl-and-dogs.png'; "
        f"print('id', Client('{ADDRESS}').segment(p, 'the girl').request_id)"
    )
    release.run("asker", ["python", "-c", code])
    until("the call is answered", lambda: "id " in release.kubectl("logs", "asker", check=False))
    request_id = release.kubectl("logs", "asker").split()[-1]
    for component in ("gateway", *MODELS):
        lines = [
            json.loads(line)
            for pod in release.pods(component)
            for line in release.kubectl("logs", pod["metadata"]["name"], "--tail=-1").splitlines()
            if line.startswith("{") and request_id in line
        ]
        assert [line["code"] for line in lines if "code" in line] == ["OK"], component


def test_a_stranger_reaches_nothing_but_the_gateway(release: Namespace) -> None:
    targets = {"gateway": (f"{RELEASE}-gateway", 50551)}
    for component in ("gateway", *MODELS):
        for pod in release.pods(component):
            address = pod["status"]["podIP"]
            ports = [9464] if component == "gateway" else [6379, 8265, 10001, 8000, 9000, 8080]
            targets |= {f"{pod['metadata']['name']}:{port}": (address, port) for port in ports}
    code = (
        "import json, socket, sys\n"
        "open_to_us = []\n"
        "for name, (host, port) in json.loads(sys.argv[1]).items():\n"
        "    try:\n"
        "        socket.create_connection((host, port), 3).close()\n"
        "        open_to_us.append(name)\n"
        "    except OSError:\n"
        "        pass\n"
        "print('open', open_to_us)\n"
    )
    release.run("stranger", ["python", "-c", code, json.dumps(targets)])
    until(
        "the stranger has tried", lambda: "open" in release.kubectl("logs", "stranger", check=False)
    )
    assert release.kubectl("logs", "stranger").strip() == "open ['gateway']"


@pytest.mark.parametrize(
    "value",
    ["gateway.settings.max_in_flight=64", "segmenter.settings.max_batch_images=4"],
    ids=["gateway", "serve"],
)
def test_an_upgrade_loses_no_call(release: Namespace, value: str) -> None:
    pods = release.names("segmenter")
    with release.load(callers=2, pause_s=0.2) as load:
        load.more(10)
        release.helm("upgrade", RELEASE, str(CHART), *profile(value), "--wait", "--timeout", "5m")
        if value.startswith("segmenter"):
            until("Serve has the new settings", lambda: applied(release, "max_batch_images"))
        end = load.more(60)
    print(f"\n{value}: {end}")
    assert end["failed"] == 0
    assert release.names("segmenter") == pods


def test_gateways_come_with_the_load(release: Namespace) -> None:
    """By Kubernetes' own autoscaler, on CPU; nobody notices that one came."""
    if not release.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1", check=False):
        pytest.skip("the cluster has no metrics API: install metrics-server")
    values = (
        "gateway.autoscaling.enabled=true",
        "gateway.autoscaling.minReplicas=1",
        "gateway.autoscaling.maxReplicas=2",
        "gateway.autoscaling.cpuPercent=50",
    )
    release.helm("upgrade", RELEASE, str(CHART), *profile(*values))
    with release.load(callers=4, pause_s=0.0) as load:
        took_s = until(
            "a second gateway is ready", lambda: sum(map(ready, release.pods("gateway"))) == 2
        )
        end = load.more(50)
    print(f"\nsecond gateway after {took_s:.0f} s: {end}")
    assert end["failed"] == 0
    release.helm("upgrade", RELEASE, str(CHART), *profile())
    until("there is one gateway again", lambda: len(release.pods("gateway")) == 1)


def applied(release: Namespace, setting: str) -> bool:
    """Whether Serve runs with what the RayService now says."""
    service = release.rayservice("segmenter")
    applications = service["status"]["activeServiceStatus"].get("applicationStatuses", {})
    running = [one.get("status") == "RUNNING" for one in applications.values()]
    return setting in service["spec"]["serveConfigV2"] and all(running) and bool(running)


def test_a_new_ray_cluster_takes_over(release: Namespace) -> None:
    """A change of the Ray cluster makes a second one; calls go on, repeated where they must be."""
    old = release.names("segmenter")
    with release.load(callers=2, pause_s=0.2) as load:
        load.more(10)
        release.helm("upgrade", RELEASE, str(CHART), *profile("segmenter.sharedMemory=320Mi"))

        took_s = until("the new cluster serves alone", lambda: switched(release, old))
        end = load.more(60)
    print(f"\nnew Ray cluster after {took_s:.0f} s: {end}")
    assert end["failed"] == 0


def switched(release: Namespace, old: set[str]) -> bool:
    """Whether the segmenter's pods are others than before, and serve."""
    names = release.names("segmenter")
    return bool(names) and not names & old and serving(release, "segmenter") > 0


def test_replicas_and_pods_follow_the_load(release: Namespace, tmp_path: Path) -> None:
    values = (
        "segmenter.replicas.max=2",
        "segmenter.settings.keep_replicas_s=20",
        "segmenter.settings.image_cache_bytes=0",
        "segmenter.sharedMemory=320Mi",
    )
    release.helm("upgrade", RELEASE, str(CHART), *profile(*values))
    until("Serve has the new settings", lambda: applied(release, "keep_replicas_s"))
    pods: list[tuple[float, int, int]] = []

    def look() -> tuple[int, int]:
        """Worker pods, and those that serve."""
        there, ready = len(release.pods("segmenter", "worker")), serving(release, "segmenter")
        pods.append((time.time(), there, ready))
        return there, ready

    with release.load(callers=1, pause_s=0.5, name="steady") as steady:
        until("ten calls of calm", lambda: look() and steady.now()["answered"] > 10)
        with release.load(callers=6, pause_s=0.0) as heavy:
            up_s = until("a second pod serves", lambda: look()[1] == 2)
            goal = heavy.now()["answered"] + 200
            until("200 more answers", lambda: look() and heavy.now()["answered"] > goal)
            heavy_course = heavy.course()
        down_s = until("the second pod is gone", lambda: look()[0] == 1)
        steady.more(10)
        look()
        course = steady.course()
    print(f"\nsecond pod after {up_s:.0f} s, gone {down_s:.0f} s after the load")
    print(f"steady: {course[-1]}\nheavy: {heavy_course[-1]}")
    picture = Path(os.environ.get("LIMELIGHT_TIMELINE", tmp_path / "timeline.png"))
    timeline.draw(course, heavy_course, pods, picture)
    assert course[-1]["failed"] == heavy_course[-1]["failed"] == 0


def test_a_rollback_and_an_uninstall_leave_nothing(release: Namespace) -> None:
    old = release.names("segmenter")
    with release.load(callers=2, pause_s=0.2) as load:
        release.helm("rollback", RELEASE, "1", "--wait", "--timeout", "5m")
        until("the first release's cluster serves alone", lambda: switched(release, old))
        end = load.more(20)
    print(f"\nrollback: {end}")
    assert end["failed"] == 0
    release.helm("uninstall", RELEASE, "--wait", "--timeout", "5m")

    def left() -> list[str]:
        kinds = "all,rayservices,rayclusters,configmaps,secrets,serviceaccounts,networkpolicies,pdb"
        names = release.kubectl("get", f"{kinds},roles,rolebindings,pvc", "-o", "name").split()
        ours = ("pod/asker", "pod/stranger", f"pod/{RELEASE}-test")
        standing = ("configmap/kube-root-ca.crt", "serviceaccount/default")
        return [name for name in names if name not in (*ours, *standing)]

    until("nothing is left", lambda: not left(), 180)
