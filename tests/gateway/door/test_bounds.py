"""The parts of the door, each alone: what came on a connection, and whose work waits in a burst."""

import asyncio
import logging
import socket

import pytest

from services.errors import Cancelled
from services.gateway import arrivals
from services.gateway.admission import Admission
from services.gateway.arrivals import Arrivals
from services.gateway.door import Door
from services.gateway.metrics import GatewayMetrics
from services.gateway.received import ReceivedBytes
from services.gateway.settings import Settings
from services.rpc.calls import set_current_call
from services.rpc.metadata import CallContext
from services.rpc.reporting import CallLog
from tests.conftest import Until, wait_until

_FAMILIES = [(socket.AF_INET, "127.0.0.1", "ipv4:{}:{}"), (socket.AF_INET6, "::1", "ipv6:[{}]:{}")]


@pytest.mark.parametrize(("family", "host", "name"), _FAMILIES)
async def test_the_kernel_tells_what_came(family: int, host: str, name: str) -> None:
    with socket.socket(family) as listening:
        listening.bind((host, 0))
        listening.listen()
        client = socket.create_connection(listening.getsockname()[:2])
        server, _ = listening.accept()
    peer = name.format(*client.getsockname()[:2])
    received = ReceivedBytes()
    assert not received.known(peer)
    assert received.of({peer}) == {peer: 0}
    client.sendall(bytes(1234))
    await wait_until(lambda: received.of({peer}) == {peer: 1234})
    assert received.known(peer)
    assert server.recv(10) == bytes(10)  # gRPC's socket is left alone
    server.close()
    client.close()
    assert received.of({peer}) == {}
    assert not received.known(peer)


async def test_where_the_kernel_does_not_tell_each_counts_as_the_largest() -> None:
    settings = Settings(max_message_bytes=2**20, max_upload_bytes=2 * 2**20)
    metrics = GatewayMetrics()
    door = Door(settings, metrics, Admission(9, 2**30, metrics), Arrivals())
    door._received.supported = False
    set_current_call(CallContext("job-1"))
    looking = asyncio.create_task(door.keep())
    never = asyncio.Event()

    async def messages() -> object:
        await never.wait()
        yield b""

    reads = [
        asyncio.create_task(door.whole(messages(), f"ipv4:10.0.0.{n}:1"))  # type: ignore[arg-type]
        for n in range(3)
    ]
    done, rest = await asyncio.wait(reads, return_when=asyncio.FIRST_EXCEPTION)
    assert [type(task.exception()).__name__ for task in done] == ["Shed"]
    assert door.held_bytes == 2 * 2**20
    for task in (*rest, looking):
        task.cancel()
    await asyncio.gather(*rest, looking, return_exceptions=True)
    assert door.uploads == 0


async def test_work_waits_while_calls_come_and_goes_on_after(
    monkeypatch: pytest.MonkeyPatch, until: Until
) -> None:
    monkeypatch.setattr(arrivals, "_BURST_S", 1000.0)
    monkeypatch.setattr(arrivals, "_LULL_S", 1000.0)  # until the test has seen what it must
    coming = Arrivals()
    await coming.lull()  # nobody else is here
    for _ in range(32):
        coming.came()
    work = [asyncio.create_task(coming.lull()) for _ in range(3)]
    await until(lambda: coming.waiting == 3)
    work[0].cancel()
    for _ in range(16):
        coming.came()
    await work[1]  # one for every sixteen, and none for who left
    assert coming.waiting == 1
    monkeypatch.setattr(arrivals, "_LULL_S", 0.001)
    for _ in range(16):
        coming.came()
    await work[2]
    last = asyncio.create_task(Arrivals().lull())
    await last


async def test_a_lull_lets_all_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "_BURST_S", 1000.0)
    coming = Arrivals()
    for _ in range(32):
        coming.came()
    await asyncio.gather(*(coming.lull() for _ in range(40)))
    assert coming.waiting == 0


def test_a_flood_of_resets_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log = CallLog()
    with caplog.at_level(logging.INFO):
        for _ in range(1000):
            log.ended("/a/B", Cancelled(), None, 0.0)
    assert 5 <= len(caplog.records) <= 50
