"""Floods of calls and resets, over real gRPC: each call is answered or refused with a reason, and
those who have nothing to do with it notice nothing but the time it takes.
"""

import asyncio
from collections import Counter

import grpc
import pytest

from limelight.v1 import limelight_pb2, limelight_pb2_grpc
from services.gateway.app import Gateway
from services.gateway.settings import Settings
from tests.conftest import wait_until
from tests.gateway.conftest import Ask, make_settings
from tests.gateway.door.frames import Connection, header_block
from tests.gateway.door.scale import CALLS, FULL, RESETS, SEGMENT
from tests.gateway.peers import Peers, detection
from tests.rpc.faults import fault_of

_TIMEOUT_S = 100.0


@pytest.fixture
def settings(peers: Peers) -> Settings:
    peers.things["thing"] = [detection(0, 0, 10, 10)]
    return make_settings(peers, max_in_flight=128 if FULL else 32)


async def _outcome(
    stub: limelight_pb2_grpc.LimelightServiceStub, request: limelight_pb2.SegmentRequest
) -> str:
    try:
        await stub.Segment(request, timeout=_TIMEOUT_S)
    except grpc.aio.AioRpcError as error:
        return fault_of(error).reason
    return "OK"


@pytest.mark.parametrize("connections", [1, 8, 64])
async def test_a_burst_is_answered_or_refused_with_a_reason(
    gateway: Gateway, ask: Ask, connections: int
) -> None:
    request = limelight_pb2.SegmentRequest(task=ask.phrases("thing"))
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [
        grpc.aio.insecure_channel(gateway.address, options=options) for _ in range(connections)
    ]
    stubs = [limelight_pb2_grpc.LimelightServiceStub(channel) for channel in channels]
    await asyncio.gather(*(channel.channel_ready() for channel in channels))
    outcomes = Counter(
        await asyncio.gather(*(_outcome(stubs[n % connections], request) for n in range(CALLS)))
    )
    assert set(outcomes) <= {"OK", "OVERLOADED"}
    assert outcomes["OK"]
    await asyncio.gather(*(channel.close() for channel in channels))


async def test_resets_leave_others_untouched(
    gateway: Gateway, stub: limelight_pb2_grpc.LimelightServiceStub, ask: Ask
) -> None:
    request = limelight_pb2.SegmentRequest(task=ask.phrases("thing"))
    attacker = await Connection.open(gateway.address)
    block = header_block(SEGMENT)

    async def flood() -> None:
        for number in range(RESETS):
            attacker.reset(attacker.begin(block))
            if number % 2000 == 0:
                await attacker.writer.drain()

    others = [asyncio.create_task(_outcome(stub, request)) for _ in range(3)]
    await flood()
    for _ in range(10):
        others.append(asyncio.create_task(_outcome(stub, request)))
        await asyncio.sleep(0)
    assert set(await asyncio.gather(*others)) == {"OK"}
    value = gateway.metrics.registry.get_sample_value
    labels = {
        "grpc_type": "unary",
        "grpc_service": "limelight.v1.LimelightService",
        "grpc_method": "Segment",
        "grpc_code": "CANCELLED",
    }
    await wait_until(lambda: (value("grpc_server_handled_total", labels) or 0) > 1000)
    await attacker.close()
