"""Bad values are refused before anything is installed, with a message that names them."""

from collections.abc import Callable

import pytest

from tests.chart.conftest import CHART, PROFILES, ChartRefused, Render, printed

pytestmark = pytest.mark.slow

REFUSALS = [
    ("gateway.replicas=0", "/gateway/replicas"),
    ("gateway.replicas=two", "/gateway/replicas"),
    ("gateway.drainSeconds=-1", "/gateway/drainSeconds"),
    ("gateway.service.port=70000", "/gateway/service/port"),
    ("gateway.service.type=Ingress", "/gateway/service/type"),
    ("gateway.autoscaling.cpuPercent=0", "/gateway/autoscaling/cpuPercent"),
    ("gateway.autoscaling.cpuPercent=150", "/gateway/autoscaling/cpuPercent"),
    ("gateway.autoscaling.minReplicas=30", "gateway.autoscaling.minReplicas (30) is above"),
    ("gateway.maxUnavailable=0", "/gateway/maxUnavailable"),
    ("gateway.imagePolicy=Always", "imagePolicy"),
    ("gateway.settings.Listen=x", "/gateway/settings"),
    ("gateway.settings.listen=x", "gateway.settings.listen: the chart sets it"),
    ("gateway.resources.limits.memory=lots", "/gateway/resources/limits/memory"),
    ("gateway.autoscaling.prometheus=prometheus:9090", "/gateway/autoscaling/prometheus"),
    ("gateway.connectionSeconds=0", "/gateway/connectionSeconds"),
    ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
    ("image.registry=registry.example.com", "/image/registry"),
    ("image.tag=a b", "/image/tag"),
    ("fullnameOverride=Upper", "/fullnameOverride"),
    ("models.variant=rocm", "/models/variant"),
    ("models.rayVersion=latest", "/models/rayVersion"),
    ("models.redisAddress=redis://valkey", "/models/redisAddress"),
    ("gateway.redisUrl=valkey:6379", "/gateway/redisUrl"),
    ("models.hubToken.value=hf_secret", "value"),
    ("planner.replicas.min=-1", "/planner/replicas/min"),
    ("planner.replicas.max=0", "/planner/replicas/max"),
    ("planner.replicas.min=9", "planner.replicas.min (9) is above max (1)"),
    ("segmenter.worker.pods.min=9", "segmenter.worker.pods.min (9) is above max (2)"),
    ("segmenter.replicaCpus=4", "segmenter.replicaCpus (4) is above worker.cpus (1)"),
    ("segmenter.replicaGpus=1", "segmenter.replicaGpus (1) is above worker.gpus (0)"),
    ("segmenter.worker.gpuResource=gpu", "/segmenter/worker/gpuResource"),
    ("segmenter.settings.drain_s=5", "segmenter.settings.drain_s: this one has a value"),
    ("tracker.replicas.min=9", "tracker.replicas.min (9) is above max (1)"),
    ("tracker.replicaGpus=1", "tracker.replicaGpus (1) is above worker.gpus (0)"),
    ("tracker.settings.drain_s=5", "tracker.settings.drain_s: this one has a value"),
    ("tracker.worker.cpus=2", "worker"),
    (
        "models.variant=cuda,planner.model=a/b,segmenter.model=c/d",
        "tracker.model is empty, and the cuda image holds no checkpoint",
    ),
    ("segmenter.enabled=false", "tracker.enabled: it runs in the segmenter's pods"),
    ("gateway.settings.stream_s=9", "gateway.settings.stream_s: the chart sets it"),
    ("segmenter.sharedMemory=1TB", "/segmenter/sharedMemory"),
    ("segmenter.coldStartSeconds=0", "/segmenter/coldStartSeconds"),
    ("planer.enabled=false", "planer"),
    ("models.variant=cuda", "planner.model is empty"),
    ("grpcRoute.enabled=true", "/grpcRoute/parentRefs"),
    ("tracing.endpoint=http://collector:4317", "/tracing/endpoint"),
    ("tracing.ratio=2", "/tracing/ratio"),
    ("monitoring.scrapeInterval=often", "/monitoring/scrapeInterval"),
    ("networkPolicy.callers[0].everyone=true", "/networkPolicy/callers/0"),
]


@pytest.mark.parametrize(("value", "message"), REFUSALS, ids=[value for value, _ in REFUSALS])
def test_a_bad_value_is_refused_by_name(render: Render, value: str, message: str) -> None:
    with pytest.raises(ChartRefused) as refused:
        render("laptop", value)
    assert message in str(refused.value)


@pytest.mark.parametrize("profile", PROFILES)
def test_lint(helm: Callable[..., str], profile: str) -> None:
    output = helm("lint", "--strict", str(CHART), "--values", str(CHART / f"values-{profile}.yaml"))
    assert "0 chart(s) failed" in output


def test_the_table_of_values_is_what_the_script_writes() -> None:
    written = printed("import values_table; print(values_table.readme(), end='')")
    assert (CHART / "README.md").read_text() == written, "run 'make chart-files'"
    assert written.count("| `") > 40
