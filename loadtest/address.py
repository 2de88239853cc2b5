"""Which addresses may be put under load without being asked twice."""

import ipaddress


def is_loopback(address: str) -> bool:
    """Whether `host:port` (or `[v6]:port`) is this machine and nobody else's."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
