"""Free ports on the loopback interface, where every part of a local stack listens."""

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"

# Ports below are known services'; those from the first of the second on, outgoing connections'.
_LEAST = 10_240
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_USUAL_EPHEMERAL = 32_768
_END = 65_536


def is_free(port: int) -> bool:
    """Whether nothing listens on the port, on loopback or on all interfaces."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Choose distinct ports that are free now, and that the system gives to no connection.

    One that it gives to outgoing connections may be taken before the server that it is for binds
    it, and Ray opens hundreds while it starts.
    """
    # Where connections may have nearly any, so may these.
    first = _first_ephemeral()
    listening = range(_LEAST, first if first >= 2 * _LEAST else _END)
    chosen: list[int] = []
    for port in random.sample(listening, len(listening)):
        if len(chosen) == count:
            break
        if is_free(port):
            chosen.append(port)
    return chosen


def _first_ephemeral() -> int:
    """The lowest port that outgoing connections are given."""
    try:
        return int(_EPHEMERAL.read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        return _USUAL_EPHEMERAL


def reserve(host: str, port: int) -> socket.socket:
    """Hold a port for processes of this user that share it by SO_REUSEPORT, and for nobody else.

    The socket never listens, so no connection comes to it: it keeps the port while none of them
    runs. Port 0: any that is free.

    Raises:
        OSError: the port is taken, or the host is not this machine's.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    held = socket.socket(family, kind, protocol)
    try:
        # Connections that wait for their last packets do not count.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(address)
        # Only now, so that it is not bound where others share a port already.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError:
        held.close()
        raise
    return held


def preferred(port: int) -> int:
    """`port` if it is free, else 0, which stands for any port."""
    return port if port and is_free(port) else 0
