"""Which proxy a channel goes through: none to this machine, the environment's to any other.

gRPC alone sends loopback through a proxy as well, which a proxy on another machine cannot reach,
and reads fewer variables than other programs do. For clients, `proxy_options` decides in its place.
"""

import ipaddress
import urllib.request
from dataclasses import dataclass, field

from limelight.targets import hosts, ip_address, is_local

# In the order of precedence; each is read as NAME_proxy, or else NAME_PROXY.
_VARIABLES = ("grpc", "https", "http", "all")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy of the environment.

    Attributes:
        url: with its user and password, if it has them.
        variable: which variable names it ("https_proxy").
    """

    url: str = field(repr=False)
    variable: str

    def __str__(self) -> str:
        """Where it is and which variable says so; the user and the password are left out."""
        # Not `urlsplit`, which takes what follows a slash in a password for a path.
        host = self.url.partition("://")[2].rpartition("@")[2].partition("/")[0]
        return f"http://{host} ({self.variable})"


def proxy_for(target: str) -> Proxy | None:
    """The proxy that the environment names for a gRPC target; None for a direct connection.

    A proxy of another kind than ``http://`` is passed over: gRPC speaks to no other.
    """
    if is_local(target):
        return None
    named = urllib.request.getproxies_environment()
    for exceptions in (named.get("no_grpc"), named.get("no")):
        if exceptions is not None:
            if all(_excepted(host, exceptions) for host in hosts(target)):
                return None
            break
    for name in _VARIABLES:
        url = named.get(name, "")
        if url and "://" not in url:
            url = f"http://{url}"
        if url.lower().startswith("http://"):
            return Proxy(url, f"{name}_proxy")
    return None


def proxy_options(target: str) -> tuple[tuple[str, int | str], ...]:
    """The channel arguments that make `proxy_for` true of a channel to `target`."""
    proxy = proxy_for(target)
    if proxy is None:
        return (("grpc.enable_http_proxy", 0),)
    return (("grpc.http_proxy", proxy.url),)


def local_options(target: str) -> tuple[tuple[str, int | str], ...]:
    """The channel arguments of one service to another: past any proxy on this machine.

    Elsewhere gRPC's own rules hold, by which a cluster was set up.
    """
    return (("grpc.enable_http_proxy", 0),) if is_local(target) else ()


def _excepted(host: str, exceptions: str) -> bool:
    """Whether a no_proxy list leaves out the host: by name, domain, address or network."""
    if urllib.request.proxy_bypass_environment(host, {"no": exceptions}):  # type: ignore[attr-defined]
        return True
    address = ip_address(host)
    for entry in filter(None, map(str.strip, exceptions.lower().split(","))):
        if host.lower().endswith(entry):  # as gRPC has it, whose own look cannot be turned off
            return True
        try:
            if address is not None and address in ipaddress.ip_network(entry, strict=False):
                return True
        except ValueError:
            continue
    return False
