"""A gateway that stands still beside another at the same address, as `limelight up` has them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from limelight import AsyncClient, channels
from services.gateway.door import server_options
from services.gateway.settings import Settings
from services.local import ports

PICTURE = b"any bytes: the stand-in does not look"


@contextmanager
def gateway(address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that serves at a port that others share."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.local.parts", "gateway"],
        env={**os.environ, "LIMELIGHT_GATEWAY_LISTEN": address},
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout is not None
            assert b"listening" in process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_the_gateway_bears_the_pings_of_clients() -> None:
    client, server = dict(channels.OPTIONS), dict(server_options(Settings()))
    asked_ms = int(client["grpc.keepalive_time_ms"])
    assert asked_ms + int(client["grpc.http2.ping_timeout_ms"]) <= 10_000
    assert server["grpc.http2.min_ping_interval_without_data_ms"] <= asked_ms * 3 / 4


async def test_a_call_moves_on_from_a_gateway_that_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = {
        "grpc.keepalive_time_ms": 300,
        "grpc.keepalive_timeout_ms": 300,
        "grpc.http2.ping_timeout_ms": 300,
        "grpc.min_reconnect_backoff_ms": 300,
    }
    monkeypatch.setattr(channels, "OPTIONS", tuple({**dict(channels.OPTIONS), **quick}.items()))
    with ports.reserve(ports.LOOPBACK, 0) as held:
        address = f"{ports.LOOPBACK}:{held.getsockname()[1]}"
        with gateway(address) as still:
            async with AsyncClient(address) as client:
                assert await client.segment(PICTURE, phrases=["dog"], timeout=120)
                with gateway(address):
                    still.send_signal(signal.SIGSTOP)
                    # The kernel still gives it every other connection.
                    answers = await asyncio.gather(
                        *(client.segment(PICTURE, phrases=["dog"], timeout=120) for _ in range(5))
                    )
                    assert all(len(answer.instances) == 2 for answer in answers)
