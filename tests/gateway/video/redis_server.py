"""A real Redis of a test's own, on a Unix socket, that can be ended and started again."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """The server of `folder`; it keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self._socket = folder / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """For `redis_url`."""
        return f"unix://{self._socket}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert PROGRAM is not None
        options = ["--port", "0", "--unixsocket", str(self._socket), "--save", "", "--appendonly"]
        self._process = subprocess.Popen(
            [PROGRAM, *options, "no"], stdout=subprocess.DEVNULL, cwd=self._socket.parent
        )
        end = time.perf_counter() + 60
        while not self._answers():
            assert self._process.poll() is None
            assert time.perf_counter() < end
            time.sleep(0.01)

    def stop(self) -> None:
        """End it, and with it what it knows."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(5)
                client.connect(os.fspath(self._socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """One that runs, until the block ends."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.stop()
