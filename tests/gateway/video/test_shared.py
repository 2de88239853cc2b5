"""Streams that go on at another gateway: two real gateways, the tracker itself, a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from redis.asyncio import Redis

from limelight.convert.prompts import change_to_proto
from limelight.v1 import limelight_pb2_grpc, video_pb2
from limelight.values import AddQuery, ConceptQuery, Plan, PromptChange, SelectBy, Selection
from services.gateway.app import Gateway, start
from tests.conftest import Until
from tests.gateway.conftest import make_settings
from tests.gateway.peers import Peers
from tests.gateway.video.conftest import Client, Request, Stub, config, ids, track
from tests.gateway.video.engine import InProcessReplica, serving_engine
from tests.gateway.video.redis_server import PROGRAM, RedisServer, redis_server
from tests.gateway.video.test_resuming import reason_of
from tests.gateway.video.test_vanishing import send_live
from tests.tracker.clips import demuxed

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="needs redis-server or valkey-server")

FRAMES = 120
FIELDS = {"frame_window": 8}


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def replica() -> AsyncIterator[InProcessReplica]:
    async with serving_engine() as serving:
        yield serving


@dataclass
class Door:
    """One gateway, and a client's way to it."""

    gateway: Gateway
    stub: Stub

    def value(self, name: str, **labels: str) -> float:
        found = self.gateway.metrics.registry.get_sample_value(name, labels)
        assert found is not None
        return found


@asynccontextmanager
async def doors(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, count: int = 2, **changes: object
) -> AsyncIterator[list[Door]]:
    """Gateways that share state; those that are still there drain at the end."""
    async with AsyncExitStack() as opened:
        found = []
        for _ in range(count):
            settings = make_settings(
                peers,
                tracker_address=replica.address,
                redis_url=redis.url,
                **({"drain_s": 0.2} | changes),
            )
            gateway = await start(settings)
            opened.push_async_callback(gateway.drain)
            channel = grpc.aio.insecure_channel(gateway.address)
            await opened.enter_async_context(channel)
            found.append(Door(gateway, limelight_pb2_grpc.LimelightServiceStub(channel)))
        yield found


async def read_frames(client: Client, last: int) -> None:
    """Read and acknowledge frames up to the index `last`."""
    while not client.frames() or client.indices()[-1] < last:
        before = len(client.frames())
        assert await client.read() is not None
        if len(client.frames()) > before:
            await client.write(Request(credits=1))


async def finish(client: Client, content: bytes, window: int = FIELDS["frame_window"]) -> None:
    """Send what the gateway lacks, and read to the end."""
    started = await client.start()
    await client.send(content[started.media_bytes :])
    # The last ones need no credits: then the call may be over.
    await read_frames(client, FRAMES - 1 - window)
    await client.rest()


def token_of(client: Client) -> str:
    return client.events[0].started.resume_token


def resumed(client: Client, next_frame: int) -> video_pb2.TrackConfig:
    return video_pb2.TrackConfig(resume_token=token_of(client), next_frame=next_frame)


@pytest.mark.parametrize("ending", ["cut", "drained"])
async def test_a_stream_goes_on_at_another_gateway(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until, ending: str
) -> None:
    """With the same ids and boxes, no frame missing or twice, whatever became of the first."""
    content = demuxed(FRAMES).content
    wanted = config("red square", "blue square", **FIELDS)
    async with doors(peers, replica, redis) as (one, other):
        whole = Client(one.stub, wanted)
        await finish(whole, content)
        first = Client(one.stub, wanted)
        await first.start()
        await first.send(content)
        await read_frames(first, 37)
        if ending == "cut":
            first.call.cancel()
        else:
            # In a real one by SIGTERM: `tests/e2e/test_videos_serve.py`.
            draining = asyncio.create_task(one.gateway.drain())
            with pytest.raises(grpc.RpcError):
                await first.rest()
            await draining
        seen = len(first.frames())
        second = Client(other.stub, resumed(first, seen))
        await finish(second, content)
        assert second.events[0].started.resume_token == token_of(first)
        assert second.events[0].started.next_frame == seen
        assert second.indices() == list(range(seen, FRAMES))
        joined = [*first.frames(), *second.frames()]
        assert joined == whole.frames()
        assert list(second.summary.objects) == list(whole.summary.objects)
        assert second.summary.frames == FRAMES
        assert second.summary.resumed == 1
        assert other.value("limelight_streams_resumed_total", after="gateway") == 1
        assert other.value("limelight_shared_state_up") == 1
        await until(lambda: replica.idle)


