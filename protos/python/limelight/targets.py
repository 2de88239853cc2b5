"""What a client connects to: a gRPC target, `host:port` or any name that gRPC resolves."""

import ipaddress
import re
import socket
import urllib.parse
from collections.abc import Iterator

_LOCAL_SCHEMES = frozenset({"unix", "unix-abstract", "vsock"})
_IP_SCHEMES = frozenset({"ipv4", "ipv6"})
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_SHORT_IPV4 = re.compile(r"[0-9a-fx]+(\.[0-9a-fx]+){0,3}", re.I)

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_target(target: object) -> str:
    """The target, if it can be one.

    Raises:
        TypeError: it is not text.
        ValueError: it is empty, a URL, or has no host, or an impossible port.
    """
    if not isinstance(target, str):
        raise TypeError(f"the address must be text, HOST:PORT, not {target!r}")
    if target.lower().startswith(("http://", "https://", "grpc://", "grpcs://")):
        raise ValueError(f"the address {target!r} is a URL; write HOST:PORT")
    named = _scheme(target) == "dns" or _scheme(target) in _IP_SCHEMES
    if _scheme(target) in _LOCAL_SCHEMES or ("://" in target and not named):
        return target  # gRPC knows more schemes than are looked into here
    for host, port in _endpoints(target):
        if not host or any(char.isspace() for char in host) or "[" in host:
            raise ValueError(f"the address {target!r} names no host; write HOST:PORT")
        if port is not None and not (
            port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535 and len(port) <= 5
        ):
            raise ValueError(f"the address {target!r} has no port from 1 to 65535")
    return target


def is_local(target: str) -> bool:
    """Whether a target is on this machine: a socket file, or one of its own addresses."""
    return _scheme(target) in _LOCAL_SCHEMES or all(map(_is_own, hosts(target)))


def hosts(target: str) -> list[str]:
    """The host names or addresses of a target, without ports and brackets; none of a socket."""
    return [host for host, _ in _endpoints(target)]


def ip_address(host: str) -> IpAddress | None:
    """The address that `host` is, also in short (127.1); None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if _SHORT_IPV4.fullmatch(host):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            pass
    return None


def _scheme(target: str) -> str:
    return target.partition(":")[0].lower()


def _endpoints(target: str) -> Iterator[tuple[str, str | None]]:
    """Hosts and ports, None where there is none."""
    scheme, endpoints = _scheme(target), [target]
    if scheme == "dns" or scheme in _IP_SCHEMES:
        rest = target.partition(":")[2]
        if rest.startswith("//"):
            rest = rest[2:].partition("/")[2]
        rest = urllib.parse.unquote(rest.lstrip("/"))
        endpoints = rest.split(",") if scheme in _IP_SCHEMES else [rest]
    for endpoint in endpoints:
        if endpoint.startswith("[") and "]" in endpoint:
            host, _, port = endpoint[1:].partition("]")
            yield host, port[1:] if port else None
        elif endpoint.count(":") == 1:
            host, _, port = endpoint.partition(":")
            yield host, port
        else:  # a name, or IPv6 without brackets
            yield endpoint, None


def _is_own(host: str) -> bool:
    host = host.lower().removesuffix(".")
    if host in _LOCAL_NAMES or host.endswith(".localhost") or host == socket.gethostname().lower():
        return True
    address = ip_address(host)
    if address is None:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    if mapped.is_loopback or mapped.is_unspecified:
        return True
    # A socket can be bound to no other machine's address.
    family = socket.AF_INET if mapped.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(mapped), 0))
    except OSError:
        return False
    return True
