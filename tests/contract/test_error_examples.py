"""Every `ErrorReason` of the contract has an example, and the example is true.

The examples are read from the comments of `errors.proto`; each reason is provoked through a real
gateway, or in the service that alone can raise it, and what comes back is compared.
"""

import asyncio
import io
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from limelight.faults import Reason, ServiceError
from limelight.masks import encode_rle, rle_bbox
from limelight.v1 import errors_pb2, limelight_pb2, limelight_pb2_grpc, video_pb2
from limelight.values import RLE, ConceptQuery, Plan
from services.codecs.images import encode
from services.codecs.videos.demux import Demuxer
from services.codecs.videos.limits import DEFAULT_VIDEO_LIMITS, VideoLimits
from services.deadline import Deadline
from services.domain import Candidate, Detection
from services.errors import Cancelled, Internal
from services.gateway.admission import PHRASES
from services.gateway.app import start
from services.gateway.video.reading import CHUNK
from services.planner.metrics import RecordedPlannerMetrics
from services.planner.service import open_planner
from services.planner.settings import PlannerSettings
from services.replica.metrics import RecordedMetrics
from services.rpc.status import rich_status
from services.segmenter.segmenting import open_segmenter
from services.segmenter.settings import SegmenterSettings
from tests.codecs.videos.clips import KINDS
from tests.codecs.videos.hostile import gif
from tests.conftest import wait_until
from tests.gateway.conftest import Ask, make_settings, written
from tests.gateway.peers import HEIGHT, WIDTH, Peers
from tests.gateway.video.tracker import StandInTracker, Thing, always, serving_tracker

CONTRACT = Path(__file__).parents[2] / "protos" / "limelight" / "v1" / "errors.proto"
_EXAMPLE = re.compile(
    r"// Example: .*\. (?P<code>[A-Z_]{6,})(?P<retry>, with RetryInfo)?\.\n"
    r"(?P<info>(?:\s*//     .*\n)+)\s*ERROR_REASON_(?P<reason>\w+) = \d+;"
)


@dataclass(frozen=True)
class Example:
    """What a comment says that a failed call carries."""

    code: str
    reason: str
    domain: str
    field: str | None
    retry: bool


def examples() -> dict[str, Example]:
    """The example of each reason that has one."""
    found = {}
    for match in _EXAMPLE.finditer(CONTRACT.read_text(encoding="utf-8")):
        info = json.loads(re.sub(r"^\s*//", "", match["info"], flags=re.MULTILINE))
        assert set(info) == {"reason", "domain", "metadata"}
        assert "request_id" in info["metadata"]
        found[match["reason"]] = Example(
            match["code"],
            info["reason"],
            info["domain"],
            info["metadata"].get("field"),
            match["retry"] is not None,
        )
    return found


def seen(status: status_pb2.Status) -> Example:
    """What a status carries."""
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    names = {
        message.DESCRIPTOR.name
        for detail in status.details
        for message in (info, bad, retry)
        if detail.Unpack(message)
    }
    code = next(code for code in grpc.StatusCode if code.value[0] == status.code)
    field = info.metadata.get("field")
    assert info.metadata["request_id"]
    assert ("BadRequest" in names) == (code is grpc.StatusCode.INVALID_ARGUMENT)
    if "BadRequest" in names:
        (violation,) = bad.field_violations
        assert (violation.field, violation.reason) == (field, info.reason)
        assert violation.description == status.message
    return Example(code.name, info.reason, info.domain, field, "RetryInfo" in names)


Provoke = Callable[["Gateways"], Awaitable[status_pb2.Status]]
PROVOKED: dict[str, Provoke] = {}


def provokes(reason: Reason) -> Callable[[Provoke], Provoke]:
    def register(provoke: Provoke) -> Provoke:
        PROVOKED[reason.value] = provoke
        return provoke

    return register


