"""A clock that is set for some processes alone, and what a client makes of it."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from loadtest.chaos.clock import NoWallClock, put_file_forward, settable_clock
from tests.client.stand_in import StandIn, serving

# Says what its clocks say when it is told to.
_TELLER = """
import sys, time
for _ in sys.stdin:
    print(time.time(), time.monotonic(), flush=True)
"""
# One call, which is held until the clock has jumped, and one with a deadline that must still hold.
_CALLER = """
import sys, threading
from limelight import Client, LimelightError
with Client(sys.argv[1]) as client:
    print(len(client.segment(b"x", phrases=["dog"], timeout=600).instances), flush=True)
    sys.stdin.readline()
    try:
        client.segment(b"x", phrases=["dog"], timeout=1.0)
    except LimelightError as error:
        print(error.code.name, flush=True)
"""


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """The setting of a clock that can be compiled here."""
    try:
        with settable_clock(tmp_path):
            assert os.environ["LD_PRELOAD"]
    except NoWallClock as exc:
        pytest.skip(str(exc))
    assert "LIMELIGHT_CLOCK_FILE" not in os.environ
    return tmp_path / "clock"


def started(clock: Path, *arguments: str) -> "subprocess.Popen[str]":
    with settable_clock(clock.parent):
        return subprocess.Popen(
            [sys.executable, "-c", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )


def told(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_the_wall_clock_jumps_and_the_monotonic_does_not(clock: Path) -> None:
    with started(clock, _TELLER) as process:

        def now() -> tuple[float, float]:
            tell(process)
            wall, monotonic = told(process).split()
            return float(wall), float(monotonic)

        try:
            for jump in (3600.0, -7200.0):
                wall, monotonic = now()
                put_file_forward(clock, jump)
                later_wall, later_monotonic = now()
                passed = later_monotonic - monotonic
                assert 0 <= passed < 600
                assert later_wall - wall == pytest.approx(jump + passed, abs=1.1)
        finally:
            process.kill()


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clients_deadlines_are_none_of_the_wall_clocks(clock: Path, jump: float) -> None:
    service = StandIn()
    service.gate = threading.Event()
    with serving(service) as address, started(clock, _CALLER, address) as process:
        try:
            assert service.called.wait(60)
            put_file_forward(clock, jump)
            service.gate.set()
            assert told(process) == "2", "a call under way is answered"
            service.gate.clear()
            tell(process)
            assert told(process) == "DEADLINE_EXCEEDED", "neither at once nor in an hour"
            assert len(service.tasks) == 2
        finally:
            process.kill()
