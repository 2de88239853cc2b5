"""A tracker that decodes what it is sent and answers what a test tells it to, over real gRPC."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import numpy as np

from limelight.internal.v1 import tracker_pb2, tracker_pb2_grpc
from limelight.masks import encode_rle, rle_bbox
from limelight.values import AddQuery, DropPhrase, ModelInfo, PromptChange, RemoveObject, SetObject
from services.codecs.images import decode
from services.codecs.videos.decode import DecodedFrame, VideoDecoder
from services.codecs.videos.gops import Gop, GopHeader
from services.codecs.videos.selection import FrameSelection
from services.domain import (
    EncodedFrame,
    FrameTracks,
    MediaEnd,
    ObjectTrack,
    PacketGroup,
    SessionState,
    TrackOpened,
    TrackOpening,
    TrackStep,
)
from services.errors import ServiceError
from services.rpc.convert.tracker import (
    event_to_proto,
    opening_from_proto,
    step_from_proto,
)
from services.rpc.credits import Receiver
from services.rpc.status import code_of, rich_status, trailing_metadata
from services.rpc.tracking import TRACK_FLOW

TRACKER = ModelInfo("tracker", "scripted", "1", "test")

# Where a thing is in a frame: left, top, right, bottom; None: it is not visible.
Place = tuple[int, int, int, int] | None
Path = Callable[[int], Place]


def always(x0: int, y0: int, x1: int, y1: int) -> Path:
    """A thing that stands still."""
    return lambda frame: (x0, y0, x1, y1)


@dataclass(frozen=True)
class Thing:
    """One thing of the script: what it is found by, where it is, how well."""

    path: Path
    score: float = 0.9


@dataclass
class StandInTracker:
    """The script: what there is to track, what goes wrong, and what was asked.

    `things` are found by their phrases. Its ids are those of a state, so a session that goes on
    elsewhere has the same.
    """

    things: dict[str, list[Thing]] = field(default_factory=dict)
    failures: list[ServiceError | grpc.StatusCode | None] = field(default_factory=list)
    """Of the next sessions, at their opening; None lets one in."""
    die_at: list[int] = field(default_factory=list)
    """Frames after whose answer a session's connection ends with UNAVAILABLE; each once."""
    hold: asyncio.Event | None = None
    """Answers wait for it."""
    states: bool = True
    holds_back: int = 0
    """Frames that wait for later ones before they are answered."""
    openings: list[TrackOpening] = field(default_factory=list)
    steps: list[TrackStep] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    sent: int = 0
    """Responses that the flow control let through."""
    live: int = 0
    cancelled: int = 0
    timeouts: list[float | None] = field(default_factory=list)

    def groups(self) -> list[int]:
        return [step.index for step in self.steps if isinstance(step, PacketGroup)]

    def changes(self) -> list[PromptChange]:
        return [step for step in self.steps if isinstance(step, PromptChange)]


@dataclass
class _Session:
    """What one session knows."""

    script: StandInTracker
    opening: TrackOpening
    ids: dict[str, int] = field(default_factory=dict)
    changes: list[PromptChange] = field(default_factory=list)
    removed: set[int] = field(default_factory=set)
    told_removed: set[int] = field(default_factory=set)
    prompted: list[tuple[str, object]] = field(default_factory=list)
    size: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.opening.state:
            known = json.loads(self.opening.state)
            self.ids, self.removed = known["ids"], set(known["removed"])
            self.told_removed = set(self.removed)
        self.decoder: VideoDecoder | None = None
        if self.opening.media_header:
            part = self.opening.range
            selection = FrameSelection(
                0.0 if part is None else part.start_s,
                None if part is None else part.end_s,
                self.opening.stride,
                self.opening.max_side,
            )
            header = GopHeader.decode(self.opening.media_header)
            self.decoder = VideoDecoder(header, selection=selection)

    def state(self, next_frame: int, group: int) -> SessionState:
        content = json.dumps({"ids": self.ids, "removed": sorted(self.removed)}).encode()
        return SessionState(next_frame, group, content, len(self.changes))

    def frames(self, step: TrackStep) -> list[DecodedFrame]:
        match step:
            case PacketGroup(content, _):
                assert self.decoder is not None
                return list(self.decoder.decode(Gop.decode(content)))
            case EncodedFrame(content, index, timestamp_s):
                return [DecodedFrame(index, timestamp_s, decode(content))]
            case MediaEnd() if self.decoder is not None:
                return list(self.decoder.flush())
        return []

    def tracks(self, frame: DecodedFrame) -> FrameTracks:
        height, width = frame.pixels.shape[:2]
        phrases: list[tuple[int, str]] = [
            (index, query.phrase) for index, query in enumerate(self.opening.queries)
        ]
        count = len(phrases)
        shown = list(enumerate(self.opening.objects))
        for change in self.changes:
            due = change.at_frame is None or change.at_frame <= frame.index
            match change.change:
                case AddQuery(query):
                    if due:
                        phrases.append((count, query.phrase))
                    count += 1
                case DropPhrase(phrase) if due:
                    phrases = [item for item in phrases if item[1] != phrase]
                case RemoveObject(object_id) if due:
                    self.removed.add(object_id)
                case SetObject(prompt) if due and not prompt.object_id:
                    shown.append((len(shown), prompt))
        objects = []
        for index, phrase in phrases:
            for number, thing in enumerate(self.script.things.get(phrase, [])):
                place = thing.path(frame.index)
                if place is not None:
                    key = f"{phrase} {number}"
                    objects.append(self._track(key, index, place, thing.score, (height, width)))
        for number, _ in shown:
            place = (number, 0, number + 8, 8)
            objects.append(
                self._track(f"object {number}", -1 - number, place, 1.0, (height, width))
            )
        new = self.removed - self.told_removed
        self.told_removed |= new
        return FrameTracks(
            index=frame.index,
            timestamp_s=frame.time_s,
            width=width,
            height=height,
            objects=tuple(item for item in objects if item.object_id not in self.removed),
            removed=tuple(sorted(new)),
            timings_ms={"track": 1.0},
        )

    def _track(
        self,
        key: str,
        query: int,
        place: tuple[int, int, int, int],
        score: float,
        size: tuple[int, int],
    ) -> ObjectTrack:
        object_id = self.ids.setdefault(key, len(self.ids) + 1)
        mask = np.zeros(size, dtype=bool)
        x0, y0, x1, y1 = place
        mask[y0:y1, x0:x1] = True
        rle = encode_rle(mask)
        return ObjectTrack(object_id, query, score, 0.9, rle_bbox(rle), rle, int(mask.sum()))