class Gateways:
    """Asks a gateway before scripted peers."""

    def __init__(self, peers: Peers, ask: Ask) -> None:
        self.peers = peers
        self.ask = ask

    async def refusal(
        self, task: limelight_pb2.SegmentTask, **settings: object
    ) -> status_pb2.Status:
        """The status of a call that fails, at a gateway with these settings."""
        gateway = await start(make_settings(self.peers, peer_attempts=1, **settings))
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            status = await self.failed(channel, task)
        await gateway.drain()
        return status

    async def failed(
        self, channel: grpc.aio.Channel, task: limelight_pb2.SegmentTask
    ) -> status_pb2.Status:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            await stub.Segment(limelight_pb2.SegmentRequest(task=task), timeout=60)
        status = rpc_status.from_call(caught.value)
        assert status is not None
        return status


async def raised(call: Awaitable[object]) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await call
    return caught.value


def _image(content: bytes) -> Provoke:
    async def provoke(gateways: Gateways) -> status_pb2.Status:
        return await gateways.refusal(gateways.ask.task("cat", image={"content": content}))

    return provoke


JPEG = encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8), "jpeg")
PROVOKED |= {
    "IMAGE_MISSING": _image(b""),
    "IMAGE_UNSUPPORTED": _image(b"%PDF-1.7\n" + bytes(100)),
    "IMAGE_BAD_SHAPE": _image(encode(np.zeros((4, 4, 3), np.uint8))),
}


@provokes(Reason.IMAGE_TOO_LARGE)
async def _(gateways: Gateways) -> status_pb2.Status:
    return await gateways.refusal(
        gateways.ask.task("cat", image={"content": JPEG + bytes(2000)}), max_image_bytes=1024
    )


def _task(make: Callable[[Ask], limelight_pb2.SegmentTask]) -> Provoke:
    async def provoke(gateways: Gateways) -> status_pb2.Status:
        return await gateways.refusal(make(gateways.ask))

    return provoke


def _inside_out(ask: Ask) -> limelight_pb2.SegmentTask:
    task = ask.task()
    task.queries.include.add().exemplars.add(box={"x0": 20, "y0": 0, "x1": 10, "y1": 10})
    return task


PROVOKED |= {
    "TASK_MISSING": _task(lambda ask: ask.task()),
    "INSTRUCTION_INVALID": _task(lambda ask: ask.task("   ")),
    "QUERY_INVALID": _task(lambda ask: ask.phrases("")),
    "PHRASE_INVALID": _task(lambda ask: ask.phrases("cat\0")),
    "BOX_INVALID": _task(_inside_out),
    "OPTION_INVALID": _task(lambda ask: ask.task("cat", score_threshold=1.5)),
    "TOO_MANY_QUERIES": _task(lambda ask: ask.phrases(*["cat"] * 33)),
}


def _segmenter(image: bytes, *phrases: str, **settings: object) -> Provoke:
    """What a segmenter refuses, and the gateway hands on."""

    async def provoke(gateways: Gateways) -> status_pb2.Status:
        segmenter = open_segmenter(SegmenterSettings(engine="fake", **settings), RecordedMetrics())
        queries = tuple(map(ConceptQuery, phrases))
        error = await raised(segmenter.segment(image, queries, 0.5, 0, Deadline()))
        await segmenter.close()
        gateways.peers.failures = {"segment": [error]}
        return await gateways.refusal(gateways.ask.phrases(*phrases))

    return provoke


