"""Configs and messages that are refused, before or while a video is tracked."""

import asyncio
from collections.abc import Callable

import grpc
import pytest

from limelight.v1 import limelight_pb2_grpc, video_pb2
from services.gateway.app import Gateway, start
from services.isolation.pool import Nursery
from tests.codecs.videos.clips import X264, Clip
from tests.conftest import Until
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import (
    Client,
    Request,
    Stub,
    config,
    fill,
    large_clip,
    make_track_settings,
)
from tests.gateway.video.tracker import StandInTracker
from tests.rpc.faults import fault_of

BOX = {"x0": 0, "y0": 0, "x1": 8, "y1": 8}
NAN = float("nan")


def _object(**fields: object) -> video_pb2.TrackConfig:
    made = config("dog")
    made.objects.add(**fields)  # type: ignore[arg-type]
    return made


def _range(start_s: float, end_s: float = 0.0, **fields: object) -> video_pb2.TrackConfig:
    return config("dog", range={"start_s": start_s, "end_s": end_s}, **fields)


BAD: dict[str, tuple[video_pb2.TrackConfig, str, str]] = {
    "nothing wanted": (config(), "TASK_MISSING", "config.want"),
    "blank instruction": (config(instruction=" "), "INSTRUCTION_INVALID", "config.instruction"),
    "long instruction": (
        config(instruction="x" * 1001),
        "INSTRUCTION_INVALID",
        "config.instruction",
    ),
    "no included query": (
        config(queries={"exclude": [{"phrase": "dog"}]}),
        "TASK_MISSING",
        "config.queries.include",
    ),
    "empty query": (config(""), "QUERY_INVALID", "config.queries.include[0]"),
    "many queries": (config(*["dog"] * 33), "TOO_MANY_QUERIES", "config.queries"),
    "phrase with a NUL": (config("dog\0"), "PHRASE_INVALID", "config.queries.include[0].phrase"),
    "threshold": (config("dog", score_threshold=1.5), "OPTION_INVALID", "config.score_threshold"),
    "threshold that is no number": (
        config("dog", score_threshold=NAN),
        "OPTION_INVALID",
        "config.score_threshold",
    ),
    "negative max_objects": (config("dog", max_objects=-1), "OPTION_INVALID", "config.max_objects"),
    "huge max_objects": (config("dog", max_objects=9999), "OPTION_INVALID", "config.max_objects"),
    "mask format": (config("dog", mask_format=99), "OPTION_INVALID", "config.mask_format"),
    "review": (config("dog", review=99), "OPTION_INVALID", "config.review"),
    "negative stride": (config("dog", stride=-1), "OPTION_INVALID", "config.stride"),
    "tiny max_side": (config("dog", max_side=3), "OPTION_INVALID", "config.max_side"),
    "negative window": (config("dog", frame_window=-1), "OPTION_INVALID", "config.frame_window"),
    "range before the start": (_range(-1.0), "OPTION_INVALID", "config.range.start_s"),
    "range that is empty": (_range(2.0, 2.0), "OPTION_INVALID", "config.range.end_s"),
    "range of no number": (_range(NAN), "OPTION_INVALID", "config.range.start_s"),
    "range of live input": (_range(1.0, 2.0, live=True), "OPTION_INVALID", "config.range"),
    "object without a shape": (_object(), "OBJECT_INVALID", "config.objects[0]"),
    "object with an id": (
        _object(object_id=3, box=BOX),
        "OBJECT_INVALID",
        "config.objects[0].object_id",
    ),
    "box inside out": (
        _object(box={"x0": 5, "y0": 0, "x1": 1, "y1": 9}),
        "BOX_INVALID",
        "config.objects[0].box",
    ),
    "only negative points": (
        _object(points={"points": [{"x": 1, "y": 1, "negative": True}]}),
        "OBJECT_INVALID",
        "config.objects[0].points",
    ),
    "many points": (
        _object(points={"points": [{"x": 1, "y": 1}] * 17}),
        "OBJECT_INVALID",
        "config.objects[0].points",
    ),
    "point of no number": (
        _object(points={"points": [{"x": NAN, "y": 1}]}),
        "OBJECT_INVALID",
        "config.objects[0].points.points[0]",
    ),
    "mask that is malformed": (
        _object(mask={"height": 8, "width": 8, "counts": b"01"}),
        "CANDIDATE_INVALID",
        "config.objects[0].mask",
    ),
    "empty mask": (
        _object(mask={"height": 8, "width": 8, "counts": b"P2"}),
        "OBJECT_INVALID",
        "config.objects[0].mask",
    ),
    "unknown token": (config(resume_token="none"), "STREAM_UNKNOWN", "config.resume_token"),
    "negative next_frame": (
        config(resume_token="none", next_frame=-1),
        "OPTION_INVALID",
        "config.next_frame",
    ),
}


