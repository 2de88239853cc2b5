"""Images are read and drawn by workers: what happens to one of them costs its own request only."""

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator, Iterator

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from limelight.masks import encode_rle
from limelight.v1 import limelight_pb2, limelight_pb2_grpc, media_pb2
from limelight.values import RLE, ImageFormat, RenderKind
from services.codecs.images import DEFAULT_LIMITS, encode
from services.domain import Detection
from services.errors import InvalidMedia, TooLarge
from services.gateway import rendering
from services.gateway.app import Gateway, start
from services.gateway.pixels import nursery
from services.gateway.settings import Settings
from services.gateway.tasks import RenderSpec
from services.isolation.pool import Nursery
from tests.conftest import wait_until as until
from tests.gateway.conftest import Ask, make_settings
from tests.gateway.peers import HEIGHT, WIDTH, Peers, detection
from tests.gateway.test_faults import refused
from tests.gateway.test_lifecycle import scrape
from tests.gateway.test_pipeline import segment
from tests.rpc.faults import fault_of

Stub = limelight_pb2_grpc.LimelightServiceStub


@pytest.fixture(autouse=True)
def things(peers: Peers) -> None:
    peers.things = {"dog": [detection(0, 10, 20, 30), detection(40, 0, 80, 40, 0.8)]}


@pytest.fixture
def settings(peers: Peers) -> Settings:
    return make_settings(peers, decode_workers=1, render_workers=1, metrics_listen="127.0.0.1:0")


@pytest.fixture(scope="module")
def workers() -> Iterator[Nursery]:
    """Not the session's: here all workers are this gateway's."""
    forking = nursery(Settings())
    yield forking
    forking.close()


@pytest.fixture
async def held(gateway: Gateway, workers: Nursery) -> AsyncIterator[psutil.Process]:
    """A worker that reads, stopped with all others; they go on when the test ends."""
    await until(lambda: len(children(workers)) == 2)
    stopped = children(workers)
    for worker in stopped:
        worker.suspend()
    yield stopped[0]
    for worker in children(workers):
        worker.resume()


def children(workers: Nursery) -> list[psutil.Process]:
    return psutil.Process(workers.pid).children()


def losses(gateway: Gateway) -> dict[str, float]:
    name = "limelight_worker_losses_total"
    return {key: value for key, value in scrape(gateway).items() if key.startswith(name) and value}


async def test_while_an_image_is_read_everybody_else_is_answered(
    stub: Stub, ask: Ask, channel: grpc.aio.Channel, held: psutil.Process, workers: Nursery
) -> None:
    call = stub.Segment(limelight_pb2.SegmentRequest(task=ask.phrases("dog")))
    health = health_pb2_grpc.HealthStub(channel)
    await health.Check(health_pb2.HealthCheckRequest())
    # A request that needs no image is refused; the one before it is still being read.
    assert (await refused(stub, limelight_pb2.SegmentTask())).reason == "TASK_MISSING"
    assert not call.done()
    for worker in children(workers):
        worker.resume()
    assert len((await call).result.instances) == 2


async def test_at_the_deadline_the_work_ends(
    stub: Stub, ask: Ask, held: psutil.Process, workers: Nursery
) -> None:
    before = {worker.pid for worker in children(workers)}
    with pytest.raises(grpc.RpcError) as late:
        await stub.Segment(limelight_pb2.SegmentRequest(task=ask.phrases("dog")), timeout=0.3)
    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: before - {worker.pid for worker in children(workers)})
    # The next request has a worker that is neither stopped nor busy.
    assert len((await segment(stub, ask.phrases("dog"))).instances) == 2


async def test_a_decoder_that_crashes_costs_its_own_request(
    stub: Stub, ask: Ask, gateway: Gateway, held: psutil.Process, workers: Nursery
) -> None:
    calls = [stub.Segment(limelight_pb2.SegmentRequest(task=ask.phrases("dog"))) for _ in range(2)]
    await until(lambda: scrape(gateway)["limelight_in_flight"] == 2)
    for worker in children(workers):
        os.kill(worker.pid, signal.SIGSEGV)
        worker.resume()
    answers = await asyncio.gather(*calls, return_exceptions=True)
    # Which of the two the worker had is chance.
    (crashed,) = [one for one in answers if isinstance(one, grpc.RpcError)]
    (other,) = [one for one in answers if not isinstance(one, BaseException)]
    fault = fault_of(crashed)
    assert (fault.reason, fault.field) == ("IMAGE_CORRUPT", "task.image.content")
    assert fault.code is grpc.StatusCode.INVALID_ARGUMENT
    assert len(other.result.instances) == 2
    assert losses(gateway) == {'limelight_worker_losses_total{loss="crashed",pool="reading"}': 1.0}