PROVOKED |= {
    "IMAGE_CORRUPT": _segmenter(JPEG[: len(JPEG) // 2], "red"),
    "PHRASE_TOO_LONG": _segmenter(JPEG, "red", "red " * 40),
    "MASKS_TOO_LARGE": _segmenter(JPEG, "red", mask_memory_bytes=100),
}


@provokes(Reason.CANDIDATE_INVALID)
async def _(gateways: Gateways) -> status_pb2.Status:
    planner = open_planner(PlannerSettings(engine="fake"), RecordedPlannerMetrics())
    sound = encode_rle(np.ones((64, 64), np.bool_))
    candidates = [Candidate(1, "dog", sound), Candidate(2, "dog", RLE((64, 64), b"01"))]
    error = await raised(planner.review(JPEG, "the dog", candidates, Deadline()))
    await planner.close()
    return rich_status(error, "7f0c")


def _video(data: bytes, limits: VideoLimits = DEFAULT_VIDEO_LIMITS) -> Provoke:
    """What the demuxer of a service refuses."""

    async def provoke(gateways: Gateways) -> status_pb2.Status:
        def demuxed() -> None:
            with Demuxer(io.BytesIO(data), limits, field=CHUNK) as demuxer:
                list(demuxer.gops())

        return rich_status(await raised(asyncio.to_thread(demuxed)), "7f0c")

    return provoke


CLIP = KINDS["mp4-h264"].make()
PROVOKED |= {
    "VIDEO_MISSING": _video(b""),
    "VIDEO_UNSUPPORTED": _video(b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
    "VIDEO_CORRUPT": _video(CLIP[: CLIP.index(b"moov")]),
    "VIDEO_TOO_LARGE": _video(gif(60_000, 60_000)),
    "VIDEO_TOO_LONG": _video(CLIP, VideoLimits(max_frames=39)),
    "VIDEO_BAD_SHAPE": _video(gif(4, 4)),
}


@provokes(Reason.OVERLOADED)
async def _(gateways: Gateways) -> status_pb2.Status:
    gateways.peers.hold = asyncio.Event()
    gateway = await start(make_settings(gateways.peers, max_in_flight=1))
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        request = limelight_pb2.SegmentRequest(task=gateways.ask.phrases("cat"))
        first = stub.Segment(request)
        await wait_until(lambda: gateways.peers.asked)
        # Not looked into before it is admitted: the picture is corrupt as well.
        corrupt = gateways.ask.phrases("cat", image={"content": JPEG[:40]})
        status = await gateways.failed(channel, corrupt)
        gateways.peers.hold.set()
        await first
    await gateway.drain()
    return status


@provokes(Reason.DRAINING)
async def _(gateways: Gateways) -> status_pb2.Status:
    # A connected caller's call, for which the HTTP/2 connection still stands.
    gateway = await start(make_settings(gateways.peers))
    gateway._admission.drain()
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        status = await gateways.failed(channel, gateways.ask.phrases("cat"))
    await gateway.drain()
    return status


@provokes(Reason.DEADLINE_PASSED)
async def _(gateways: Gateways) -> status_pb2.Status:
    gateways.peers.hold = asyncio.Event()
    return await gateways.refusal(gateways.ask.phrases("cat"), max_timeout_s=0.5)


@provokes(Reason.DEADLINE_TOO_SHORT)
async def _(gateways: Gateways) -> status_pb2.Status:
    gateway = await start(make_settings(gateways.peers))
    gateway._admission.lane(PHRASES).learn(1.0, 1.0, 400.0, alone=True)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        status = await gateways.failed(channel, gateways.ask.phrases("cat"))
    await gateway.drain()
    return status


async def _raw(
    gateways: Gateways, path: str, message: bytes, *pairs: tuple[str, str]
) -> status_pb2.Status:
    """The status of a call that no generated client would make."""
    gateway = await start(make_settings(gateways.peers))
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            await channel.unary_unary(path)(message, metadata=pairs, timeout=60)
    await gateway.drain()
    status = rpc_status.from_call(caught.value)
    assert status is not None
    return status


SEGMENT = "/limelight.v1.LimelightService/Segment"


def _malformed(path: str, message: bytes, *pairs: tuple[str, str]) -> Provoke:
    return lambda gateways: _raw(gateways, path, message, *pairs)


LATIN_1 = limelight_pb2.SegmentRequest(task={"instruction": "ecru"}).SerializeToString()
PROVOKED |= {
    "METADATA_INVALID": _malformed(SEGMENT, b"", ("x-limelight-timeout-ms", "9" * 400)),
    "REQUEST_MALFORMED": _malformed(SEGMENT, LATIN_1.replace(b"ecru", b"\xe9cru")),
    "SERVICE_UNKNOWN": _malformed("/grpc.health.v1.Health/Check", b"\x0a\x06nobody"),
    "METHOD_UNKNOWN": _malformed("/limelight.v1.LimelightService/Nothing", b""),
}


@provokes(Reason.ANSWER_TOO_LARGE)
async def _(gateways: Gateways) -> status_pb2.Status:
    # Masks of noise hardly shrink: each has some thousand runs.
    rng = np.random.default_rng(0)
    masks = [encode_rle(rng.random((HEIGHT, WIDTH)) < 0.5) for _ in range(400)]
    gateways.peers.things["cat"] = [Detection(0.9, rle_bbox(mask), mask, 1) for mask in masks]
    return await gateways.refusal(
        gateways.ask.phrases("cat"), max_message_bytes=2**20, max_instances=400
    )


def _peer(name: str, failure: ServiceError | grpc.StatusCode) -> Provoke:
    async def provoke(gateways: Gateways) -> status_pb2.Status:
        gateways.peers.plan = Plan((ConceptQuery("cat"),))
        gateways.peers.failures = {name: [failure]}
        return await gateways.refusal(gateways.ask.task("the cat"))

    return provoke


PROVOKED |= {
    "CANCELLED": _peer("segment", Cancelled()),
    "PLANNER_UNAVAILABLE": _peer("plan", grpc.StatusCode.UNAVAILABLE),
    "SEGMENTER_UNAVAILABLE": _peer("segment", grpc.StatusCode.UNAVAILABLE),
    "INTERNAL": _peer("plan", Internal()),
}


async def _held(
    call: "grpc.aio.StreamStreamCall",  # type: ignore[type-arg]
    requests: Sequence[video_pb2.TrackVideoRequest],
    answered: int,
    then: Sequence[video_pb2.TrackVideoRequest],
) -> None:
    """Send, and read until the call ends."""
    for request in requests:
        await written(call, request)
    for _ in range(answered):
        while (await call.read()).WhichOneof("event") != "frame":
            pass
    for request in then:
        await written(call, request)
    while await call.read() is not grpc.aio.EOF:
        pass


def _stream(
    *requests: video_pb2.TrackVideoRequest,
    answered: int = 0,
    then: Sequence[video_pb2.TrackVideoRequest] = (),
    **settings: object,
) -> Provoke:
    """What a stream of `requests` ends with; `then` are sent when so many frames were answered."""

    async def provoke(gateways: Gateways) -> status_pb2.Status:
        script = StandInTracker({"dog": [Thing(always(0, 0, 8, 8))]})
        async with serving_tracker(script) as address:
            gateway = await start(
                make_settings(gateways.peers, **{"tracker_address": address, **settings})
            )
            async with grpc.aio.insecure_channel(gateway.address) as channel:
                call = limelight_pb2_grpc.LimelightServiceStub(channel).TrackVideo()
                with pytest.raises(grpc.RpcError) as caught:
                    await _held(call, requests, answered, then)
                status = rpc_status.from_call(caught.value)
            await gateway.drain()
        assert status is not None
        return status

    return provoke


DOG = video_pb2.TrackVideoRequest(config={"queries": {"include": [{"phrase": "dog"}]}})
POINTS = {"points": [{"x": 1, "y": 1, "negative": True}]}
PROVOKED |= {
    "FRAME_PASSED": _stream(
        DOG,
        video_pb2.TrackVideoRequest(chunk=CLIP),
        answered=11,
        then=[video_pb2.TrackVideoRequest(change={"remove_object": 1, "at_frame": 3})],
    ),
    "STREAM_UNKNOWN": _stream(
        video_pb2.TrackVideoRequest(config={"resume_token": "of another server"})
    ),
    "STREAM_IDLE": _stream(DOG, stream_idle_s=0.4),
    "MESSAGE_INVALID": _stream(DOG, DOG),
    "OBJECT_INVALID": _stream(
        video_pb2.TrackVideoRequest(config={"objects": [{"points": POINTS}]})
    ),
    "TRACKER_ABSENT": _stream(DOG, tracker_address=""),
}


_REASONS = [
    pytest.param(reason, marks=pytest.mark.breaks) if reason is Reason.INTERNAL else reason
    for reason in Reason
]


@pytest.mark.parametrize("reason", _REASONS)
async def test_the_example_is_what_comes_back(reason: Reason, peers: Peers, ask: Ask) -> None:
    status = await PROVOKED[reason.value](Gateways(peers, ask))
    assert seen(status) == examples()[reason.value]


def test_the_contract_and_the_code_have_the_same_reasons() -> None:
    values = {name.removeprefix("ERROR_REASON_") for name, _ in errors_pb2.ErrorReason.items()}
    assert values - {"UNSPECIFIED"} == set(Reason.__members__) == set(PROVOKED)
    assert set(examples()) == set(Reason.__members__)
