"""Answers that fit no message: refused before a model is asked, or before anything is drawn."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest

from limelight.masks import encode_rle
from limelight.v1 import limelight_pb2, limelight_pb2_grpc, media_pb2
from limelight.values import RLE, MaskFormat
from services.codecs.images import encode
from services.domain import Detection
from services.errors import TooLarge
from services.gateway import rendering
from services.gateway.answer_size import MaskRoom, _least_bytes, written_bytes
from services.gateway.app import start
from services.gateway.request_fields import MASK_FORMAT
from services.isolation.pool import Nursery
from tests.conftest import wait_until as until
from tests.gateway.conftest import Ask, make_settings
from tests.gateway.peers import HEIGHT, WIDTH, Peers, detection
from tests.gateway.test_pipeline import segment
from tests.rpc.faults import Fault, fault_of

Stub = limelight_pb2_grpc.LimelightServiceStub
PNG, POLYGONS = media_pb2.MASK_FORMAT_PNG, media_pb2.MASK_FORMAT_POLYGONS
OVERLAY = {"kind": limelight_pb2.RENDER_KIND_OVERLAY}
NOISE = np.random.default_rng(0)


async def refused(stub: Stub, task: limelight_pb2.SegmentTask, most: int = 0) -> Fault:
    """Why a caller that takes `most` bytes gets no answer; 0: as much as the gateway sends."""
    metadata = (("x-limelight-max-answer-bytes", str(most)),) if most else ()
    with pytest.raises(grpc.RpcError) as caught:
        await stub.Segment(limelight_pb2.SegmentRequest(task=task), metadata=metadata)
    fault = fault_of(caught.value)
    assert fault.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert fault.retry_after_s is None
    return fault


def noisy(count: int) -> list[Detection]:
    """Things whose masks no format packs well."""
    found = []
    for _ in range(count):
        mask = NOISE.integers(0, 2, (HEIGHT, WIDTH)).astype(bool)
        box = detection(0, 0, WIDTH, HEIGHT).box
        found.append(Detection(0.9, box, encode_rle(mask), int(mask.sum())))
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[RLE]:
    """The masks that are drawn from now on."""
    masks: list[RLE] = []
    write = rendering._written_mask

    def written(mask: RLE, mask_format: MaskFormat) -> Any:
        masks.append(mask)
        return write(mask, mask_format)

    monkeypatch.setattr(rendering, "_written_mask", written)
    return masks


# --- before a model is asked ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def megapixel() -> bytes:
    """A JPEG of noise, 1,100,000 pixels."""
    pixels = NOISE.integers(0, 256, (1000, 1100, 3), np.uint8)
    return encode(pixels, "jpeg", quality=95)


async def test_pictures_of_too_many_pixels_ask_no_model(
    peers: Peers, ask: Ask, workers: Nursery, megapixel: bytes
) -> None:
    gateway = await start(make_settings(peers, max_render_pixels=2**20), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        task = ask.task("the dog", image={"content": megapixel}, renders=[OVERLAY])
        fault = await refused(Stub(channel), task)
    assert (fault.reason, fault.field) == ("MASKS_TOO_LARGE", "task.renders")
    assert peers.asked == []
    await gateway.drain()


@pytest.mark.parametrize(
    ("kinds", "format", "most", "fault"),
    [
        # Whatever they show: a block of a JPEG has some bits.
        ("SPOTLIGHT SPOTLIGHT", "JPEG", 60_000, "task.renders[1].format"),
        # By what this image is: its rows are noise.
        ("SPOTLIGHT OVERLAY", "PNG", 2_000_000, "task.renders[1].format"),
    ],
)
async def test_pictures_that_cannot_fit_ask_no_model(
    stub: Stub,
    peers: Peers,
    ask: Ask,
    megapixel: bytes,
    kinds: str,
    format: str,
    most: int,
    fault: str,
) -> None:
    renders = [
        {
            "kind": getattr(limelight_pb2, f"RENDER_KIND_{kind}"),
            "format": getattr(limelight_pb2, f"IMAGE_FORMAT_{format}"),
        }
        for kind in kinds.split()
    ]
    task = ask.task("the dog", image={"content": megapixel}, renders=renders)
    told = await refused(stub, task, most)
    assert (told.reason, told.field) == ("IMAGE_TOO_LARGE", fault)
    assert peers.asked == []


# --- before a mask is drawn -----------------------------------------------------------------------


@pytest.mark.parametrize("format", list(MaskFormat))
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_what_is_reckoned_is_never_more_than_what_is_written(
    format: MaskFormat, share: float
) -> None:
    masks = [encode_rle(NOISE.random(size) < share) for size in [(1, 1), (64, 96), (300, 170)]]
    for mask in masks:
        written = rendering.write_masks([mask], MaskRoom(1 << 30, format, MASK_FORMAT))
        assert _least_bytes(mask, format) <= written_bytes(written)
        if format in (MaskFormat.RLE, MaskFormat.POLYGONS):
            assert _least_bytes(mask, format) == written_bytes(written)


async def test_masks_that_cannot_fit_are_not_drawn(
    stub: Stub, peers: Peers, ask: Ask, drawn: list[RLE]
) -> None:
    peers.things = {"dog": noisy(20)}
    fault = await refused(stub, ask.phrases("dog", mask_format=POLYGONS), 400_000)
    assert (fault.reason, fault.field) == ("MASKS_TOO_LARGE", "task.mask_format")
    assert "fewer instances, or for masks as run lengths" in fault.message
    assert drawn == []
    # A cap makes them fewer.
    assert len((await segment(stub, ask.phrases("dog", max_instances=2))).instances) == 2


async def test_drawing_ends_when_the_masks_are_too_many_bytes(
    stub: Stub, peers: Peers, ask: Ask, drawn: list[RLE]
) -> None:
    peers.things = {"dog": noisy(20)}  # each a PNG of more than 1200 bytes
    fault = await refused(stub, ask.phrases("dog", mask_format=PNG), 6000)
    assert (fault.reason, fault.field) == ("MASKS_TOO_LARGE", "task.mask_format")
    assert 1 < len(drawn) < 7


async def test_the_rest_of_an_answer_is_looked_at_too(stub: Stub, peers: Peers, ask: Ask) -> None:
    peers.things = {"dog": [detection(0, 0, 9, 9)] * 20}
    fault = await refused(stub, ask.phrases("dog", mask_format=PNG), 20 * 100)
    assert (fault.reason, fault.field) == ("ANSWER_TOO_LARGE", "task.mask_format")


async def test_pictures_have_the_room_that_masks_leave(stub: Stub, peers: Peers, ask: Ask) -> None:
    peers.things = {"dog": noisy(1)}
    (thing,) = peers.things["dog"]
    most = len(thing.mask.counts) + 2000
    fault = await refused(stub, ask.phrases("dog", renders=[OVERLAY]), most)
    assert (fault.reason, fault.field) == ("IMAGE_TOO_LARGE", "task.renders[0].format")
    assert "room for 1500;" in fault.message


# --- no more than is asked for --------------------------------------------------------------------


async def test_what_is_not_answered_is_not_drawn(
    stub: Stub, peers: Peers, ask: Ask, drawn: list[RLE]
) -> None:
    peers.things = {"dog": noisy(5)}
    task = ask.phrases("dog", mask_format=PNG, max_instances=2)
    assert len((await segment(stub, task)).instances) == 2
    assert len(drawn) == 2


async def test_a_mask_is_drawn_once_however_often_it_is_told(
    stub: Stub, peers: Peers, ask: Ask, drawn: list[RLE]
) -> None:
    peers.things = {"dog": noisy(5)}
    task = ask.phrases("dog", mask_format=PNG)
    events = [event async for event in stream(stub, task)]
    told: list[Sequence[Any]] = [events[1].candidates.instances, events[2].done.instances]
    assert [len(instances) for instances in told] == [5, 5]
    assert all(item.mask.png for instances in told for item in instances)
    assert len(drawn) == 5


async def test_nothing_is_drawn_for_a_caller_that_has_gone(
    stub: Stub, peers: Peers, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers.things = {"dog": noisy(5)}
    drawing, gone = threading.Event(), threading.Event()
    ended: list[Exception] = []
    write_masks, write_mask = rendering.write_masks, rendering._written_mask

    def written(mask: RLE, mask_format: MaskFormat) -> Any:
        drawing.set()
        gone.wait(60)
        return write_mask(mask, mask_format)

    def watched(*args: Any) -> Any:
        try:
            return write_masks(*args)
        except Exception as error:
            ended.append(error)
            raise

    monkeypatch.setattr(rendering, "_written_mask", written)
    monkeypatch.setattr("services.gateway.mask_writing.write_masks", watched)
    call = stub.Segment(
        limelight_pb2.SegmentRequest(task=ask.phrases("dog", mask_format=PNG)), timeout=0.5
    )
    await asyncio.to_thread(drawing.wait, 60)
    with pytest.raises(grpc.RpcError):
        await call
    gone.set()
    await until(lambda: [type(error).__name__ for error in ended] == ["Cancelled"])


def stream(
    stub: Stub, task: limelight_pb2.SegmentTask
) -> AsyncIterator[limelight_pb2.SegmentStreamResponse]:
    return aiter(stub.SegmentStream(limelight_pb2.SegmentStreamRequest(task=task)))


def test_a_refusal_says_how_far_it_got() -> None:
    masks = [thing.mask for thing in noisy(4)]
    room = MaskRoom(2 * len(masks[0].counts), MaskFormat.RLE, MASK_FORMAT)
    with pytest.raises(TooLarge, match=r"the first 3 masks take .*; ask for fewer instances$"):
        rendering.write_masks([masks[0]] * 4, room)
