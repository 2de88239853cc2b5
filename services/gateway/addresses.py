"""What the clients of one network address may hold together, where the operator bounds that.

Off unless set: behind a proxy or a mesh all clients have its address. An address of IPv6 is a /64,
which is what one client is given. gRPC tells of connections only by the calls that come on them, so
those that have none are bounded for all clients together (`services.gateway.door`).
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from ipaddress import ip_address, ip_network

from services.gateway.lanes import Shed
from services.gateway.settings import Settings

logger = logging.getLogger(__name__)

# How soon to come again for whom there was no room.
_RETRY_S = 1.0
# An address is logged once in so long, and so many are remembered.
_QUIET_S, _MOST_LOGGED = 60.0, 1024
_IPV6_PREFIX = 64


@lru_cache(4096)
def address_of(peer: str) -> str:
    """The address of gRPC's name of a peer, without its escapes: `10.0.0.7` of
    `ipv4:10.0.0.7:50312`, `2001:db8::/64` of `ipv6:[2001:db8::7]:50312`; empty for other kinds.
    """
    family, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    if family == "ipv6" and address.version == 6:
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ip_network((address, _IPV6_PREFIX), strict=False))
    return str(address)


class AddressBounds:
    """The calls of each address that are open now, in one event loop.

    Args:
        settings: the bounds, and the addresses that have none.
    """

    def __init__(self, settings: Settings) -> None:
        self._max_connections = settings.max_address_connections
        self._max_calls = settings.max_address_calls
        self._max_bytes = settings.max_address_upload_bytes
        self._free = settings.free_networks
        self._calls: dict[str, Counter[str]] = {}  # by address, then by peer
        self._logged: dict[str, float] = {}

    @property
    def count_calls(self) -> bool:
        """Whether calls are bounded, or the connections that have them."""
        return bool(self._max_calls or self._max_connections)

    @property
    def addresses(self) -> int:
        """Addresses that have open calls and are counted."""
        return len(self._calls)

    @contextmanager
    def place(self, peer: str) -> Iterator[None]:
        """Hold a place for one call from `peer`.

        Raises:
            Shed: its address has as many calls, or connections with calls, as it may.
        """
        address = self.bounded(peer)
        if not address:
            yield
            return
        calls = self._calls.get(address)
        if calls is not None:
            self._check(address, peer, calls)
        else:
            calls = self._calls[address] = Counter()
        calls[peer] += 1
        try:
            yield
        finally:
            calls[peer] -= 1
            if not calls[peer]:
                del calls[peer]
            if not calls:
                del self._calls[address]

    def overfull(self, held: dict[str, int]) -> dict[str, str]:
        """Of `held` bytes by peer: those peers whose addresses hold too much together, each with
        the fault.
        """
        if not self._max_bytes:
            return {}
        sums: Counter[str] = Counter()
        for peer, count in held.items():
            sums[self.bounded(peer)] += count
        faults = {}
        for peer in held:
            address = self.bounded(peer)
            if address and sums[address] > self._max_bytes:
                fault = f"{address} holds {sums[address]} bytes of requests that are not whole"
                self._log(address, fault)
                faults[peer] = fault
        return faults

    def bounded(self, peer: str) -> str:
        """The address of `peer` if it has bounds; else empty."""
        address = address_of(peer)
        if not address or not self._free:
            return address
        host = ip_address(address.partition("/")[0])
        return "" if any(host in network for network in self._free) else address

    def _check(self, address: str, peer: str, calls: Counter[str]) -> None:
        if self._max_calls and calls.total() >= self._max_calls:
            fault = f"{address} has {calls.total()} calls open, the most of an address"
            raise self._shed(address, "address_calls", fault)
        if self._max_connections and peer not in calls and len(calls) >= self._max_connections:
            fault = f"{address} has calls on {len(calls)} connections, the most of an address"
            raise self._shed(address, "address_connections", fault)

    def _shed(self, address: str, why: str, fault: str) -> Shed:
        self._log(address, fault)
        return Shed(why, fault, _RETRY_S)

    def _log(self, address: str, fault: str) -> None:
        now = time.monotonic()
        if now - self._logged.get(address, -_QUIET_S) >= _QUIET_S:
            if len(self._logged) >= _MOST_LOGGED:
                self._logged.clear()
            self._logged[address] = now
            logger.warning("an address is at its bound", extra={"fields": {"fault": fault}})
