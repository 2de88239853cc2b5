"""A real gateway before scripted peers, and clients that track videos."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest

from limelight.v1 import limelight_pb2_grpc, video_pb2
from services.gateway.settings import Settings
from tests.codecs.videos.clips import X264, Clip
from tests.gateway.conftest import make_settings, written
from tests.gateway.peers import Peers
from tests.gateway.video.tracker import StandInTracker, Thing, always, serving_tracker

Stub = limelight_pb2_grpc.LimelightServiceStub
Request = video_pb2.TrackVideoRequest
Response = video_pb2.TrackVideoResponse


@pytest.fixture
async def tracker() -> AsyncIterator[StandInTracker]:
    """Two dogs that walk and a cat that sits."""
    script = StandInTracker()
    script.things = {
        "dog": [
            Thing(lambda frame: (frame % 40, 4, frame % 40 + 10, 14)),
            Thing(lambda frame: (50, 30, 62, 50), 0.8),
        ],
        "cat": [Thing(always(70, 40, 80, 60), 0.85)],
    }
    async with serving_tracker(script) as address:
        script.address = address  # type: ignore[attr-defined]
        yield script


@pytest.fixture
def settings(peers: Peers, tracker: StandInTracker) -> Settings:
    return make_track_settings(peers, tracker)


def make_track_settings(peers: Peers, tracker: StandInTracker, **changes: object) -> Settings:
    return make_settings(peers, tracker_address=tracker.address, **changes)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def clip() -> bytes:
    """48 frames of 96 x 64 in four closed GOPs."""
    return Clip(frames=48, codec_options=X264 | {"bf": "0"}).make()


def long_clip() -> bytes:
    """A file that can be read as it comes: 240 frames in 60 GOPs, more than a session takes."""
    return Clip("matroska", frames=240, codec_options=X264 | {"bf": "0", "g": "4"}).make()


def large_clip() -> bytes:
    """480 frames of noise, 37 MiB."""
    noise = np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    return Clip(
        "matroska",
        "mjpeg",
        480,
        (320, 240),
        "yuvj420p",
        codec_options={"qmin": "1", "qmax": "1"},
        source=[noise] * 480,
    ).make()


def config(*phrases: str, **fields: object) -> video_pb2.TrackConfig:
    """A config of explicit phrases, or of what `fields` say."""
    made = video_pb2.TrackConfig(**fields)  # type: ignore[arg-type]
    for phrase in phrases:
        made.queries.include.add(phrase=phrase)
    return made


@dataclass
class Client:
    """One call of `TrackVideo`, message by message, as the contract asks of a client."""

    stub: Stub
    config: video_pb2.TrackConfig
    events: list[Response] = field(default_factory=list)
    room: int = 8
    timeout: float | None = None

    def __post_init__(self) -> None:
        self.call = self.stub.TrackVideo(timeout=self.timeout)

    async def write(self, request: Request) -> None:
        """Send one message, or nothing where the call has ended: its reader learns why."""
        await written(self.call, request)

    async def start(self) -> video_pb2.TrackStarted:
        """Send the config, and wait for the answer to it."""
        await self.write(Request(config=self.config))
        return (await self.next("started")).started

    async def send(self, content: bytes, size: int = 4096, *, end: bool = True) -> None:
        """Send a file in chunks, each when there is a credit for it."""
        for at in range(0, len(content), size):
            while self.room == 0:
                await self.read()
            self.room -= 1
            await self.write(Request(chunk=content[at : at + size]))
        if end:
            await self.end()

    async def end(self) -> None:
        await self.write(Request(media_end=True))

    async def read(self) -> Response | None:
        """The next response; None after the last. Raises what the call ends with."""
        response = await self.call.read()
        if response is grpc.aio.EOF:
            await self.check()
            return None
        self.room += response.credits
        if response.WhichOneof("event") not in (None, "progress"):
            self.events.append(response)
        return response

    async def check(self) -> None:
        """Raise what the call ended with, if it failed."""
        if await self.call.code() is not grpc.StatusCode.OK:
            # `code` tells no details; waiting for a message does.
            raise grpc.aio.AioRpcError(
                await self.call.code(),
                await self.call.initial_metadata(),
                await self.call.trailing_metadata(),
                details=await self.call.details(),
            )

    async def next(self, kind: str) -> Response:
        """The next event of this kind; those before it are in `events`."""
        while (response := await self.read()) is not None:
            if response.WhichOneof("event") == kind:
                return response
        raise AssertionError(f"the call ended without {kind}")

    async def rest(self) -> None:
        """Everything to the end."""
        while await self.read() is not None:
            pass

    def frames(self) -> list[video_pb2.TrackedFrame]:
        return [event.frame for event in self.events if event.WhichOneof("event") == "frame"]

    def indices(self) -> list[int]:
        return [frame.frame_index for frame in self.frames()]

    def kinds(self) -> list[str]:
        return [str(event.WhichOneof("event")) for event in self.events]

    @property
    def summary(self) -> video_pb2.TrackSummary:
        assert self.events[-1].WhichOneof("event") == "summary"
        return self.events[-1].summary


async def track(stub: Stub, content: bytes, wanted: video_pb2.TrackConfig) -> Client:
    """A whole call."""
    client = Client(stub, wanted)
    await client.start()
    await client.send(content)
    await client.rest()
    return client


def ids(frames: Sequence[video_pb2.TrackedFrame]) -> dict[int, list[int]]:
    """The ids in each frame."""
    return {frame.frame_index: [item.object_id for item in frame.instances] for frame in frames}


async def fill(client: Client, content: bytes) -> int:
    """Send a file by MiB until no credits come for it; how many were sent."""
    for sent, at in enumerate(range(0, len(content), 2**20)):
        while client.room == 0:
            if not await _granted(client):
                return sent
        await client.write(Request(chunk=content[at : at + 2**20]))
        client.room -= 1
    raise AssertionError("all of it was taken")


async def _granted(client: Client) -> bool:
    """Wait for credits, or until progress was told three times without any: three seconds."""
    times = 0
    while times < 3 and client.room == 0:
        response = await client.read()
        assert response is not None
        times += response.WhichOneof("event") == "progress"
    return client.room > 0