async def refusal(client: Client) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        await client.rest()
    return caught.value


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_config_is_refused_by_its_field(
    stub: Stub, tracker: StandInTracker, name: str
) -> None:
    wanted, reason, field = BAD[name]
    client = Client(stub, wanted)
    await client.write(Request(config=wanted))
    fault = fault_of(await refusal(client))
    assert (fault.code, fault.reason, fault.field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        reason,
        field,
    )
    assert not tracker.openings


MISPLACED: dict[str, tuple[Callable[[], list[Request]], str]] = {
    "no config": (lambda: [Request(chunk=b"x")], "config"),
    "credits first": (lambda: [Request(credits=3)], "config"),
    "two configs": (lambda: [Request(config=config("dog"))] * 2, "config"),
    "a frame of a file": (
        lambda: [Request(config=config("dog")), Request(frame={"timestamp_s": 1})],
        "frame",
    ),
    "a chunk of live input": (
        lambda: [Request(config=config("dog", live=True)), Request(chunk=b"x")],
        "chunk",
    ),
    "a chunk that is too large": (
        lambda: [Request(config=config("dog")), Request(chunk=bytes(2**20 + 1))],
        "chunk",
    ),
    "a change of nothing": (
        lambda: [Request(config=config("dog")), Request(change={"at_frame": 1})],
        "change",
    ),
}


@pytest.mark.parametrize("name", MISPLACED)
async def test_a_message_in_the_wrong_place_is_refused(stub: Stub, name: str) -> None:
    make, field = MISPLACED[name]
    client = Client(stub, config("dog"))
    for request in make():
        await client.write(request)
    fault = fault_of(await refusal(client))
    assert (fault.reason, fault.field) == ("MESSAGE_INVALID", field)


async def test_nothing_may_come_after_the_end_of_the_media(
    stub: Stub, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.hold = asyncio.Event()
    client = Client(stub, config("dog"))
    await client.start()
    await client.send(clip)
    await client.write(Request(chunk=b"more"))
    fault = fault_of(await refusal(client))
    assert (fault.reason, fault.field) == ("MESSAGE_INVALID", "chunk")


async def test_more_media_than_credits_are_refused(
    peers: Peers, tracker: StandInTracker, until: Until, workers: Nursery
) -> None:
    tracker.hold = asyncio.Event()
    gateway = await start(make_track_settings(peers, tracker, intake_ahead_bytes=2**20), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        client = Client(limelight_pb2_grpc.LimelightServiceStub(channel), config("dog"))
        await client.start()
        await fill(client, large_clip())
        await client.write(Request(chunk=b"one too many"))
        fault = fault_of(await refusal(client))
        assert (fault.reason, fault.field) == ("MESSAGE_INVALID", "chunk")
    await gateway.drain()


MEDIA: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "VIDEO_MISSING"),
    "text": (b"hello, this is not a video at all" * 20, "VIDEO_UNSUPPORTED"),
    "a cut-off beginning": (b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "VIDEO_CORRUPT"),
}


@pytest.mark.parametrize("name", MEDIA)
async def test_bad_media_are_refused_and_nothing_is_left(
    stub: Stub, tracker: StandInTracker, until: Until, gateway: Gateway, name: str
) -> None:
    content, reason = MEDIA[name]
    client = Client(stub, config("dog"))
    await client.start()
    await client.send(content)
    fault = fault_of(await refusal(client))
    assert (fault.code, fault.reason, fault.field) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        reason,
        "chunk",
    )
    await until(lambda: gateway._admission.streams == 0)
    assert tracker.live == 0


async def test_a_file_that_is_cut_off_is_tracked_as_far_as_it_goes(stub: Stub) -> None:
    whole = Clip("matroska", frames=60, codec_options=X264 | {"bf": "0"}).make()
    client = Client(stub, config("dog"))
    await client.start()
    await client.send(whole[: len(whole) * 2 // 3])
    await client.rest()
    assert 12 <= len(client.frames()) < 60
    assert client.indices() == list(range(len(client.frames())))
