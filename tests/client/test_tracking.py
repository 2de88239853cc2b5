"""Tracking against a real server, sync and async: events, credits, changes, cuts, errors."""

import asyncio
import io
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from limelight import (
    AsyncClient,
    Box,
    Client,
    ConceptQuery,
    LimelightError,
    LivePicture,
    Masklet,
    ObjectPrompt,
    PlanCause,
    RetryPolicy,
    TimeRange,
    TrackedFrame,
    TrackPlanned,
    TrackProgress,
    TrackStarted,
    TrackSummary,
    videos,
)
from limelight.paths import FieldPath
from limelight.tracking import FRAME_WINDOW
from limelight.v1 import video_pb2
from services.errors import InvalidRequest, Overloaded, Reason
from tests.client.stand_in import serving
from tests.client.track_stand_in import TrackStandIn

QUICK = RetryPolicy(attempts=3, first_delay=0.01, patience=0.0)
Track = Callable[..., list[Any]]


@pytest.fixture
def service() -> TrackStandIn:
    return TrackStandIn()


@pytest.fixture
def address(service: TrackStandIn) -> Iterator[str]:
    with serving(service) as address:  # type: ignore[arg-type]
        yield address


@pytest.fixture(params=["sync", "async"])
def track(request: pytest.FixtureRequest, address: str) -> Track:
    """All events of one video through either client; `on_event` is called with each."""

    def sync(*args: Any, on_event: Any = None, **options: Any) -> list[Any]:
        with (
            Client(address, retry=QUICK) as client,
            client.track(*args, **options) as tracking,
        ):
            events = []
            for event in tracking:
                events.append(event)
                if on_event is not None:
                    on_event(tracking, event)
            return events

    async def asynchronous(*args: Any, on_event: Any = None, **options: Any) -> list[Any]:
        async with (
            AsyncClient(address, retry=QUICK) as client,
            client.track(*args, **options) as tracking,
        ):
            events = []
            async for event in tracking:
                events.append(event)
                if on_event is not None:
                    on_event(tracking, event)
            return events

    if request.param == "sync":
        return sync
    return lambda *args, **options: asyncio.run(asynchronous(*args, **options))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "CHUNK_BYTES", 3)


def frames_of(events: list[Any]) -> list[int]:
    return [event.index for event in events if isinstance(event, TrackedFrame)]


def media_of(service: TrackStandIn) -> bytes:
    (stream,) = service.streams.values()
    return bytes(stream.media)


VIDEO = bytes(range(200))


def test_the_events_of_a_file(track: Track, service: TrackStandIn, tmp_path: Any) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(VIDEO)
    events = track(path, "the dog", score_threshold=0.3, stride=2, max_side=320)
    assert isinstance(events[0], TrackStarted)
    assert events[0].resume_token == "stream-0"
    plan = events[1]
    assert isinstance(plan, TrackPlanned)
    assert (plan.plan.include[0].phrase, plan.cause) == ("the dog", PlanCause.START)
    assert frames_of(events) == list(range(200))
    frame = next(event for event in events if isinstance(event, TrackedFrame) and event.index == 7)
    assert (frame.time_s, frame.width, frame.height) == (0.7, 3, 2)
    item = frame.instance(1)
    assert item is not None
    assert item.score == pytest.approx(VIDEO[7] / 255)
    assert item.mask.shape == (2, 3)
    assert item.mask.all()
    assert frame.instance(2) is None
    progress = events[-2]
    assert isinstance(progress, TrackProgress)
    assert progress.left_s == pytest.approx(20.0)
    summary = events[-1]
    assert isinstance(summary, TrackSummary)
    assert summary.objects == (Masklet(1, "dog", 0, 199, 3, 0),)
    assert media_of(service) == VIDEO
    config = service.configs[0]
    assert (config.stride, config.max_side, config.frame_window) == (2, 320, FRAME_WINDOW)
    assert config.score_threshold == pytest.approx(0.3)


