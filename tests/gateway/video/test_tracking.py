"""A video through a real gateway: plan, frames in order, summary."""

import grpc
import pytest

from limelight.v1 import media_pb2, plan_pb2
from limelight.values import ConceptQuery, Plan
from services.gateway import rendering
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import Client, Stub, config, ids, track
from tests.gateway.video.tracker import StandInTracker, Thing, always
from tests.rpc.faults import fault_of


async def test_explicit_phrases_give_every_frame_in_order(
    stub: Stub, tracker: StandInTracker, peers: Peers, clip: bytes
) -> None:
    client = await track(stub, clip, config("dog", "cat"))
    assert peers.asked == []
    assert client.kinds() == ["started", "plan", *["frame"] * 48, "summary"]
    assert client.indices() == list(range(48))
    assert set(map(tuple, ids(client.frames()).values())) == {(1, 2, 3)}
    first = client.frames()[0]
    assert [item.label for item in first.instances] == ["dog", "dog", "cat"]
    assert (first.width, first.height) == (96, 64)
    assert [frame.timestamp_s for frame in client.frames()] == pytest.approx(
        [index / 25 for index in range(48)]
    )
    assert client.events[1].plan.plan.outcome == plan_pb2.PLAN_OUTCOME_EXPLICIT
    summary = client.summary
    assert summary.frames == 48
    assert [(item.object_id, item.label, item.frames) for item in summary.objects] == [
        (1, "dog", 48),
        (2, "dog", 48),
        (3, "cat", 48),
    ]
    assert summary.summary == "Tracked 3 through 48 frames: 2 x dog, 1 x cat."
    assert tracker.groups() == [0, 1, 2, 3]


async def test_an_instruction_is_planned_on_the_first_frame(
    stub: Stub, peers: Peers, clip: bytes
) -> None:
    peers.plan = Plan((ConceptQuery("cat"),))
    client = await track(stub, clip, config(instruction="the cat"))
    assert peers.asked == ["plan"]
    assert client.events[1].plan.plan.include[0].phrase == "cat"
    assert {item.label for frame in client.frames() for item in frame.instances} == {"cat"}


async def test_frames_that_fit_no_message_are_not_drawn(
    stub: Stub, tracker: StandInTracker, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker.things["dog"] = [Thing(always(4 * i, 0, 4 * i + 3, 9)) for i in range(20)]
    monkeypatch.setattr(rendering, "_written_mask", None)
    client = Client(stub, config("dog", mask_format=media_pb2.MASK_FORMAT_PNG))
    client.call = stub.TrackVideo(metadata=(("x-limelight-max-answer-bytes", "1000"),))
    token = (await client.start()).resume_token
    await client.send(clip)
    with pytest.raises(grpc.RpcError) as caught:
        await client.rest()
    fault = fault_of(caught.value)
    assert (fault.reason, fault.field) == ("MASKS_TOO_LARGE", "config.mask_format")
    # It would be the same again: nothing is kept for it.
    again = Client(stub, config(resume_token=token))
    with pytest.raises(grpc.RpcError) as caught:
        await again.start()
    assert fault_of(caught.value).reason == "STREAM_UNKNOWN"
