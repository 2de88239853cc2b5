"""Plans executed over frames, through a real gateway: decided once, held by identity."""

import grpc
import numpy as np
import pytest

from limelight import png
from limelight.v1 import limelight_pb2_grpc, media_pb2, review_pb2, video_pb2
from limelight.values import ConceptQuery, Plan, PlanOutcome, SelectBy, Selection, VerdictKind
from services.gateway.app import start
from services.isolation.pool import Nursery
from tests.codecs.videos.clips import X264, Clip
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import Client, Stub, config, ids, make_track_settings, track
from tests.gateway.video.tracker import StandInTracker, Thing, always
from tests.rpc.faults import fault_of


def plan(*include: str, exclude: tuple[str, ...] = (), **rest: object) -> Plan:
    return Plan(
        tuple(map(ConceptQuery, include)),
        tuple(map(ConceptQuery, exclude)),
        **rest,  # type: ignore[arg-type]
    )


def lefts(client: Client) -> list[list[float]]:
    return [[item.box.x0 for item in frame.instances] for frame in client.frames()]


def plans_told(client: Client) -> list[video_pb2.TrackPlan]:
    return [event.plan for event in client.events if event.WhichOneof("event") == "plan"]


async def test_a_selection_is_made_on_the_first_frame_and_held_by_identity(
    stub: Stub, peers: Peers, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.things["dog"] = [
        Thing(lambda frame: (frame, 4, frame + 8, 12)),  # the left one walks past the other
        Thing(always(20, 30, 28, 38), 0.95),
    ]
    peers.plan = plan("dog", select=Selection(SelectBy.LEFTMOST))
    client = await track(stub, clip, config(instruction="the dog on the left"))
    assert lefts(client) == [[float(index)] for index in range(48)]


async def test_what_comes_later_is_told_without_a_selection_and_not_with_one(
    stub: Stub, peers: Peers, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.things["dog"] = [
        Thing(always(20, 30, 28, 38)),
        Thing(lambda frame: (2, 2, 9, 9) if frame >= 20 else None),
    ]
    peers.plan = plan("dog")
    client = await track(stub, clip, config(instruction="the dogs"))
    told = ids(client.frames())
    assert told[19] == [1]
    assert told[20] == [1, 2]
    peers.plan = plan("dog", select=Selection(SelectBy.LEFTMOST))
    client = await track(stub, clip, config(instruction="the dog on the left"))
    assert {tuple(item) for item in ids(client.frames()).values()} == {(1,)}


async def test_a_selection_waits_for_the_first_frame_that_has_something(
    stub: Stub, peers: Peers, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.things["dog"] = [
        Thing(lambda frame: (40, 30, 48, 38) if frame >= 10 else None),
        Thing(lambda frame: (20, 30, 28, 38) if frame >= 10 else None),
    ]
    peers.plan = plan("dog", select=Selection(SelectBy.RIGHTMOST))
    client = await track(stub, clip, config(instruction="the dog on the right"))
    assert lefts(client) == [[]] * 10 + [[40.0]] * 38


async def test_exclude_takes_away_what_it_covers_for_good(
    stub: Stub, peers: Peers, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.things["animal"] = [Thing(always(0, 0, 10, 10)), Thing(always(30, 30, 40, 40))]
    # The cat has the first animal's pixels, and is lost from sight in the middle.
    tracker.things["cat"] = [Thing(lambda f: None if 20 <= f < 30 else (0, 0, 10, 9))]
    peers.plan = plan("animal", exclude=("cat",))
    client = await track(stub, clip, config(instruction="the animals but not the cats"))
    assert lefts(client) == [[30.0]] * 48
    assert [item.label for item in client.summary.objects] == ["animal"]


async def test_the_same_thing_found_by_two_queries_is_told_once(
    stub: Stub, peers: Peers, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.things["animal"] = [Thing(always(70, 40, 80, 60), 0.7), Thing(always(0, 0, 9, 9))]
    client = await track(stub, clip, config("animal", "cat"))
    labels = [sorted(item.label for item in frame.instances) for frame in client.frames()]
    assert labels == [["animal", "cat"]] * 48


async def test_review_rejects_for_good(
    stub: Stub, peers: Peers, tracker: StandInTracker, clip: bytes
) -> None:
    peers.plan = plan("dog", "cat", review=True)
    peers.verdict = lambda p: VerdictKind.REJECTED if p == "dog" else VerdictKind.ACCEPTED
    client = await track(stub, clip, config(instruction="the animal that sleeps"))
    assert peers.asked == ["plan", "review"]
    assert {item.label for frame in client.frames() for item in frame.instances} == {"cat"}
    assert [item.verdict for item in client.summary.objects] == [review_pb2.VERDICT_ACCEPTED]


async def test_the_caller_may_forbid_a_review(stub: Stub, peers: Peers, clip: bytes) -> None:
    peers.plan = plan("dog", review=True)
    never = config(instruction="the dogs", review=review_pb2.REVIEW_MODE_NEVER)
    await track(stub, clip, never)
    assert peers.asked == ["plan"]


async def test_a_refused_plan_gives_every_frame_empty(
    stub: Stub, peers: Peers, clip: bytes
) -> None:
    peers.plan = Plan(reason="That is a poem.", outcome=PlanOutcome.REFUSED)
    client = await track(stub, clip, config(instruction="roses are red"))
    assert client.indices() == list(range(48))
    assert client.summary.summary == "Nothing to look for: That is a poem."


async def test_absent_things_are_said_to_be_absent(stub: Stub, clip: bytes) -> None:
    client = await track(stub, clip, config("elephant"))
    assert client.summary.summary == 'Nothing was found for "elephant" in 48 frames.'


async def test_the_cap_keeps_the_best_and_counts_the_rest(
    stub: Stub, peers: Peers, tracker: StandInTracker, clip: bytes
) -> None:
    peers.plan = plan("dog", "cat", exclude=("wolf",))
    client = await track(stub, clip, config(instruction="pets", max_objects=2))
    assert tracker.openings[0].max_objects == 0
    frames = client.frames()
    assert {frame.over_cap for frame in frames} == {1}
    assert {tuple(sorted(i.label for i in f.instances)) for f in frames} == {("cat", "dog")}
    await track(stub, clip, config("dog", max_objects=2))
    assert tracker.openings[-1].max_objects == 2


async def test_objects_are_told_by_their_labels(
    stub: Stub, tracker: StandInTracker, clip: bytes
) -> None:
    wanted = video_pb2.TrackConfig()
    wanted.objects.add(label="ball", box={"x0": 1, "y0": 1, "x1": 9, "y1": 9})
    wanted.objects.add(points={"points": [{"x": 5, "y": 5}]})
    client = await track(stub, clip, wanted)
    assert [item.label for item in client.frames()[0].instances] == ["ball", "object"]
    assert len(tracker.openings[0].objects) == 2


async def test_changed_only_tells_changes_and_who_is_gone(
    stub: Stub, tracker: StandInTracker, clip: bytes
) -> None:
    tracker.things["cat"] = [Thing(lambda f: None if 10 <= f < 20 else (70, 40, 80, 60))]
    tracker.things["dog"] = [Thing(lambda f: (f, 4, f + 10, 14))]
    client = await track(stub, clip, config("dog", "cat", changed_only=True))
    frames = client.frames()
    told = ids(frames)
    assert told[0] == [1, 2]
    assert [told[index] for index in range(1, 20)] == [[1]] * 19
    assert told[20] == [1, 2]
    assert told[21] == [1]
    assert {frame.frame_index: list(frame.gone) for frame in frames if frame.gone} == {10: [2]}


@pytest.mark.parametrize("kind", ["png", "polygons", "none"])
async def test_mask_formats(stub: Stub, clip: bytes, kind: str) -> None:
    number = media_pb2.MaskFormat.Value(f"MASK_FORMAT_{kind.upper()}")
    client = await track(stub, clip, config("cat", mask_format=number))
    (item,) = client.frames()[7].instances
    assert item.area == 200
    match kind:
        case "png":
            mask = np.zeros((64, 96), dtype=bool)
            mask[40:60, 70:80] = True
            assert (png.decode_mask(item.mask.png) == mask).all()
        case "polygons":
            (polygon,) = item.mask.polygons.polygons
            assert sorted(set(polygon.coordinates)) == [40.0, 60.0, 70.0, 80.0]
        case "none":
            assert item.mask.WhichOneof("kind") is None


async def test_stride_range_and_size_reach_the_tracker(
    stub: Stub, tracker: StandInTracker, peers: Peers, clip: bytes
) -> None:
    peers.plan = plan("dog")
    wanted = config(instruction="dogs", stride=3, max_side=48, range={"start_s": 0.6, "end_s": 1.2})
    client = await track(stub, clip, wanted)
    assert client.indices() == [15, 18, 21, 24, 27]
    assert (client.frames()[0].width, client.frames()[0].height) == (48, 32)
    assert client.events[1].plan.frame_index == 15
    # Groups of 12 frames: neither the first nor the last is needed.
    assert tracker.groups() == [1, 2]


async def test_a_range_without_frames_is_refused(stub: Stub, peers: Peers, clip: bytes) -> None:
    client = Client(stub, config(instruction="dogs", range={"start_s": 60.0}))
    await client.start()
    await client.send(clip)
    with pytest.raises(grpc.RpcError) as caught:
        await client.rest()
    assert fault_of(caught.value).field == "config.range"


def scenes(*colors: tuple[int, int, int], frames: int = 24, every: int = 24) -> bytes:
    """Scenes of one color each, with a key frame at each beginning and at every so many frames."""
    pictures = [np.full((64, 96, 3), color, np.uint8) for color in colors for _ in range(frames)]
    options = X264 | {"bf": "0", "g": str(every)}
    return Clip(frames=len(pictures), source=pictures, codec_options=options).make()


async def test_a_scene_cut_makes_another_plan(
    stub: Stub, peers: Peers, tracker: StandInTracker
) -> None:
    peers.plans = [plan("dog"), plan("cat")]
    client = await track(stub, scenes((200, 30, 30), (30, 60, 220)), config(instruction="pets"))
    assert [(item.frame_index, item.cause) for item in plans_told(client)] == [
        (0, video_pb2.PLAN_CAUSE_START),
        (24, video_pb2.PLAN_CAUSE_SCENE_CUT),
    ]
    labels = [{item.label for item in frame.instances} for frame in client.frames()]
    assert labels == [{"dog"}] * 24 + [{"cat"}] * 24
    # It is told before the frame that it holds from.
    assert client.kinds().index("plan", 2) == 2 + 24


async def test_plans_after_the_first_are_bounded(
    peers: Peers, tracker: StandInTracker, workers: Nursery
) -> None:
    gateway = await start(make_track_settings(peers, tracker, max_replans=1), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        peers.plan = plan("dog")
        colors = [(200, 30, 30), (30, 60, 220), (240, 240, 240), (10, 10, 10)]
        await track(stub, scenes(*colors), config(instruction="dogs"))
        assert peers.asked == ["plan", "plan"]
    await gateway.drain()


async def test_a_target_in_sight_outlives_a_scene_cut(
    stub: Stub, peers: Peers, tracker: StandInTracker
) -> None:
    tracker.things["dog"] = [
        Thing(lambda frame: (frame, 4, frame + 8, 12)),
        Thing(always(20, 30, 28, 38), 0.95),
    ]
    peers.plan = plan("dog", select=Selection(SelectBy.LEFTMOST))
    client = await track(stub, scenes((200, 30, 30), (30, 60, 220)), config(instruction="left"))
    assert len(plans_told(client)) == 2
    assert lefts(client) == [[float(index)] for index in range(48)]


async def test_lost_targets_make_another_plan(
    peers: Peers, tracker: StandInTracker, workers: Nursery
) -> None:
    tracker.things["dog"] = [Thing(lambda f: (5, 5, 20, 20) if f < 10 else None)]
    peers.plans = [plan("dog"), plan("cat")]
    gateway = await start(make_track_settings(peers, tracker, lost_s=0.4), workers)
    async with grpc.aio.insecure_channel(gateway.address) as channel:
        stub = limelight_pb2_grpc.LimelightServiceStub(channel)
        clip = scenes((200, 30, 30), frames=120, every=4)
        client = await track(stub, clip, config(instruction="the pet"))
        second = plans_told(client)[1]
        assert second.cause == video_pb2.PLAN_CAUSE_ALL_LOST
        # The last was seen in frame 9, at 0.36 s.
        assert second.frame_index in (20, 21)
        assert client.frames()[-1].instances[0].label == "cat"
    await gateway.drain()