async def test_the_first_gateway_lets_go_of_what_another_has_claimed(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until
) -> None:
    """And a client that goes back to it gets its stream from the other one."""
    content = demuxed(FRAMES).content
    async with doors(peers, replica, redis, resume_s=3.0) as (one, other):
        first = Client(one.stub, config("red square", frame_window=4))
        await first.start()
        await first.send(content)
        await read_frames(first, 9)
        await until(lambda: one.value("limelight_shared_writes_total", outcome="written") > 0)
        # Its call is still open: nobody told the first gateway.
        second = Client(other.stub, resumed(first, 10))
        await second.start()
        await second.send(content)
        await read_frames(second, 49)
        with pytest.raises(grpc.RpcError):
            await first.rest()
        await until(lambda: one.value("limelight_streams") == 0)
        assert one.value("limelight_shared_writes_total", outcome="lost") == 1
        assert one.value("limelight_kept_streams") == 0
        third = Client(one.stub, resumed(first, 50))
        await finish(third, content, 4)
        assert third.indices() == list(range(50, FRAMES))
        await until(lambda: other.value("limelight_streams") == 0)


async def test_only_one_of_many_claims_owns_a_stream(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until
) -> None:
    content = demuxed(FRAMES).content
    async with doors(peers, replica, redis, count=4, resume_s=3.0) as (one, *others):
        first = Client(one.stub, config("red square", **FIELDS))
        await first.start()
        await first.send(content)
        await read_frames(first, 20)
        first.call.cancel()
        clients = [Client(door.stub, resumed(first, 21)) for door in others]
        ends = await asyncio.gather(
            *(finish(client, content) for client in clients), return_exceptions=True
        )
        won = [client for client, end in zip(clients, ends, strict=True) if end is None]
        assert len(won) == 1
        assert won[0].indices() == list(range(21, FRAMES))
        lost = sum(door.value("limelight_shared_writes_total", outcome="lost") for door in others)
        assert lost == len(others) - 1


async def test_plan_choice_and_changes_go_along(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until
) -> None:
    content = demuxed(FRAMES).content
    peers.plan = Plan(
        (ConceptQuery("red square"), ConceptQuery("blue square")),
        select=Selection(SelectBy.RIGHTMOST),
    )
    async with doors(peers, replica, redis) as (one, other):
        first = Client(one.stub, config(instruction="the one on the right", **FIELDS))
        await first.start()
        await first.send(content)
        await read_frames(first, 20)
        change = PromptChange(AddQuery(ConceptQuery("white square")), at_frame=90)
        await first.write(Request(change=change_to_proto(change)))
        await read_frames(first, 30)
        first.call.cancel()
        second = Client(other.stub, resumed(first, len(first.frames())))
        await finish(second, content)
        labels = [{item.label for item in frame.instances} for frame in second.frames()]
        seen = len(first.frames())
        assert labels == [{"blue square"}] * (90 - seen) + [{"blue square", "white square"}] * 30
        assert peers.asked == ["plan"]


async def test_frames_that_were_lost_on_the_way_come_again(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until
) -> None:
    """A client that gives no credits lacks frames that were long sent: an older checkpoint has
    what is before them.
    """
    content = demuxed(FRAMES).content
    async with doors(peers, replica, redis) as (one, other):
        first = await track(one.stub, content, config("red square"))
        for lacks in (0, 55):
            second = Client(other.stub, resumed(first, lacks))
            await second.start()
            await second.send(content)
            await second.rest()
            assert second.indices() == list(range(lacks, FRAMES))
            assert second.frames() == first.frames()[lacks:]
        # The plan comes again to a client that may not have it.
        assert ("plan" in second.kinds()) is False


async def test_live_input_goes_on_with_the_first_frame_without_an_answer(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until
) -> None:
    async with doors(peers, replica, redis) as (one, other):
        first = Client(one.stub, config("red square", live=True))
        await first.start()
        for number in range(25):
            await send_live(first, 1, number)
            await first.next("frame")
        first.call.cancel()
        second = Client(other.stub, resumed(first, 25))
        started = await second.start()
        sent = sizes(25)
        # What follows the last checkpoint comes again; none of it is lost.
        again = sent.index(started.media_bytes)
        assert 0 <= again <= 25
        for number in range(again, 40):
            await send_live(second, 1, number)
            if number >= 25:
                await second.next("frame")
        await second.call.done_writing()
        await second.rest()
        assert second.indices() == list(range(25, 40))
        assert set(map(tuple, ids(second.frames()).values())) == {(1,)}