async def test_pictures_of_too_much_work_are_not_drawn(
    peers: Peers, ask: Ask, workers: Nursery
) -> None:
    room = 2 * WIDTH * HEIGHT * 3  # two pictures of two instances
    gateway = await start(make_settings(peers, max_render_pixels=max(room, 2**20)), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        peers.things["dog"] = [detection(i % 60, i % 40, i % 60 + 9, i % 40 + 9) for i in range(90)]
        overlay = {"kind": limelight_pb2.RENDER_KIND_OVERLAY}
        await segment(stub, ask.phrases("dog", renders=[overlay]))
        fault = await refused(stub, ask.phrases("dog", renders=[overlay] * 4))
        assert (fault.reason, fault.field) == ("MASKS_TOO_LARGE", "task.renders")
        assert fault.retry_after_s is None
    await gateway.drain()


async def test_an_answer_that_fits_no_message_is_refused_by_name(
    peers: Peers, ask: Ask, workers: Nursery
) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (HEIGHT, WIDTH)).astype(bool)
    rle = encode_rle(noise)
    box = detection(0, 0, WIDTH, HEIGHT).box
    peers.things["dog"] = [Detection(0.9, box, rle, int(noise.sum()))] * 20
    gateway = await start(make_settings(peers, max_message_bytes=2**20), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        polygons = ask.phrases("dog", mask_format=media_pb2.MASK_FORMAT_POLYGONS)
        fault = await refused(stub, polygons)
        assert (fault.reason, fault.field) == ("MASKS_TOO_LARGE", "task.mask_format")
        assert len((await segment(stub, ask.phrases("dog"))).instances) == 20
    await gateway.drain()


async def test_pictures_beyond_what_the_caller_takes_are_refused_by_name(
    stub: Stub, peers: Peers, ask: Ask
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    image = {"content": encode(noise, "png")}
    png = {"kind": limelight_pb2.RENDER_KIND_SPOTLIGHT}
    jpeg = {**png, "format": limelight_pb2.IMAGE_FORMAT_JPEG}
    metadata = (("x-limelight-max-answer-bytes", "16000"),)

    def asked(*renders: object) -> grpc.aio.UnaryUnaryCall:
        task = ask.phrases("cat", image=image, renders=renders)
        return stub.Segment(limelight_pb2.SegmentRequest(task=task), metadata=metadata)

    with pytest.raises(grpc.RpcError) as caught:
        await asked(jpeg, png)
    fault = fault_of(caught.value)
    assert (fault.reason, fault.field) == ("IMAGE_TOO_LARGE", "task.renders[1].format")
    assert "room for 12000; JPEG takes far less" in fault.message
    assert (await asked(jpeg)).ByteSize() <= 16000


# --- what is drawn, in this process ---------------------------------------------------------------

PNG = RenderSpec(RenderKind.OVERLAY, ImageFormat.PNG)
JPEG = RenderSpec(RenderKind.OVERLAY, ImageFormat.JPEG)
SPOTLIGHT = RenderSpec(RenderKind.SPOTLIGHT, ImageFormat.PNG)


def test_overlays_that_fit_no_answer_are_known_by_some_of_their_rows() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1200, 3), np.uint8)
    content = encode(noise, "jpeg", quality=95)
    with pytest.raises(TooLarge, match=r"about .* JPEG takes far less") as caught:
        rendering.check_overlays(content, (SPOTLIGHT, JPEG, PNG), DEFAULT_LIMITS, 1_600_000)
    assert str(caught.value.field) == "task.renders[2].format"
    rendering.check_overlays(content, (SPOTLIGHT, JPEG), DEFAULT_LIMITS, 1_600_000)


def test_a_picture_ends_where_the_room_for_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1200, 3), np.uint8)
    content = encode(noise, "jpeg", quality=95)
    (picture,), _ = rendering.draw_pictures((JPEG,), content, (), DEFAULT_LIMITS, 3_000_000)
    files: list[io.BytesIO] = []
    encode_picture = rendering.encode

    def encoded(*args: object, file: io.BytesIO) -> bytes:
        files.append(file)
        return encode_picture(*args, file=file)  # type: ignore[arg-type]

    monkeypatch.setattr(rendering, "encode", encoded)
    for format in (JPEG, PNG):
        room = len(picture) + 100_000
        with pytest.raises(TooLarge, match="with those before it") as caught:
            rendering.draw_pictures((JPEG, format, JPEG), content, (), DEFAULT_LIMITS, room)
        assert str(caught.value.field) == "task.renders[1].format"
    assert [len(file.getbuffer()) <= 100_000 for file in files] == [False, True, False, True]


def test_a_broken_background_is_named(picture: bytes) -> None:
    spec = RenderSpec(RenderKind.BACKGROUND, ImageFormat.PNG, picture[:-60])
    with pytest.raises(InvalidMedia) as caught:
        rendering.draw_pictures((PNG, spec), picture, (), DEFAULT_LIMITS, 1 << 20)
    assert str(caught.value.field) == "task.renders[1].background_image.content"


def test_masks_are_unpacked_one_at_a_time() -> None:
    masks = rendering._Masks([RLE((2, 3), b"06"), RLE((2, 3), b"6")])
    assert [mask.sum() for mask in masks] == [6, 0]
    assert masks[0].all()
