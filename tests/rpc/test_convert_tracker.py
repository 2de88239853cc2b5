"""Nothing of a tracking session is lost between protobuf and the domain."""

import pytest

from limelight.internal.v1 import tracker_pb2
from limelight.values import (
    RLE,
    AddQuery,
    Box,
    ConceptQuery,
    DropPhrase,
    Exemplar,
    ModelInfo,
    ObjectPrompt,
    Point,
    PromptChange,
    RemoveObject,
    SetObject,
    TimeRange,
)
from services.domain import (
    EncodedFrame,
    FrameTracks,
    MediaEnd,
    ObjectTrack,
    PacketGroup,
    ResumePoint,
    SessionState,
    TrackEvent,
    TrackOpened,
    TrackOpening,
    TrackStep,
)
from services.errors import InvalidRequest, Reason
from services.rpc.convert.tracker import (
    event_from_proto,
    event_to_proto,
    opening_from_proto,
    opening_to_proto,
    resume_point_from_bytes,
    resume_point_to_bytes,
    step_from_proto,
    step_to_proto,
)

MASK = RLE((2, 3), b"06")
CHANGES = (
    PromptChange(AddQuery(ConceptQuery("dog", (Exemplar(Box(0, 0, 1, 1), False),))), 7),
    PromptChange(DropPhrase("dog")),
    PromptChange(SetObject(ObjectPrompt((Point(1, 2), Point(0, 0, False)), "it", 3)), 0),
    PromptChange(RemoveObject(4), 9),
)
OPENINGS = (
    TrackOpening(score_threshold=0.25),
    TrackOpening(
        queries=(ConceptQuery("dog"), ConceptQuery("", (Exemplar(Box(1, 2, 3, 4)),))),
        objects=(ObjectPrompt(Box(0, 0, 2, 2), "a"), ObjectPrompt(MASK, "b")),
        score_threshold=0.5,
        max_objects=9,
        media_header=b"header",
        stride=3,
        max_side=480,
        range=TimeRange(1.5, 2.5),
        live=True,
        state=b"state",
        next_frame=17,
    ),
    TrackOpening(range=TimeRange(1.0, None)),
)
STEPS: tuple[TrackStep, ...] = (
    PacketGroup(b"packets", 3),
    EncodedFrame(b"picture", 5, 0.75),
    MediaEnd(),
    *CHANGES,
)
EVENTS: tuple[TrackEvent, ...] = (
    TrackOpened(ModelInfo("segmenter", "tiny", "abc", "fake")),
    SessionState(next_frame=4, group=1, content=b"state", changes=2),
    FrameTracks(0, 0.0, 3, 2),
    FrameTracks(
        index=8,
        timestamp_s=0.5,
        width=3,
        height=2,
        objects=(ObjectTrack(1, -2, 0.5, 0.25, Box(0, 0, 3, 2), MASK, 6),),
        removed=(4, 5),
        over_cap=2,
        timings_ms={"track": 1.5},
    ),
)


@pytest.mark.parametrize("opening", OPENINGS)
def test_openings(opening: TrackOpening) -> None:
    wire = tracker_pb2.TrackRequest.FromString(opening_to_proto(opening).SerializeToString())
    assert opening_from_proto(wire) == opening


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_steps(step: TrackStep) -> None:
    wire = tracker_pb2.TrackRequest.FromString(step_to_proto(step).SerializeToString())
    assert step_from_proto(wire) == step


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events(event: TrackEvent) -> None:
    wire = tracker_pb2.TrackResponse.FromString(event_to_proto(event).SerializeToString())
    assert event_from_proto(wire) == event


def test_credits_alone_are_no_event() -> None:
    assert event_from_proto(tracker_pb2.TrackResponse(credits=3)) is None


def test_resume_points() -> None:
    point = ResumePoint(b"session", CHANGES, {4: 0.5, 5: 0.75}, changes=6)
    assert resume_point_from_bytes(resume_point_to_bytes(point)) == point


@pytest.mark.parametrize(
    "request_",
    [
        tracker_pb2.TrackRequest(),
        tracker_pb2.TrackRequest(group=tracker_pb2.PacketGroup(content=b"x")),
    ],
)
def test_a_session_begins_with_its_opening(request_: tracker_pb2.TrackRequest) -> None:
    with pytest.raises(InvalidRequest) as caught:
        opening_from_proto(request_)
    assert caught.value.reason is Reason.MESSAGE_INVALID


def test_a_second_opening_is_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        step_from_proto(opening_to_proto(OPENINGS[0]))
    assert caught.value.reason is Reason.MESSAGE_INVALID
