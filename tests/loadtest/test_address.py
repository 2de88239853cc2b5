import subprocess
import sys

import pytest

from loadtest.address import is_loopback


@pytest.mark.parametrize("address", ["127.0.0.1:50551", "127.8.9.1:1", "localhost:1", "[::1]:1"])
def test_this_machine(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address",
    ["10.0.0.1:1", "0.0.0.0:1", "example.com:443", "localhost.example.com:1", "127.0.0.1.nip:1"],
)
def test_others(address: str) -> None:
    assert not is_loopback(address)


def test_the_command_refuses_others() -> None:
    run = subprocess.run(
        (sys.executable, "-m", "loadtest", "--address", "192.0.2.1:50551"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 2
    assert "--allow-remote" in run.stderr
