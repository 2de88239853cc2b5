"""A connection that can be cut as a network cuts one: nothing passes, and nobody is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Relay:
    """Passes bytes on between its clients and `target`, until it is cut."""

    def __init__(self, target: str) -> None:
        self.redirect(target)
        self._passing: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.address = ""

    def drop(self) -> None:
        """Reset every connection; new ones are taken."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def redirect(self, target: str) -> None:
        """Pass new connections on to another `target`."""
        self._host, _, port = target.rpartition(":")
        self._port = int(port)

    def cut(self) -> None:
        """Pass nothing more; every socket stays open, and no end and no reset is sent."""
        for task in self._passing:
            task.cancel()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client's connection."""
        try:
            upstream = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers += [writer, upstream[1]]
        for source, sink in ((reader, upstream[1]), (upstream[0], writer)):
            self._passing.add(asyncio.create_task(_pass_on(source, sink)))


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while content := await source.read(1 << 16):
            sink.write(content)
            await sink.drain()
        sink.close()


@asynccontextmanager
async def relaying(target: str) -> AsyncIterator[Relay]:
    """A relay to `target` (host:port), on a free loopback port."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.take, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        relay.cut()
        server.close()