class _Servicer(tracker_pb2_grpc.TrackerServiceServicer):
    def __init__(self, script: StandInTracker) -> None:
        self._script = script

    async def Track(self, request_iterator, context):  # type: ignore[no-untyped-def]  # noqa: N802
        script = self._script
        script.timeouts.append(context.time_remaining())
        script.live += 1
        try:
            failure = script.failures.pop(0) if script.failures else None
            if failure is not None:
                await _fail(failure, context)
            async with Receiver(aiter(request_iterator), TRACK_FLOW) as incoming:
                async for event in _answers(script, incoming):
                    if event is grpc.StatusCode.UNAVAILABLE:
                        await context.abort(event, "the replica died")
                    response = (
                        tracker_pb2.TrackResponse() if event is None else event_to_proto(event)
                    )
                    await incoming.release(response)
                    script.sent += 1
                    yield response
                yield tracker_pb2.TrackResponse()
                await incoming.closed(60)
        except (asyncio.CancelledError, GeneratorExit):
            script.cancelled += 1
            raise
        finally:
            script.live -= 1


async def _answers(script: StandInTracker, incoming: "Receiver[tracker_pb2.TrackRequest]"):  # type: ignore[no-untyped-def]
    opening = opening_from_proto(await anext(incoming))
    script.openings.append(opening)
    session = _Session(script, opening)
    yield TrackOpened(TRACKER)
    held: list[DecodedFrame] = []
    async for request in incoming:
        step = step_from_proto(request)
        script.steps.append(step)
        if isinstance(step, PromptChange):
            session.changes.append(step)
        held += session.frames(step)
        ending = isinstance(step, MediaEnd)
        ready = held if ending else held[: len(held) - script.holds_back]
        held = held[len(ready) :]
        told = False
        for frame in ready:
            tracks = session.tracks(frame)
            if frame.index < opening.next_frame:
                continue
            if script.hold is not None:
                await script.hold.wait()
            yield tracks
            told = True
            script.answered.append(frame.index)
            if frame.index in script.die_at:
                script.die_at.remove(frame.index)
                yield grpc.StatusCode.UNAVAILABLE
                return
        if ending:
            return
        if isinstance(step, PacketGroup) and script.states and not held:
            gop = Gop.decode(step.content)
            if gop.drains:
                yield session.state(gop.first_frame + gop.frames, gop.index + 1)
                told = True
        if not told:
            yield None


async def _fail(failure: ServiceError | grpc.StatusCode, context: grpc.aio.ServicerContext) -> None:
    if isinstance(failure, grpc.StatusCode):
        await context.abort(failure, "Traceback: secret")
    status = rich_status(failure, "peer")
    context.set_trailing_metadata(trailing_metadata(status))
    await context.abort(code_of(failure), status.message)


@asynccontextmanager
async def serving_tracker(script: StandInTracker) -> AsyncIterator[str]:
    """Its address while it runs."""
    server = grpc.aio.server()
    tracker_pb2_grpc.add_TrackerServiceServicer_to_server(_Servicer(script), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield address
    finally:
        await server.stop(None)
