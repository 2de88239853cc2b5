"""The segmenter on a real Ray Serve, asked over gRPC as the gateway asks it."""

import time
from collections.abc import Callable, Iterator, Mapping

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from limelight.v1 import media_pb2, plan_pb2, segmenter_pb2, segmenter_pb2_grpc
from services.codecs.images import encode
from services.codecs.masks import decode_rle
from services.rpc.convert import segmented_from_proto
from services.rpc.metadata import REQUEST_ID, TIMEOUT_MS
from services.segmenter.settings import SHIPPED
from tests.e2e import metrics
from tests.e2e.conftest import RayCluster

pytestmark = pytest.mark.serve

RED, BLUE = (255, 0, 0), (0, 0, 255)
# Long enough that a test's calls arrive while the first still runs.
STEP_MS = 1500


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
        serve.delete(name)


@pytest.fixture(scope="module")
def fake(deploy: Callable[..., None]) -> str:
    deploy("segmenter-fake", engine="fake")
    return "segmenter-fake"


@pytest.fixture(scope="module")
def slow(deploy: Callable[..., None]) -> str:
    """A fake whose every step takes `STEP_MS`, encoding one image at a time."""
    deploy("segmenter-slow", engine="fake", fake_delay_ms=STEP_MS, max_encode_batch=1)
    return "segmenter-slow"


@pytest.fixture
def stub(ray_cluster: RayCluster) -> Iterator[segmenter_pb2_grpc.SegmenterServiceStub]:
    with grpc.insecure_channel(ray_cluster.grpc) as channel:
        yield segmenter_pb2_grpc.SegmenterServiceStub(channel)


def picture(*boxes: tuple[int, int, int, int, tuple[int, int, int]]) -> bytes:
    pixels = np.full((120, 160, 3), 255, np.uint8)
    for x0, y0, x1, y1, colour in boxes:
        pixels[y0:y1, x0:x1] = colour
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
    return metrics.samples(cluster.metrics, f"ray_{name}", wanted)


def reading(
    cluster: RayCluster, application: str, name: str, labels: Mapping[str, str] | None = None
) -> float:
    """The sum of a metric's samples; 0 if there are none."""
    return sum(samples(cluster, application, name, labels))


def wait_until(holds: Callable[[], bool]) -> None:
    """Ray hands metrics on with a delay of some seconds."""
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "the condition never held"
        time.sleep(0.1)


def details(error: grpc.RpcError) -> tuple[error_details_pb2.ErrorInfo, list[str]]:
    """The `ErrorInfo` of a failed call and the type names of all its details."""
    status = rpc_status.from_call(error)
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info, [detail.TypeName() for detail in status.details]


def test_shapes_come_back_exactly(
    stub: segmenter_pb2_grpc.SegmenterServiceStub, fake: str, ray_cluster: RayCluster
) -> None:
    content = picture((20, 10, 60, 30, RED), (5, 60, 50, 110, BLUE))
    response = stub.SegmentConcepts(
        request(content, "red", "blue", "dog"), metadata=metadata(fake), timeout=30
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
        stub.SegmentConcepts(asked, metadata=[*metadata(fake), (REQUEST_ID, "abc-1")], timeout=30)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    info, names = details(caught.value)
    assert (info.reason, info.domain) == (reason, "limelight.v1")
    assert info.metadata["request_id"] == "abc-1"
    assert info.metadata["field"] == field
    assert "google.rpc.BadRequest" in names


@pytest.mark.parametrize("leave", ["cancelled", "deadline"])
def test_who_leaves_frees_the_place_in_the_queue(
    leave: str,
    stub: segmenter_pb2_grpc.SegmenterServiceStub,
    slow: str,
    ray_cluster: RayCluster,
) -> None:
    """One image is encoded, a second waits; the second leaves and is never encoded."""
    shade = 1 if leave == "cancelled" else 2

    def read(name: str, **labels: str) -> float:
        return reading(ray_cluster, slow, name, labels)

    before = {
        "dropped": read("limelight_dropped_total", stage="encode"),
        "left": read("limelight_cancelled_total", stage="encode", why=leave),
        "batches": read("limelight_batch_items_total", stage="encode"),
    }
    first = stub.SegmentConcepts.future(
        request(picture((10, 10, 50, 50, (255, shade, 0))), "red"), metadata=metadata(slow)
    )
    second_request = request(picture((10, 10, 50, 50, (255, 0, shade))), "red")
    if leave == "cancelled":
        # The first must have been taken when the second comes.
        time.sleep(STEP_MS / 5000)
        second = stub.SegmentConcepts.future(second_request, metadata=metadata(slow))
        time.sleep(STEP_MS / 5000)
        second.cancel()
    else:
        time.sleep(STEP_MS / 5000)
        second = stub.SegmentConcepts.future(
            second_request, metadata=[*metadata(slow), (TIMEOUT_MS, str(STEP_MS // 5))]
        )
        assert second.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not first.done()
        assert details(second)[0].reason == "DEADLINE_PASSED"
    assert len(first.result(30).results[0].detections) == 1
    wait_until(
        lambda: (
            read("limelight_dropped_total", stage="encode") == before["dropped"] + 1
            and read("limelight_cancelled_total", stage="encode", why=leave) == before["left"] + 1
            and read("limelight_batch_items_total", stage="encode") == before["batches"] + 1
        )
    )


def test_calls_at_once_share_a_batch(
    stub: segmenter_pb2_grpc.SegmenterServiceStub, slow: str, ray_cluster: RayCluster
) -> None:
    """While one call's pairs are decoded, those of the others gather into one batch."""
    content = picture((10, 10, 50, 50, RED))
    stub.SegmentConcepts(request(content, "red"), metadata=metadata(slow), timeout=30)
    start = time.monotonic()
    calls = [
        stub.SegmentConcepts.future(request(content, "red", "blue"), metadata=metadata(slow))
        for _ in range(8)
    ]
    for call in calls:
        assert len(call.result(30).results[0].detections) == 1
    # One after the other would take eight steps.
    assert time.monotonic() - start < 4 * STEP_MS / 1000
    wait_until(lambda: reading(ray_cluster, slow, "limelight_cache_hits_total") >= 8)


@pytest.mark.skipif(not SHIPPED.is_dir(), reason=f"the shipped checkpoint is missing: {SHIPPED}")
def test_the_shipped_checkpoint_answers(
    stub: segmenter_pb2_grpc.SegmenterServiceStub, deploy: Callable[..., None]
) -> None:
    deploy("segmenter-tiny", device="cpu")
    asked = request(picture((20, 10, 60, 30, RED)), "red apple", "dog")
    asked.score_threshold = 0
    response = stub.SegmentConcepts(asked, metadata=metadata("segmenter-tiny"), timeout=60)
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
