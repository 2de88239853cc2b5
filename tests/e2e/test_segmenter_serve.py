"""The segmenter on a real Ray Serve, asked over gRPC as the gateway asks it."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest

from limelight.internal.v1 import segmenter_pb2, segmenter_pb2_grpc
from limelight.masks import decode_rle
from limelight.v1 import media_pb2, plan_pb2
from services.codecs.images import encode
from services.rpc.convert.segmenter import segmented_from_proto
from services.rpc.metadata import REQUEST_ID, TIMEOUT_MS
from services.segmenter.settings import SHIPPED
from tests import scraping
from tests.conftest import PATIENCE_S
from tests.e2e.conftest import RayCluster
from tests.e2e.system import held_segmenter, leave
from tests.rpc.faults import fault_of

pytestmark = pytest.mark.serve

RED, BLUE = (255, 0, 0), (0, 0, 255)


@pytest.fixture(scope="module")
def deploy(ray_cluster: RayCluster) -> Iterator[Callable[..., None]]:
    """Deploy the segmenter under a name, with settings; all are deleted at the end."""
    from ray import serve

    from services.segmenter.app import build

    names: list[str] = []

    def run(name: str, **settings: object) -> None:
        # Serve's gRPC proxy knows only applications with a route prefix.
        serve.run(build({"replica_cpus": 0.5, **settings}), name=name, route_prefix=f"/{name}")
        names.append(name)

    yield run
    for name in names:
        leave(name)


@pytest.fixture(scope="module")
def fake(deploy: Callable[..., None]) -> str:
    deploy("segmenter-fake", engine="fake")
    return "segmenter-fake"


@pytest.fixture
def held(ray_cluster: RayCluster, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A segmenter that encodes one image at a time; no step of it ends while the file exists."""
    hold = tmp_path / "hold"
    with held_segmenter(hold) as name:
        yield name, hold


@pytest.fixture
def stub(ray_cluster: RayCluster) -> Iterator[segmenter_pb2_grpc.SegmenterServiceStub]:
    with grpc.insecure_channel(ray_cluster.grpc) as channel:
        yield segmenter_pb2_grpc.SegmenterServiceStub(channel)


def picture(*boxes: tuple[int, int, int, int, tuple[int, int, int]]) -> bytes:
    pixels = np.full((120, 160, 3), 255, np.uint8)
    for x0, y0, x1, y1, color in boxes:
        pixels[y0:y1, x0:x1] = color
    return encode(pixels)


def request(content: bytes, *phrases: str) -> segmenter_pb2.SegmentConceptsRequest:
    return segmenter_pb2.SegmentConceptsRequest(
        image=media_pb2.Image(content=content),
        queries=[plan_pb2.ConceptQuery(phrase=phrase) for phrase in phrases],
        score_threshold=0.5,
    )


def metadata(application: str, **extra: str) -> list[tuple[str, str]]:
    named = {key.replace("_", "-"): value for key, value in extra.items()}
    return [("application", application), *named.items()]


def samples(
    cluster: RayCluster, application: str, name: str, labels: Mapping[str, str] | None = None
) -> list[float]:
    """A metric's samples of one application on Ray's Prometheus page."""
    wanted = {**(labels or {}), "application": application}
    return scraping.samples(cluster.metrics, f"ray_{name}", wanted)


def reading(
    cluster: RayCluster, application: str, name: str, labels: Mapping[str, str] | None = None
) -> float:
    """The sum of a metric's samples; 0 if there are none."""
    return sum(samples(cluster, application, name, labels))


