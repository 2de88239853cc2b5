"""Channels to one address: spread, replaced, and closed after their last call."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc
import pytest

from services.gateway import channels
from services.gateway.channels import ChannelPool, _Channel
from services.local.ports import free_ports
from tests.conftest import Until
from tests.gateway.door.frames import ACK, SETTINGS, frame
from tests.rpc.echo import RPCS, EchoRequest, EchoResponse, add_EchoServiceServicer_to_server
from tests.rpc.echo_server import EchoServer, serving

ECHO = RPCS["Unary"].path


@asynccontextmanager
async def kept(pool: ChannelPool) -> AsyncIterator[ChannelPool]:
    keeping = asyncio.create_task(pool.keep())
    try:
        yield pool
    finally:
        keeping.cancel()
        await asyncio.wait({keeping})
        await pool.close()


async def ask(pool: ChannelPool) -> str:
    with pool.lease() as channel:
        call = channel.unary_unary(
            ECHO,
            request_serializer=EchoRequest.SerializeToString,
            response_deserializer=EchoResponse.FromString,
        )
        return (await call(EchoRequest(text="a"))).text


async def test_calls_go_to_every_address_of_the_name(until: Until) -> None:
    servers = [EchoServer(), EchoServer()]
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(serving(server)) for server in servers]
        pool = ChannelPool(f"ipv4:{','.join(addresses)}", 1, 1 << 20)
        stack.push_async_callback(pool.close)
        await until(lambda: pool.ready)

        async def both() -> None:
            while not all(server.metadata for server in servers):
                await ask(pool)

        await asyncio.wait_for(both(), 60)


@pytest.mark.parametrize(
    "variable", ["grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"]
)
@pytest.mark.parametrize("form", ["{}", "ipv4:{}", "dns:///{}"])
async def test_a_service_on_this_machine_is_reached_past_a_proxy(
    monkeypatch: pytest.MonkeyPatch, until: Until, variable: str, form: str
) -> None:
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    async with serving(EchoServer()) as address:
        pool = ChannelPool(form.format(address), 2, 1 << 20)
        await until(lambda: pool.ready)
        assert await ask(pool)
        await pool.close()


async def test_a_channel_that_is_not_connected_is_left_alone(until: Until) -> None:
    async with serving(EchoServer()) as address:
        pool = ChannelPool(address, 3, 1 << 20)
        await until(lambda: all(channel.connected for channel in pool._channels))
        await pool._channels[1].grpc.close()
        pool._channels[1] = _Channel(grpc.aio.insecure_channel("127.0.0.1:1"))
        pool._channels[1].calls = -1  # the fewest
        assert [await ask(pool) for _ in range(6)] == ["a"] * 6
        await pool.close()


async def test_ties_go_round() -> None:
    pool = ChannelPool("127.0.0.1:1", 3, 1 << 20)
    taken = []
    for _ in range(6):
        with pool.lease() as channel:
            taken.append(channel)
    assert len(set(taken)) == 3
    assert taken[:3] == taken[3:]
    await pool.close()


async def test_calls_under_way_are_counted() -> None:
    pool = ChannelPool("127.0.0.1:1", 2, 1 << 20)
    with pool.lease() as first, pool.lease() as second, pool.lease() as third:
        assert first is not second
        assert third in (first, second)
    await pool.close()


async def test_an_address_that_comes_late_is_found(until: Until) -> None:
    port = free_ports(1)[0]
    async with kept(ChannelPool(f"127.0.0.1:{port}", 2, 1 << 20)) as pool:
        assert not pool.ready
        grpc_server = grpc.aio.server()
        add_EchoServiceServicer_to_server(EchoServer(), grpc_server)
        grpc_server.add_insecure_port(f"127.0.0.1:{port}")
        await grpc_server.start()
        await until(lambda: pool.ready)
        assert await ask(pool) == "a"
        await grpc_server.stop(None)


@asynccontextmanager
async def mute_peer() -> AsyncIterator[str]:
    """A peer that begins HTTP/2 as a server should, and then says nothing: its address."""
    opened: list[asyncio.StreamWriter] = []

    async def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.append(writer)
        writer.write(frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
        while await reader.read(1 << 16):
            pass

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
        for writer in opened:
            writer.close()


async def test_a_call_at_a_peer_that_stands_still_ends(
    monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    settings = dict(channels._KEEPALIVE)
    assert settings["grpc.keepalive_time_ms"] + settings["grpc.http2.ping_timeout_ms"] <= 15_000
    monkeypatch.setattr(channels, "_KEEPALIVE", tuple((key, 300) for key in settings))
    async with mute_peer() as mute:
        pool = ChannelPool(mute, 1, 1 << 20)
        await until(lambda: pool.ready)
        with pytest.raises(grpc.aio.AioRpcError) as lost:
            await asyncio.wait_for(ask(pool), 60)
        assert lost.value.code() is grpc.StatusCode.UNAVAILABLE
        await pool.close()


async def test_an_old_channel_is_replaced_and_closed_after_its_last_call(until: Until) -> None:
    server = EchoServer()
    server.hold = asyncio.Event()
    async with serving(server) as address:
        pool = ChannelPool(address, 1, 1 << 20, renew_s=0.05)
        old = pool._channels[0]
        async with kept(pool):
            under_way = asyncio.create_task(ask(pool))
            await until(lambda: bool(server.metadata))
            await until(lambda: pool._channels[0] is not old)
            assert old.connected  # it still carries the call
            server.hold.set()
            assert await under_way == "a"
            await until(lambda: old._closing is not None and old._closing.done())
            assert await ask(pool) == "a"


async def test_a_channel_stays_while_no_other_can_be_had(until: Until) -> None:
    async with kept(ChannelPool("127.0.0.1:1", 1, 1 << 20, renew_s=0.05)) as pool:
        only = pool._channels[0]
        await asyncio.sleep(0.2)
        assert pool._channels[0] is only


async def test_a_service_elsewhere_is_reached_as_grpc_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A cluster that names its proxies in upper case alone was set up for direct connections."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    pool = ChannelPool("dns:///planner-pods:9000", 1, 1 << 20)
    assert not any("proxy" in name for name, _ in pool._options)
    await pool.close()