def test_what_is_wanted_is_said_in_the_config(track: Track, service: TrackStandIn) -> None:
    prompt = ObjectPrompt(Box(0, 0, 2, 2), "ball")
    track(
        b"ab",
        phrases=["dog"],
        queries=[ConceptQuery("cat")],
        exclude=["bird"],
        objects=[prompt],
        time_range=TimeRange(1.0, 2.5),
        max_objects=4,
        changed_only=True,
        review=False,
    )
    config = service.configs[0]
    assert [query.phrase for query in config.queries.include] == ["dog", "cat"]
    assert [query.phrase for query in config.queries.exclude] == ["bird"]
    assert config.objects[0].label == "ball"
    assert (config.range.start_s, config.range.end_s) == (1.0, 2.5)
    assert (config.max_objects, config.changed_only) == (4, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give an instruction"),
        ({"instruction": "dog", "phrases": ["dog"]}, "either an instruction"),
        ({"phrases": "dog"}, "must be a list"),
        ({"instruction": "dog", "exclude": ["cat"]}, "go with phrases"),
    ],
)
def test_arguments_that_make_no_request(track: Track, options: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        track(b"ab", **options)


def test_a_video_of_no_known_type(track: Track) -> None:
    with pytest.raises(TypeError, match="a video must be"):
        track(5, "dog")


def test_a_file_that_is_not_there(track: Track, tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError):
        track(tmp_path / "nothing.mp4", "dog")


@pytest.mark.usefixtures("small_chunks")
def test_no_more_is_sent_or_made_than_is_acknowledged(track: Track, service: TrackStandIn) -> None:
    events = track(VIDEO, "dog")
    assert frames_of(events) == list(range(200))
    assert media_of(service) == VIDEO
    assert 0 < service.most_ahead <= FRAME_WINDOW


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("forgets", [0, 4])
def test_a_cut_stream_goes_on_by_itself(track: Track, service: TrackStandIn, forgets: int) -> None:
    service.cuts = [20, 7, 1, 30]
    service.forgets = forgets
    events = track(VIDEO, "dog")
    assert frames_of(events) == list(range(200))
    scores = [event.instances[0].score for event in events if isinstance(event, TrackedFrame)]
    assert scores == pytest.approx([value / 255 for value in VIDEO])
    assert media_of(service) == VIDEO
    assert [config.resume_token for config in service.configs] == ["", *["stream-0"] * 4]
    assert [config.next_frame for config in service.configs] == [0, 20, 27, 28, 58]
    assert len(set(service.request_ids)) == 1
    # Nobody needs to know: one start, one plan, one summary.
    assert [type(event).__name__ for event in events if not isinstance(event, TrackedFrame)] == [
        "TrackStarted",
        "TrackPlanned",
        "TrackProgress",
        "TrackSummary",
    ]


@pytest.mark.usefixtures("small_chunks")
def test_a_cut_stream_from_a_pipe_goes_on(track: Track, service: TrackStandIn) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as sink:
        sink.write(VIDEO)
    service.cuts = [20, 7]
    service.forgets = 2
    with os.fdopen(reading, "rb") as pipe:
        events = track(pipe, "dog")
    assert frames_of(events) == list(range(200))
    assert media_of(service) == VIDEO


@pytest.mark.usefixtures("small_chunks")
def test_another_process_goes_on_with_the_token(track: Track, service: TrackStandIn) -> None:
    service.cuts = [50]

    class Left(Exception):
        pass

    def leave(tracking: Any, event: Any) -> None:
        if isinstance(event, TrackedFrame) and event.index == 30:
            raise Left

    with pytest.raises(Left):
        track(VIDEO, "dog", on_event=leave)
    events = track(io.BytesIO(VIDEO), resume_token="stream-0", next_frame=31)
    assert frames_of(events) == list(range(31, 200))
    assert media_of(service) == VIDEO


def test_a_stream_that_cannot_go_on_says_why(track: Track, service: TrackStandIn) -> None:
    gone = InvalidRequest(
        Reason.STREAM_UNKNOWN, "no such stream", field=FieldPath(("config", "resume_token"))
    )
    service.cuts = [20, gone]
    events: list[Any] = []
    with pytest.raises(LimelightError) as caught:
        track(VIDEO, "dog", on_event=lambda _, event: events.append(event))
    assert caught.value.reason == "STREAM_UNKNOWN"
    assert frames_of(events) == list(range(20))


def test_it_is_given_up_when_no_frame_comes(track: Track, service: TrackStandIn) -> None:
    busy = Overloaded(Reason.OVERLOADED, "full", retry_after_s=0.01)
    service.cuts = [busy] * 10
    with pytest.raises(LimelightError) as caught:
        track(VIDEO, "dog")
    assert caught.value.reason == "OVERLOADED"
    assert len(service.configs) == QUICK.attempts


def test_an_error_keeps_its_field(track: Track, service: TrackStandIn) -> None:
    fault = InvalidRequest(
        Reason.OPTION_INVALID, "too many", field=FieldPath(("config", "max_objects"))
    )
    service.cuts = [fault]
    with pytest.raises(LimelightError) as caught:
        track(b"ab", "dog")
    assert (caught.value.reason, caught.value.field) == ("OPTION_INVALID", "config.max_objects")


@pytest.mark.usefixtures("small_chunks")
def test_changes_are_sent_while_it_runs(track: Track, service: TrackStandIn) -> None:
    def change(tracking: Any, event: Any) -> None:
        if isinstance(event, TrackStarted):
            tracking.add("cat", at_frame=5)
            tracking.drop("dog")
            tracking.set_object(ObjectPrompt(Box(0, 0, 1, 1), "ball"))
            tracking.remove(3)

    track(VIDEO, "dog", on_event=change)
    (stream,) = service.streams.values()
    assert [item.WhichOneof("change") for item in stream.changes] == [
        "add_query",
        "drop_phrase",
        "set_object",
        "remove_object",
    ]
    assert (stream.changes[0].add_query.phrase, stream.changes[0].at_frame) == ("cat", 5)


def test_a_change_goes_out_while_the_pipe_is_silent(track: Track, service: TrackStandIn) -> None:
    reading, writing = os.pipe()
    sent = threading.Event()

    def feed() -> None:
        with os.fdopen(writing, "wb", buffering=0) as sink:
            sink.write(VIDEO[:1])
            # The rest comes when the service has the change.
            while not any(stream.changes for stream in service.streams.values()):
                if sent.wait(0.02):
                    return
            sink.write(VIDEO[1:])

    feeder = threading.Thread(target=feed)
    feeder.start()

    def change(tracking: Any, event: Any) -> None:
        if isinstance(event, TrackedFrame) and event.index == 0:
            tracking.add("cat")

    try:
        with os.fdopen(reading, "rb") as pipe:
            assert frames_of(track(pipe, "dog", on_event=change)) == list(range(200))
    finally:
        sent.set()
        feeder.join()


def test_live_pictures(track: Track, service: TrackStandIn) -> None:
    pictures = [LivePicture(bytes([number, 0]), number / 5) for number in range(20)]
    events = track(iter(pictures), "dog")
    assert frames_of(events) == list(range(20))
    assert service.configs[0].live
    assert media_of(service) == bytes(range(20))


async def test_live_pictures_that_are_awaited(address: str, service: TrackStandIn) -> None:
    async def camera() -> AsyncIterator[LivePicture]:
        for number in range(20):
            await asyncio.sleep(0)
            yield LivePicture(bytes([number, 0]), number / 5)

    async with AsyncClient(address) as client, client.track(camera(), "dog") as tracking:
        events = [event async for event in tracking]
    assert frames_of(events) == list(range(20))
    assert media_of(service) == bytes(range(20))


def test_a_camera_that_fails_ends_the_call(track: Track, service: TrackStandIn) -> None:
    def camera() -> Iterator[LivePicture]:
        yield LivePicture(b"a", 0.0)
        raise RuntimeError("unplugged")

    with pytest.raises(RuntimeError, match="unplugged"):
        track(camera(), "dog")
    assert service.ended.wait(30)


def test_who_leaves_ends_the_call(track: Track, service: TrackStandIn) -> None:
    service.gate = threading.Event()

    class Left(Exception):
        pass

    def leave(tracking: Any, event: Any) -> None:
        raise Left

    with pytest.raises(Left):
        track(VIDEO, "dog", on_event=leave)
    assert service.ended.wait(30)


def test_json_lines(track: Track) -> None:
    events = track(b"\x80\xff", "dog")
    plan, first, _, _, summary = (
        json.loads(json.dumps(event.to_dict())) if hasattr(event, "to_dict") else event
        for event in events[1:]
    )
    assert plan["plan"]["include"] == [{"phrase": "dog"}]
    assert "frame" not in plan
    assert "frame" not in summary
    assert first == {
        "frame": 0,
        "time_s": 0.0,
        "width": 3,
        "height": 2,
        "instances": [
            {
                "id": 1,
                "label": "dog",
                "phrase": "dog",
                "score": 0.501961,
                "box": [0.0, 0.0, 3.0, 2.0],
                "area": 6,
                "mask": {"size": [2, 3], "counts": "06"},
            }
        ],
    }
    assert summary["objects"][0]["id"] == 1


def test_a_source_gives_again_what_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "CHUNK_BYTES", 4)
    source = videos.VideoSource(io.BufferedReader(_OnlyForward(b"abcdefghij")))
    assert [read(source) for _ in range(2)] == [b"abcd", b"efgh"]
    source.go_to(6)
    assert [read(source) for _ in range(3)] == [b"gh", b"ij", None]
    source.go_to(8)
    assert [read(source) for _ in range(2)] == [b"ij", None]


def test_a_source_that_kept_too_little_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "CHUNK_BYTES", 1)
    source = videos.VideoSource(io.BufferedReader(_OnlyForward(bytes(200))))
    for _ in range(200):
        source.read()
    with pytest.raises(ValueError, match="not kept"):
        source.go_to(5)


def read(source: videos.VideoSource) -> bytes | None:
    message: video_pb2.TrackVideoRequest | None = source.read()
    return None if message is None else message.chunk


class _OnlyForward(io.RawIOBase):
    """A file that cannot be sought, as a pipe is one."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._content.readinto(buffer)
