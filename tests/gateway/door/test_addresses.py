"""Bounds of one client address, where they are set: others are answered as ever."""

import asyncio
import logging
import struct

import pytest
from pydantic import ValidationError

from services.gateway.addresses import AddressBounds, address_of
from services.gateway.lanes import Shed
from services.gateway.settings import Settings
from services.isolation.pool import Nursery
from tests.conftest import wait_until
from tests.gateway.conftest import Ask
from tests.gateway.door.frames import Connection
from tests.gateway.door.test_unfinished import BLOCK, answered, running, shed
from tests.gateway.peers import Peers

# Loopback has more addresses than the one that well-behaved clients of these tests have.
OTHER = "127.0.0.2"
MESSAGE = b"\0" + struct.pack(">I", 2**23)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:50312", "10.0.0.7"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:50312", "2001:db8:1:2::/64"),
        ("ipv6:[::ffff:10.0.0.7]:50312", "10.0.0.7"),
        ("ipv6:[fe80::1%eth0]:50312", "fe80::/64"),
        ("unix:/run/gateway", ""),
        ("", ""),
    ],
)
def test_who_shares_an_address(peer: str, address: str) -> None:
    assert address_of(peer) == address


def test_calls_and_their_connections_are_bounded_and_given_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bounds = AddressBounds(Settings(max_address_calls=3, max_address_connections=2))
    one, two, three = (f"ipv4:10.0.0.7:{port}" for port in (1, 2, 3))
    with bounds.place(one), bounds.place(two):
        with pytest.raises(Shed, match="on 2 connections") as refused, bounds.place(three):
            pass
        assert refused.value.why == "address_connections"
        assert refused.value.retry_after_s
        with bounds.place("ipv4:10.0.0.8:1"), bounds.place(one):
            with pytest.raises(Shed, match="3 calls open") as refused, bounds.place(one):
                pass
            assert refused.value.why == "address_calls"
    with bounds.place(three):
        assert bounds.addresses == 1
    assert bounds.addresses == 0
    # Once for an address, however often it comes.
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_proxies_are_not_bounded() -> None:
    free = "10.0.0.0/8, 2001:db8::/32"
    bounds = AddressBounds(
        Settings(max_address_calls=1, max_address_upload_bytes=9, free_addresses=free)
    )
    for peer in ("ipv4:10.0.0.7:1", "ipv6:[2001:db8::1]:1"):
        with bounds.place(peer), bounds.place(peer):
            assert bounds.overfull({peer: 10}) == {}
    with bounds.place("ipv4:11.0.0.7:1"), pytest.raises(Shed), bounds.place("ipv4:11.0.0.7:2"):
        pass
    with pytest.raises(ValidationError, match=r"10\.0\.0\.0\.8"):
        Settings(free_addresses="10.0.0.0.8")


def test_bytes_are_counted_for_all_connections_of_an_address() -> None:
    bounds = AddressBounds(Settings(max_address_upload_bytes=100))
    held = {"ipv4:10.0.0.7:1": 60, "ipv4:10.0.0.7:2": 50, "ipv4:10.0.0.8:1": 100}
    assert set(bounds.overfull(held)) == {"ipv4:10.0.0.7:1", "ipv4:10.0.0.7:2"}


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("address_calls", {"max_address_calls": 2}),
        ("address_connections", {"max_address_connections": 2}),
    ],
)
async def test_one_address_is_told_and_others_are_answered(
    peers: Peers, workers: Nursery, ask: Ask, why: str, changes: dict[str, object]
) -> None:
    async with running(peers, workers, **changes) as gateway:
        connections = [await Connection.open(gateway.address, OTHER) for _ in range(3)]
        streams = [each.begin(BLOCK) for each in connections[:2]]
        await wait_until(lambda: gateway._door.uploads == 2)
        last = connections[2].begin(BLOCK)
        await wait_until(lambda: last in connections[2].ended)
        told = b"".join(connections[2].headers[last])
        assert OTHER.encode() in told
        assert b"the most of an address" in told
        assert shed(gateway, why) == 1
        assert await answered(gateway, ask)
        connections[0].reset(streams[0])
        await wait_until(lambda: gateway._door.uploads == 1)
        connections[2].begin(BLOCK)
        await wait_until(lambda: gateway._door.uploads == 2)
        for each in connections:
            await each.close()


async def test_one_address_may_not_fill_the_memory(
    peers: Peers, workers: Nursery, ask: Ask
) -> None:
    async with running(peers, workers, max_address_upload_bytes=2**20) as gateway:
        connections = [await Connection.open(gateway.address, OTHER) for _ in range(3)]
        streams = [each.begin(BLOCK) for each in connections]
        data = MESSAGE + bytes(600 * 1024)
        sending = [
            asyncio.create_task(each.send(stream, data))
            for each, stream in zip(connections, streams, strict=True)
        ]
        await wait_until(lambda: shed(gateway, "address_upload_bytes") == 3)
        assert await answered(gateway, ask)
        await wait_until(
            lambda: all(
                stream in each.ended for each, stream in zip(connections, streams, strict=True)
            )
        )
        await asyncio.gather(*sending)
        for each in connections:
            await each.close()