def wait_until(holds: Callable[[], bool]) -> None:
    """Ray hands metrics on with a delay of some seconds."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.1)


def test_shapes_come_back_exactly(
    stub: segmenter_pb2_grpc.SegmenterServiceStub, fake: str, ray_cluster: RayCluster
) -> None:
    content = picture((20, 10, 60, 30, RED), (5, 60, 50, 110, BLUE))
    response = stub.SegmentConcepts(
        request(content, "red", "blue", "dog"), metadata=metadata(fake), timeout=120
    )
    answer = segmented_from_proto(response)
    assert (answer.width, answer.height) == (160, 120)
    assert [[found.area for found in result.detections] for result in answer.results] == [
        [800],
        [2250],
        [],
    ]
    assert decode_rle(answer.results[0].detections[0].mask)[10:30, 20:60].all()
    assert set(answer.timings_ms) == {"decode", "encode", "detect", "masks"}
    assert answer.model.engine == "fake"

    def read(name: str, **labels: str) -> float:
        return reading(ray_cluster, fake, name, labels)

    wait_until(lambda: read("grpc_server_handled_total", grpc_code="OK") >= 1)
    for stage in ("decode", "encode", "detect", "masks"):
        assert read("limelight_stage_seconds_count", stage=stage) >= 1
    for stage in ("encode", "detect"):
        assert read("limelight_batch_size_count", stage=stage) >= 1
        assert read("limelight_queue_seconds_count", stage=stage) >= 1
    assert read("limelight_batch_items_total", stage="detect") >= 3
    assert read("limelight_cache_misses_total", cache="image") >= 1
    assert read("limelight_cache_bytes", cache="image") > 0
    # Ray forgets a gauge that is not set again; some report intervals later it must still be there.
    time.sleep(5)
    assert read("limelight_cache_bytes", cache="image") > 0
    assert samples(ray_cluster, fake, "limelight_queue_depth") == [0, 0]


@pytest.mark.parametrize(
    ("asked", "reason", "field"),
    [
        (request(b"nonsense", "red"), "IMAGE_UNSUPPORTED", "image.content"),
        (request(picture(), "red", "red " * 40), "PHRASE_TOO_LONG", "queries[1].phrase"),
        (request(picture()), "TASK_MISSING", "queries"),
        (request(picture(), *["red"] * 33), "TOO_MANY_QUERIES", "queries"),
    ],
)
def test_errors_carry_their_reason_and_field(
    asked: segmenter_pb2.SegmentConceptsRequest,
    reason: str,
    field: str,
    stub: segmenter_pb2_grpc.SegmenterServiceStub,
    fake: str,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.SegmentConcepts(asked, metadata=[*metadata(fake), (REQUEST_ID, "abc-1")], timeout=120)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    fault = fault_of(caught.value)
    assert (fault.reason, fault.field, fault.request_id) == (reason, field, "abc-1")


@pytest.mark.parametrize("leave", ["cancelled", "deadline"])
def test_who_leaves_frees_the_place_in_the_queue(
    leave: str,
    stub: segmenter_pb2_grpc.SegmenterServiceStub,
    held: tuple[str, Path],
    ray_cluster: RayCluster,
) -> None:
    """One image is encoded, a second waits; the second leaves and is never encoded."""
    name, hold = held

    def read(metric: str, **labels: str) -> float:
        return reading(ray_cluster, name, f"limelight_{metric}", {"stage": "encode", **labels})

    hold.touch()
    first = stub.SegmentConcepts.future(
        request(picture((10, 10, 50, 50, RED)), "red"), metadata=metadata(name)
    )
    # The first must have been taken when the second comes, and be worked on when it leaves.
    wait_until(lambda: read("queue_seconds_count") == 1)
    second_request = request(picture((10, 10, 50, 50, BLUE)), "red")
    if leave == "cancelled":
        second = stub.SegmentConcepts.future(second_request, metadata=metadata(name))
        wait_until(lambda: read("queue_depth") == 1)
        second.cancel()
        wait_until(lambda: read("queue_depth") == 0)
    else:
        second = stub.SegmentConcepts.future(
            second_request, metadata=[*metadata(name), (TIMEOUT_MS, "5000")]
        )
        assert second.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert fault_of(second).reason == "DEADLINE_PASSED"
    assert not first.done()
    hold.unlink()
    assert len(first.result(120).results[0].detections) == 1
    counted = ("dropped_total", "cancelled_total", "batch_items_total")
    wait_until(lambda: [read(metric) for metric in counted] == [1, 1, 1])
    assert read("cancelled_total", why=leave) == 1


def test_calls_at_once_share_a_batch(
    stub: segmenter_pb2_grpc.SegmenterServiceStub,
    held: tuple[str, Path],
    ray_cluster: RayCluster,
) -> None:
    """While one call's pairs are decoded, those of the others gather into one batch."""
    name, hold = held

    def read(metric: str) -> float:
        return reading(ray_cluster, name, f"limelight_{metric}", {"stage": "detect"})

    content = picture((10, 10, 50, 50, RED))
    # Encodes the image: those that come after it find it in the cache.
    stub.SegmentConcepts(request(content, "red"), metadata=metadata(name), timeout=120)
    hold.touch()
    calls = [
        stub.SegmentConcepts.future(request(content, "red", "blue"), metadata=metadata(name))
        for _ in range(8)
    ]
    wait_until(lambda: read("queue_seconds_count") + read("queue_depth") == 1 + 16)
    hold.unlink()
    for call in calls:
        assert len(call.result(120).results[0].detections) == 1
    wait_until(lambda: read("batch_items_total") == 1 + 16)
    # One after the other would be eight; the first that came are one, all others another.
    assert read("batch_size_count") <= 1 + 2
    hits = {"cache": "image"}
    wait_until(lambda: reading(ray_cluster, name, "limelight_cache_hits_total", hits) == 8)


@pytest.mark.skipif(not SHIPPED.is_dir(), reason=f"the shipped checkpoint is missing: {SHIPPED}")
def test_the_shipped_checkpoint_answers(
    stub: segmenter_pb2_grpc.SegmenterServiceStub, deploy: Callable[..., None]
) -> None:
    deploy("segmenter-tiny", device="cpu")
    asked = request(picture((20, 10, 60, 30, RED)), "red apple", "dog")
    asked.score_threshold = 0
    response = stub.SegmentConcepts(asked, metadata=metadata("segmenter-tiny"), timeout=120)
    assert response.model.name == SHIPPED.name
    assert response.model.engine == "transformers"
    assert len(response.model.revision) == 16
    assert len(response.results) == 2
    for result in response.results:
        assert 0 <= result.presence <= 1
        for found in result.detections:
            assert found.area > 0
            assert found.box.x1 <= 160
            assert found.box.y1 <= 120