async def test_a_server_that_is_away_costs_resumption_elsewhere_and_nothing_else(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until
) -> None:
    content = demuxed(FRAMES).content
    async with doors(peers, replica, redis) as (one, other):
        redis.stop()
        first = Client(one.stub, config("red square", **FIELDS))
        await first.start()
        await first.send(content)
        await read_frames(first, 30)
        await until(lambda: one.value("limelight_shared_writes_total", outcome="failed") > 0)
        assert one.value("limelight_shared_state_up") == 0
        first.call.cancel()
        await until(lambda: one.value("limelight_kept_streams") == 1)
        seen = len(first.frames())
        assert await reason_of(other.stub, resumed(first, seen)) == "STREAM_UNKNOWN"
        second = Client(one.stub, resumed(first, seen))
        await second.start()
        await second.send(b"")
        await read_frames(second, 60)
        # It is back, and knows nothing: what is written next is enough to go on elsewhere.
        redis.start()
        await until(lambda: one.value("limelight_shared_state_up") == 1)
        await read_frames(second, 100)
        second.call.cancel()
        seen += len(second.frames())
        third = Client(other.stub, resumed(first, seen))
        await finish(third, content)
        assert third.indices() == list(range(seen, FRAMES))


async def test_a_token_is_its_tenants_and_of_this_version(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until
) -> None:
    content = demuxed(FRAMES).content
    async with doors(peers, replica, redis) as (one, other), Redis.from_url(redis.url) as store:
        first = Client(one.stub, config("red square", **FIELDS))
        await first.start()
        await first.send(content)
        await read_frames(first, 30)
        first.call.cancel()
        await until(lambda: one.value("limelight_kept_streams") == 1)
        (key,) = await store.keys("*")
        # No key and no value tells the token, which is all that a thief would need.
        whole = await store.hgetall(key)
        assert token_of(first).encode() not in b"".join([key, *whole, *whole.values()])
        assert 0 < await store.pttl(key) <= 60_000
        for name, value in (("version", "2"), ("tenant", "another")):
            before = await store.hget(key, name)
            await store.hset(key, name, value)
            assert await reason_of(other.stub, resumed(first, 31)) == "STREAM_UNKNOWN"
            await store.hset(key, name, before)
        for name in whole:
            if name.startswith(b"checkpoint:"):
                await store.hset(key, name, b"\xff\xff")
        assert await reason_of(other.stub, resumed(first, 31)) == "STREAM_UNKNOWN"


async def test_what_is_written_is_bounded(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until
) -> None:
    """For a client that never says what it has: the oldest goes, and with it a late return."""
    content = demuxed(400).content
    async with (
        doors(peers, replica, redis, shared_stream_bytes=2**16) as (one, other),
        Redis.from_url(redis.url) as store,
    ):
        first = await track(one.stub, content, config("red square"))
        (key,) = await store.keys("*")
        whole = await store.hgetall(key)
        kept = [value for name, value in whole.items() if name.startswith(b"checkpoint:")]
        assert 0 < sum(map(len, kept)) <= 2**16
        second = Client(other.stub, resumed(first, 395))
        await second.start()
        await second.send(content)
        await second.rest()
        assert second.indices() == list(range(395, 400))


async def test_a_stream_that_cannot_go_on_is_forgotten(
    peers: Peers, replica: InProcessReplica, redis: RedisServer, until: Until
) -> None:
    async with doors(peers, replica, redis, count=1) as (one,), Redis.from_url(redis.url) as store:
        client = Client(one.stub, config("red square"))
        await client.start()
        await client.send(b"\x1a\x45\xdf\xa3" + bytes(2000))
        with pytest.raises(grpc.RpcError):
            await client.rest()
        async with asyncio.timeout(60):
            while await store.keys("*"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def sizes(frames: int) -> list[int]:
    """Bytes of the live pictures before each, as `send_live` sends them."""
    from services.codecs.images import encode
    from tests.tracker.clips import picture

    found = [0]
    for number in range(frames):
        found.append(found[-1] + len(encode(picture(number), "png")))
    return found
