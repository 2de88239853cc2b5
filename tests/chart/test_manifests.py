"""The manifests of every profile are what an API server takes, and what the project means."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.gateway.settings import Settings as GatewaySettings
from services.local.runtime import RUNTIME
from services.planner.settings import PlannerSettings
from services.replica import leaving
from services.segmenter.settings import SegmenterSettings
from services.tracker.settings import TrackerSettings
from tests.chart.conftest import CHART, PROFILES, Manifest, Render, named, pods
from tests.chart.schemas import faults

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).parent / "golden"
MODELS = ("planner", "segmenter")
# The applications of each cluster.
HOSTED = {"planner": ("planner",), "segmenter": ("segmenter", "tracker")}
SETTINGS = {"planner": PlannerSettings, "segmenter": SegmenterSettings, "tracker": TrackerSettings}
ALL_APIS = ("monitoring.coreos.com/v1",)
ROUTE = ("grpcRoute.enabled=true", "grpcRoute.parentRefs[0].name=edge")
REDIS = (
    "tracing.endpoint=collector:4317",
    "models.redisAddress=valkey:6379",
    "models.redisPassword.secret=valkey",
    "gateway.redisUrl=redis://valkey:6379/1",
    "gateway.redisPassword.secret=valkey",
    "models.hubToken.secret=hub",
    "models.cacheClaim=weights",
    "image.pullSecrets[0]=registry",
)


@pytest.fixture(params=PROFILES)
def manifests(request: pytest.FixtureRequest, render: Render) -> list[Manifest]:
    return render(request.param, *ROUTE, apis=ALL_APIS)


def serve_config(service: Manifest) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return config


def test_an_api_server_takes_them(manifests: list[Manifest]) -> None:
    kinds = {one["kind"] for one in manifests}
    assert {"Deployment", "RayService", "NetworkPolicy", "PodMonitor", "GRPCRoute"} <= kinds
    for one in manifests:
        assert faults(one) == [], f"{one['kind']}/{one['metadata']['name']}"


@pytest.mark.parametrize("profile", PROFILES)
def test_so_it_does_with_everything_optional(render: Render, profile: str) -> None:
    for one in render(profile, *REDIS):
        assert faults(one) == [], f"{one['kind']}/{one['metadata']['name']}"


def test_the_schemas_would_see_a_fault(render: Render) -> None:
    service = named(render("laptop"), "RayService", "planner")
    service["spec"]["rayClusterConfig"]["headGroupSpec"]["templates"] = {}
    assert any("templates" in fault for fault in faults(service))
    deployment = named(render("laptop"), "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    assert faults(deployment)


def test_every_pod_passes_the_restricted_standard(manifests: list[Manifest]) -> None:
    found = pods(manifests)
    assert len(found) == 6  # the gateway, two heads, two worker groups, the test
    for name, pod in found:
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault", name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        assert {next(iter(set(v) - {"name"})) for v in spec.get("volumes", [])} <= {
            "emptyDir",
            "persistentVolumeClaim",
        }
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"], name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
    for service in (one for one in manifests if one["kind"] == "RayService"):
        autoscaler = service["spec"]["rayClusterConfig"]["autoscalerOptions"]
        assert autoscaler["securityContext"]["readOnlyRootFilesystem"]


def test_replicas_run_as_everything_was_tested(manifests: list[Manifest]) -> None:
    profile = {**RUNTIME.allocator, **RUNTIME.ray}
    for name, pod in pods(manifests):
        if name.startswith("RayService"):
            (container,) = pod["spec"]["containers"]
            env = {variable["name"]: variable.get("value") for variable in container["env"]}
            assert profile.items() <= env.items(), name
    for model in MODELS:
        served = serve_config(named(manifests, "RayService", model))["grpc_options"]
        hosted = [f".{name}_pb2" for name in (*HOSTED[model], "replica")]
        expected = [path for path in RUNTIME.grpc_servicers if any(name in path for name in hosted)]
        assert len(expected) == len(hosted)
        assert served["grpc_servicer_functions"] == expected


@pytest.mark.parametrize("part", ["runtime", "servicers"])
def test_the_runtime_profile_in_the_chart_is_the_projects(part: str) -> None:
    parts = ["servicers"] if part == "servicers" else ["allocator", "ray"]
    options = [option for name in parts for option in ("--print", name)]
    command = [sys.executable, "-m", "services.local.runtime", *options, "--format", "json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    committed = (CHART / "files" / f"{part}.json").read_text()
    assert json.loads(committed) == json.loads(printed), "run 'make chart-files'"


def test_serves_arguments_are_settings_of_the_services(manifests: list[Manifest]) -> None:
    for model in MODELS:
        applications = serve_config(named(manifests, "RayService", model))["applications"]
        assert tuple(application["name"] for application in applications) == HOSTED[model]
        for application in applications:
            name = application["name"]
            assert application["import_path"] == f"services.{name}.app:build"
            SETTINGS[name](**application["args"])  # refuses what it does not know


def test_a_release_without_a_tracker(render: Render) -> None:
    manifests = render("laptop", "tracker.enabled=false")
    service = named(manifests, "RayService", "segmenter")
    assert [one["name"] for one in serve_config(service)["applications"]] == ["segmenter"]
    _, worker = (pod for _, pod in pods([service]))
    assert "lifecycle" not in worker["spec"]["containers"][0]
    gateway = named(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert "LIMELIGHT_GATEWAY_TRACKER_ADDRESS" not in {one["name"] for one in gateway["env"]}


def test_replicas_of_both_fit_into_the_pods(manifests: list[Manifest]) -> None:
    """The segmenter's and the tracker's least, and their most, at once."""
    service = named(manifests, "RayService", "segmenter")
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    applications = serve_config(service)["applications"]
    for count, least in (("minReplicas", "min_replicas"), ("maxReplicas", "max_replicas")):
        for resource, each in (("num-cpus", "replica_cpus"), ("num-gpus", "replica_gpus")):
            there = float(group["rayStartParams"][resource]) * group[count]
            assert there >= sum(one["args"][least] * one["args"][each] for one in applications)


def test_traces_of_all_three_go_to_one_receiver(render: Render) -> None:
    traced = render("laptop", "tracing.endpoint=collector:4317")
    for model in MODELS:
        for application in serve_config(named(traced, "RayService", model))["applications"]:
            assert application["args"]["otlp_endpoint"] == "collector:4317"
    gateway = named(traced, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    env = {one["name"]: one.get("value") for one in gateway["env"]}
    assert env["LIMELIGHT_GATEWAY_OTLP_ENDPOINT"] == "collector:4317"
    assert float(env["LIMELIGHT_GATEWAY_TRACE_RATIO"]) == 0.05


def test_settings_of_the_gateway_are_settings(render: Render, tmp_path: Path) -> None:
    """Also large numbers, which helm writes with an exponent."""
    file = tmp_path / "values.yaml"
    file.write_text("gateway: {settings: {max_in_flight_bytes: 536870912, peer_attempts: 2}}")
    gateway = named(render("laptop", files=(file,)), "Deployment")
    (container,) = gateway["spec"]["template"]["spec"]["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    prefix = "LIMELIGHT_GATEWAY_"
    given = {
        name.removeprefix(prefix).lower(): value
        for name, value in env.items()
        if name.startswith(prefix)
    }
    settings = GatewaySettings(**given)
    assert (settings.max_in_flight_bytes, settings.peer_attempts) == (536870912, 2)


def test_whatever_ends_has_time_to_finish(manifests: list[Manifest]) -> None:
    """A replica drains within its pod's grace period, and that within the old cluster's."""
    for model in MODELS:
        service = named(manifests, "RayService", model)
        head, worker = (pod["spec"]["terminationGracePeriodSeconds"] for _, pod in pods([service]))
        own, *_ = (one["args"]["drain_s"] for one in serve_config(service)["applications"])
        # A head runs no replicas, and is not replaced before its grace period is over.
        assert own < head <= own + 15
        for application in serve_config(service)["applications"]:
            drain_s = application["args"]["drain_s"]
            assert worker > drain_s
            assert service["spec"]["rayClusterDeletionDelaySeconds"] > drain_s
    gateway = named(manifests, "Deployment")["spec"]["template"]["spec"]
    env = {one["name"]: one.get("value") for one in gateway["containers"][0]["env"]}
    # The longest stream ends within the grace period of the pod that tracks it.
    _, tracker = serve_config(named(manifests, "RayService", "segmenter"))["applications"]
    assert float(env["LIMELIGHT_GATEWAY_STREAM_S"]) <= tracker["args"]["drain_s"]
    pre_stop = int(gateway["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    drain_s = int(env["LIMELIGHT_GATEWAY_DRAIN_S"])
    assert gateway["terminationGracePeriodSeconds"] > pre_stop + drain_s
    # A pod that is to go serves until every client has left it: gRPC adds up to a tenth.
    assert pre_stop > 1.1 * float(env["LIMELIGHT_GATEWAY_CONNECTION_AGE_S"])


def test_the_gateway_calls_the_services_pods(manifests: list[Manifest]) -> None:
    gateway = named(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    env = {one["name"]: one.get("value") for one in gateway["env"]}
    for model in MODELS:
        spec = named(manifests, "RayService", model)["spec"]
        pods_service = spec["serveService"]
        assert pods_service["spec"]["clusterIP"] == "None"
        assert spec["excludeHeadPodFromServeSvc"]
        (port,) = [one for one in pods_service["spec"]["ports"] if one["name"] == "serve-grpc"]
        name = pods_service["metadata"]["name"]
        assert env[f"LIMELIGHT_GATEWAY_{model.upper()}_ADDRESS"] == (
            f"dns:///{name}.masks.svc:{port['port']}"
        )
    tracker = env["LIMELIGHT_GATEWAY_TRACKER_ADDRESS"]
    assert tracker == env["LIMELIGHT_GATEWAY_SEGMENTER_ADDRESS"]


def test_a_pod_of_the_tracker_ends_with_its_last_session(manifests: list[Manifest]) -> None:
    service = named(manifests, "RayService", "segmenter")
    _, worker = (pod for _, pod in pods([service]))
    (container,) = worker["spec"]["containers"]
    program, module, name, port, request_s = container["lifecycle"]["preStop"]["exec"]["command"]
    assert (program, module, name) == ("python", "-m", leaving.__name__)
    assert int(port) in [one["containerPort"] for one in container["ports"]]
    segmenter, _ = serve_config(service)["applications"]
    assert float(request_s) >= segmenter["args"]["drain_s"]


def test_only_the_gateway_reaches_serve(manifests: list[Manifest]) -> None:
    gateway = named(manifests, "Deployment")["spec"]["selector"]["matchLabels"]
    for model in MODELS:
        policy = named(manifests, "NetworkPolicy", model)["spec"]
        head, _ = (pod for _, pod in pods([named(manifests, "RayService", model)]))
        assert policy["podSelector"]["matchLabels"].items() <= head["metadata"]["labels"].items()
        (serving,) = [rule for rule in policy["ingress"] if rule.get("ports") == [{"port": 9000}]]
        assert serving["from"] == [{"podSelector": {"matchLabels": gateway}}]
        for rule in policy["ingress"]:
            assert rule["from"], "a rule without peers lets everyone in"


def test_gpu_pods_are_tolerated_and_counted(render: Render) -> None:
    for model in MODELS:
        service = named(render("pools"), "RayService", model)
        (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        spec = group["template"]["spec"]
        resources = spec["containers"][0]["resources"]
        assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"] == 1
        assert group["rayStartParams"]["num-gpus"] == "1"
        assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
        assert spec["nodeSelector"]


def test_a_mig_slice_is_asked_for_by_its_name(render: Render) -> None:
    slices = "segmenter.worker.gpuResource=nvidia.com/mig-3g\\.40gb"
    service = named(render("pools", slices), "RayService", "segmenter")
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    spec = group["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/mig-3g.40gb"] == 1
    assert spec["tolerations"][0]["key"] == "nvidia.com/mig-3g.40gb"


def test_the_laptop_profile_fits_a_laptop(render: Render) -> None:
    """2 CPUs and 8 GiB requested, with a second Ray cluster of one model beside the first."""
    cpu = memory = 0.0
    for name, pod in pods(render("laptop")):
        copies = 1.5 if name.startswith("RayService") else 1  # one of two models is there twice
        for container in pod["spec"]["containers"]:
            requests = container["resources"]["requests"]
            cpu += copies * int(requests["cpu"].removesuffix("m")) / 1000
            memory += copies * int(requests["memory"].removesuffix("Mi"))
    autoscalers = 3
    assert cpu + autoscalers * 0.05 <= 1.8  # the cluster's own parts need the rest
    assert memory + autoscalers * 256 <= 8 * 1024


def test_objects_of_absent_crds_are_left_out(render: Render) -> None:
    assert not [one for one in render("laptop") if one["apiVersion"].startswith("monitoring.")]
    forced = render("laptop", "monitoring.prometheusOperator=true")
    assert [one for one in forced if one["kind"] == "PodMonitor"]


def test_with_a_prometheus_keda_scales_the_gateway(render: Render) -> None:
    """By calls in flight of this release, and never two masters of one Deployment."""
    manifests = render("pools", "gateway.autoscaling.prometheus=http://prometheus.monitoring:9090")
    assert not [one for one in manifests if one["kind"] == "HorizontalPodAutoscaler"]
    scaled = named(manifests, "ScaledObject")
    assert faults(scaled) == []
    assert (
        scaled["spec"]["scaleTargetRef"]["name"]
        == named(manifests, "Deployment")["metadata"]["name"]
    )
    calls, cpu = scaled["spec"]["triggers"]
    assert calls["metadata"]["query"] == (
        'sum(limelight_in_flight{namespace="masks", pod=~"limelight-gateway-.*"})'
    )
    assert cpu["type"] == "cpu"


def test_a_change_of_settings_keeps_the_ray_cluster(render: Render) -> None:
    """Serve's configuration is edited in place; KubeRay makes a new cluster for all else."""
    before = named(render("laptop"), "RayService", "segmenter")["spec"]
    after = named(
        render("laptop", "segmenter.settings.max_batch_images=4", "segmenter.replicas.max=2"),
        "RayService",
        "segmenter",
    )["spec"]
    assert before["rayClusterConfig"] == after["rayClusterConfig"]
    assert before["serveConfigV2"] != after["serveConfigV2"]


def test_two_releases_share_no_name(helm: Any) -> None:
    names = [
        {
            (one["kind"], one["metadata"]["name"])
            for one in yaml.safe_load_all(
                helm("template", release, str(CHART), "--values", str(CHART / "values-laptop.yaml"))
            )
            if one
        }
        for release in ("limelight", "second")
    ]
    assert not names[0] & names[1]


@pytest.mark.parametrize("profile", PROFILES)
def test_the_render_is_the_reviewed_one(render: Render, profile: str) -> None:
    """A change of a template shows as a change of what it makes: `make chart-golden` rewrites."""
    rendered = yaml.safe_dump_all(render(profile), sort_keys=False, width=100)
    golden = GOLDEN / f"{profile}.yaml"
    if os.environ.get("LIMELIGHT_REWRITE_GOLDEN"):
        golden.write_text(rendered)
    assert golden.read_text() == rendered, "look at the difference, then run 'make chart-golden'"
