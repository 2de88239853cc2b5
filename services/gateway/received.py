"""How many bytes have come on a connection, which gRPC tells nobody before a message is whole.

The kernel counts them (`tcpi_bytes_received` of TCP_INFO, RFC 4898's
`tcpEStatsAppHCThruOctetsReceived`; Linux 4.1 and later). The socket is gRPC's: it is found among
the process's own by the peer's address, looked at through a duplicate, and left alone.
"""

import os
import socket
import struct
from urllib.parse import unquote

# Where struct tcp_info (linux/tcp.h) has tcpi_bytes_received: after eight bytes, 24 u32, three u64.
_OFFSET = 8 + 24 * 4 + 3 * 8
_MAPPED = "::ffff:"
_FDS = "/proc/self/fd"


class ReceivedBytes:
    """Reads the kernel's count for the connections of this process, by gRPC's name of the peer."""

    def __init__(self) -> None:
        self._fds: dict[str, int] = {}
        self.supported = hasattr(socket, "TCP_INFO") and os.path.isdir(_FDS)
        """Whether this system tells."""

    def known(self, peer: str) -> bool:
        """Whether `of` would look no further than the peer's own socket."""
        return peer in self._fds

    def of(self, peers: set[str]) -> dict[str, int]:
        """Bytes that came from each of `peers` (`ipv4:10.0.0.7:50312`) since it connected.

        Peers whose connection is closed, or whose bytes the kernel does not count, are left out.
        """
        counts = {peer: self._read(peer) for peer in peers}
        if any(count is None for count in counts.values()):
            self._fds = _sockets()
            counts = {
                peer: self._read(peer) if count is None else count for peer, count in counts.items()
            }
        return {peer: count for peer, count in counts.items() if count is not None}

    def _read(self, peer: str) -> int | None:
        fd = self._fds.get(peer)
        if fd is None:
            return None
        try:
            with _duplicate(fd) as held:
                if _name(held) != peer:  # closed since, and its number given to another
                    del self._fds[peer]
                    return None
                info = held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _OFFSET + 8)
        except (OSError, AttributeError):
            del self._fds[peer]
            return None
        return None if len(info) < _OFFSET + 8 else int(struct.unpack_from("=Q", info, _OFFSET)[0])


def plain(peer: str) -> str:
    """gRPC's name of a peer, without its escapes: `ipv6:[::1]:50312`."""
    return unquote(peer)


def _sockets() -> dict[str, int]:
    """This process's connected TCP sockets, by peer."""
    found: dict[str, int] = {}
    try:
        numbers = [int(name) for name in os.listdir(_FDS)]
    except OSError:
        return found
    for number in numbers:
        try:
            if not os.readlink(f"{_FDS}/{number}").startswith("socket:"):
                continue
            with _duplicate(number) as held:
                name = _name(held)
        except OSError:
            continue
        if name:
            found[name] = number
    return found


def _duplicate(fd: int) -> socket.socket:
    copy = os.dup(fd)
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise


def _name(held: socket.socket) -> str:
    """The peer as gRPC names it; empty for what is not TCP over IP."""
    if held.type != socket.SOCK_STREAM or held.family not in {socket.AF_INET, socket.AF_INET6}:
        return ""
    host, port = held.getpeername()[:2]
    if held.family == socket.AF_INET or host.startswith(_MAPPED):
        return f"ipv4:{host.removeprefix(_MAPPED)}:{port}"
    return f"ipv6:[{host}]:{port}"
