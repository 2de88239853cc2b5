"""HTTP/2 by hand (https://www.rfc-editor.org/rfc/rfc9113), for what gRPC's clients do not do.

That is to open streams and never end them, to reset what was just opened, or to say nothing at all.
"""

import asyncio
import struct
from collections import defaultdict
from dataclasses import dataclass, field

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
CANCEL, ENHANCE_YOUR_CALM = 0x8, 0xB
MAX_FRAME = 16_384
_INITIAL_WINDOW = 65_535
_MAX_CONCURRENT_STREAMS = 0x3


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def header_block(path: str, **more: str) -> bytes:
    """HPACK (RFC 7541, 6.2.2) of a call's headers: literals without an index."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "limelight",
        "te": "trailers",
        "content-type": "application/grpc",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())


def _text(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127
    return bytes([len(data)]) + data


@dataclass
class Connection:
    """A connection that reads what comes and sends what it is told to.

    Attributes:
        ended: streams that the server has ended, by trailers or a reset.
        headers: payloads of the HEADERS frames that came, by stream.
        goaway: the error code of the server's GOAWAY; None: none came.
        closed: whether the server has closed the connection.
        pongs: answers to pings.
        max_streams: what the server's settings allow at once.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ended: set[int] = field(default_factory=set)
    headers: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    goaway: int | None = None
    closed: bool = False
    pongs: int = 0
    max_streams: int = 2**31
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    _window: int = _INITIAL_WINDOW
    _initial: int = _INITIAL_WINDOW
    _windows: dict[int, int] = field(default_factory=dict)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _next: int = 1
    _reading: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, address: str, source: str = "") -> "Connection":
        """Connect, from the address `source` if it is given, and wait for the server's settings.

        Raises OSError, where it takes nobody.
        """
        host, _, port = address.rpartition(":")
        local = (source, 0) if source else None
        connection = cls(*await asyncio.open_connection(host, int(port), local_addr=local))
        connection.writer.write(PREFACE + frame(SETTINGS, 0, 0))
        connection._reading = asyncio.create_task(connection._read())
        await connection.settled.wait()
        return connection

    def begin(self, block: bytes) -> int:
        """Open a stream; its number."""
        stream, self._next = self._next, self._next + 2
        self._windows[stream] = self._initial
        self.writer.write(frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def reset(self, stream: int, error: int = CANCEL) -> None:
        """Give a stream up."""
        self.writer.write(frame(RST_STREAM, 0, stream, struct.pack(">I", error)))

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.writer.write(frame(PING, 0, 0, bytes(8)))

    async def send(self, stream: int, data: bytes) -> int:
        """Send data as the windows let it, until the stream or the connection is over; the bytes
        that went.
        """
        sent = 0
        while sent < len(data) and stream not in self.ended and not self.closed:
            room = min(self._window, self._windows[stream], MAX_FRAME, len(data) - sent)
            if room <= 0:
                self._moved.clear()
                await self._moved.wait()
                continue
            self.writer.write(frame(DATA, 0, stream, data[sent : sent + room]))
            self._window -= room
            self._windows[stream] -= room
            sent += room
            try:
                await self.writer.drain()
            except OSError:
                break
        return sent

    async def over(self) -> None:
        """Until the server has closed the connection."""
        if self._reading is not None:
            await self._reading

    async def close(self) -> None:
        """Close it from this side."""
        if self._reading is not None:
            self._reading.cancel()
        self.writer.close()

    async def _read(self) -> None:
        try:
            while True:
                head = await self.reader.readexactly(9)
                length = int.from_bytes(head[:3], "big")
                stream = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
                payload = await self.reader.readexactly(length)
                self._take(head[3], head[4], stream, payload)
        except (OSError, EOFError):
            pass
        finally:
            self.closed = True
            self.settled.set()
            self._moved.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self._settle(payload)
        elif kind == PING and not flags & ACK:
            self.writer.write(frame(PING, ACK, 0, payload))
        elif kind == PING:
            self.pongs += 1
        elif kind == WINDOW_UPDATE:
            grown = int.from_bytes(payload, "big")
            if stream:
                self._windows[stream] = self._windows.get(stream, self._initial) + grown
            else:
                self._window += grown
        elif kind == HEADERS:
            self.headers[stream].append(payload)
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        if kind == RST_STREAM or (kind in {DATA, HEADERS} and flags & END_STREAM):
            self.ended.add(stream)
        self._moved.set()

    def _settle(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == _MAX_CONCURRENT_STREAMS:
                self.max_streams = value
            elif name == 0x4:
                for stream in self._windows:
                    self._windows[stream] += value - self._initial
                self._initial = value
        self.writer.write(frame(SETTINGS, ACK, 0))
        self.settled.set()
