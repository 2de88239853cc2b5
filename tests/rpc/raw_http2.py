"""A client that speaks HTTP/2 byte by byte, to say what no gRPC library would (RFC 9113, RFC 7541).

Just enough for one unary call: headers as literals without indexing, one DATA frame, and the
answer's headers read where they are literals, which is how gRPC's server writes a status's.
"""

import asyncio
import struct
from collections.abc import Sequence

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes((kind, flags))
        + struct.pack(">I", stream)
        + payload
    )


def _number(value: int, bits: int) -> bytes:
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((value,))
    out = bytearray((limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes((*out, value))


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + _number(len(name), 7) + name + _number(len(value), 7) + value


async def unary(
    address: str, path: str, message: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> list[tuple[int, bytes]]:
    """The frames (kind, payload) that answer one call, up to the stream's end or the
    connection's.
    """
    host, _, port = address.rpartition(":")
    reading, writing = await asyncio.open_connection(host, int(port))
    block = b"".join(
        _literal(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", address.encode()),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            *headers,
        )
    )
    body = b"\0" + struct.pack(">I", len(message)) + message
    writing.write(
        _PREFACE
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, body)
    )
    frames: list[tuple[int, bytes]] = []
    try:
        while True:
            head = await reading.readexactly(9)
            length = int.from_bytes(head[:3], "big")
            kind, flags = head[3], head[4]
            payload = await reading.readexactly(length)
            if kind == _SETTINGS and not flags & _ACK:
                writing.write(_frame(_SETTINGS, _ACK, 0))
            elif kind == _PING and not flags & _ACK:
                writing.write(_frame(_PING, _ACK, 0, payload))
            elif kind in (_DATA, _HEADERS, _RST_STREAM, _GOAWAY):
                frames.append((kind, payload))
                if kind in (_RST_STREAM, _GOAWAY) or flags & _END_STREAM:
                    return frames
    except asyncio.IncompleteReadError:
        return frames
    finally:
        writing.close()
