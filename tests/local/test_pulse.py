"""A gateway that stands still is told from one that works, or has ended."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from services.local import pulse
from services.local.health import check
from services.local.ports import free_ports
from tests.conftest import wait_until


@pytest.fixture
def gateway() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process that answers for its health, and its address."""
    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.local.parts", "gateway"],
        env={**os.environ, "LIMELIGHT_GATEWAY_LISTEN": address},
    )
    yield process, address
    process.kill()
    process.wait()


async def test_what_a_signal_stopped_is_told_by_its_state(
    gateway: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, address = gateway
    told: list[str] = []
    looks = 0

    def pid() -> int:
        nonlocal looks
        looks += 1
        return process.pid

    watch = asyncio.create_task(pulse.watch_state(pid, told.append, 0.02))
    try:
        while await asyncio.to_thread(check, address) != "serving":
            assert process.poll() is None
        await wait_until(lambda: looks > 10)
        assert not told
        process.send_signal(signal.SIGSTOP)
        await wait_until(lambda: bool(told))
        assert told[0].startswith("stands still, stopped by a signal")
        # Whoever was killed for it has another pid afterwards, or none.
        process.kill()
        process.wait()
        told.clear()
        seen = looks
        await wait_until(lambda: looks > seen + 10)
        assert not told
    finally:
        watch.cancel()


async def test_only_silence_is_told(gateway: tuple[subprocess.Popen[bytes], str]) -> None:
    process, address = gateway
    told: list[str] = []
    watch = asyncio.create_task(pulse.watch(lambda: address, told.append, 0.05, 1.0))
    try:
        # Refused at first, then served: neither is silence.
        while await asyncio.to_thread(check, address) != "serving":
            assert process.poll() is None
        assert not told
        process.send_signal(signal.SIGSTOP)
        await wait_until(lambda: bool(told))
        assert told[0] == "did not answer 3 times in a row, 1 s each"
    finally:
        watch.cancel()
