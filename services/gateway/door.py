"""The door: what strangers may hold of the gateway before a request of theirs is whole.

gRPC's own settings bound what never reaches Python (`server_options`): connections, their silence
and pings, streams of a connection, calls that wait to be taken. What they cannot bound is here. A
call is seen as soon as its headers have come, and its message is then asked for; until that is
whole gRPC holds what came of it, up to a whole message a call, and tells nobody how much. A quota
of memory would bound it (`grpc.resource_quota`), but Python cannot make one. Therefore `Door`

- turns calls away that there is no room for before anything of their request is taken,
- ends a request that is not whole in time,
- bounds how many are not whole: the one that has taken longest makes room for the next,
- reads from the kernel how much came on the connections that have such requests, and turns those of
  the fullest away when it is too much in sum, or too much of one address
  (`services.gateway.addresses`). Where the kernel does not tell, each counts as the largest message
  there may be.

Every refusal has a reason, and a time to come again where that helps.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from services.errors import Idle, Reason, ServiceError
from services.gateway.addresses import AddressBounds
from services.gateway.admission import Admission
from services.gateway.arrivals import Arrivals
from services.gateway.lanes import Shed
from services.gateway.metrics import GatewayMetrics
from services.gateway.received import ReceivedBytes, plain
from services.gateway.refusals import RefusalPacer
from services.gateway.settings import Settings
from services.rpc.calls import current_call
from services.rpc.metadata import CallContext

# How often the bytes of unfinished requests are looked at, while there are any.
_LOOK_S = 0.05
# A request that has come for so long may be given up for another one.
_PATIENCE_S = 1.0
_FULL = "requests that are not whole fill the memory set aside"
# How soon to come again for whom there was no room.
_RETRY_S = 1.0
# Calls that gRPC keeps until they are taken, before it turns some away, and then all. It does so
# without a reason, so this is far more than `max_connection_streams` let through in an honest
# burst; a call takes some 8 kB.
_PENDING, _MOST_PENDING = 16_384, 32_768


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """gRPC's own bounds; docs/limits.md tells what a client notices of each."""
    return [
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        # Streams that were reset count until Python has let go of them, which bounds what a flood
        # of resets costs the others. A client keeps what is over the bound until there is room.
        ("grpc.max_concurrent_streams", settings.max_connection_streams),
        ("grpc.server.max_pending_requests", _PENDING),
        # How long such a call may wait, seconds; its own deadline ends it before.
        ("grpc.server_max_unrequested_time_in_server", 3600),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
        # From the connection to the client's first settings: then a mute one is closed.
        ("grpc.server_handshake_timeout_ms", round(settings.handshake_s * 1000)),
        ("grpc.max_connection_idle_ms", round(settings.connection_idle_s * 1000)),
        # A message nobody has asked for yet gets 64 KiB of window, however fast the network is.
        ("grpc.http2.bdp_probe", 0),
        # A peer that a network has cut off is noticed, and its sockets are given back.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.ping_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # Pings that come faster than that, twice, end the connection (ENHANCE_YOUR_CALM). Clients
        # ask whether the gateway stands still every 6 s (`limelight.channels`).
        ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
        ("grpc.http2.max_ping_strikes", 2),
    ]


@dataclass(eq=False, slots=True)
class _Read:
    """A message that was asked for and is not whole."""

    peer: str
    began: float
    tenant: str
    timer: asyncio.Timeout | None = None
    fault: ServiceError | None = None

    def give_up(self, fault: ServiceError) -> None:
        """End it with `fault`."""
        if self.fault is None and self.timer is not None:
            self.fault = fault
            self.timer.reschedule(asyncio.get_running_loop().time())


@dataclass(eq=False, slots=True)
class _Wire:
    """A connection that has, or had, such messages.

    Attributes:
        base: bytes that came and are no longer held, since the connection began.
        held: bytes that are held, as they were last looked at.
        reads: the messages.
    """

    base: int = 0
    held: int = 0
    reads: set[_Read] = field(default_factory=set)


class Door:
    """The requests of one event loop that are not whole; an `Entrance` of `services.rpc`.

    Args:
        settings: the bounds.
        metrics: where refusals and what is held are counted.
        admission: knows whether any call has a place.
        arrivals: is told of calls.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: GatewayMetrics,
        admission: Admission,
        arrivals: Arrivals,
    ) -> None:
        self._upload_s = settings.upload_s
        self._max_uploads = settings.max_uploads
        self._max_bytes = settings.max_upload_bytes
        self._max_message = settings.max_message_bytes
        self._metrics = metrics
        self._admission = admission
        self._arrivals = arrivals
        self._addresses = AddressBounds(settings)
        self._refusals = RefusalPacer(settings.refusal_share)
        self._uploads: dict[_Read, None] = {}  # in the order they came
        self._wires: dict[str, _Wire] = {}  # by peer, the one that was used last at the end
        # Connections that have closed are not told from quiet ones; both are forgotten in time.
        self._max_wires = 2 * settings.max_connections
        self._received = ReceivedBytes()
        self._held = 0
        self._busy = asyncio.Event()

    @property
    def uploads(self) -> int:
        """Requests that are not whole."""
        return len(self._uploads)

    @property
    def held_bytes(self) -> int:
        """Bytes of messages that are not whole, as they were last looked at."""
        return self._held

    def place(self, call: CallContext, peer: str) -> AbstractContextManager[None]:
        """Hold a place among the calls of its address. Raises `Overloaded` if it has too many."""
        return self._place(call, peer) if self._addresses.count_calls else nullcontext()

    @contextmanager
    def _place(self, call: CallContext, peer: str) -> Iterator[None]:
        with ExitStack() as held:
            try:
                held.enter_context(self._addresses.place(plain(peer)))
            except Shed as shed:
                self._count(shed.why, call.caller.tenant)
                raise
            yield

    def check(self, call: CallContext) -> None:
        """Raises a `ServiceError` for a call that is turned away before its request is taken."""
        self._arrivals.came()
        self._admission.check_room(call.caller, call.deadline, call.priority)

    async def whole(self, messages: AsyncIterator[Any], peer: str) -> Any:
        """The only message of a call from `peer`, as soon as it is whole.

        Raises:
            StopAsyncIteration: the client sends none.
            Idle: it was not whole in time.
            Overloaded: others needed its place; with a time to come again.
        """
        read = _read(peer)
        self._make_room(read)
        self._uploads[read] = None
        try:
            return await self._next(read, messages, self._upload_s)
        finally:
            del self._uploads[read]

    async def each(self, messages: AsyncIterator[Any], peer: str) -> AsyncIterator[Any]:
        """The messages of a stream, whose pauses are for its handler to judge.

        Raises:
            Overloaded: as `whole`.
        """
        while True:
            try:
                message = await self._next(_read(peer), messages, None)
            except StopAsyncIteration:
                return
            yield message

    async def before_refusal(self, call: CallContext) -> None:
        """Wait until `call` may be told that there is no room, or no time, for it."""
        await self._refusals.turn(call.deadline)

    async def keep(self) -> None:
        """Look at what is held, until cancelled."""
        while True:
            await self._busy.wait()
            await asyncio.sleep(_LOOK_S)
            self._look()
            if not self._held and not any(wire.reads for wire in self._wires.values()):
                self._busy.clear()

    async def _next(
        self, read: _Read, messages: AsyncIterator[Any], patience_s: float | None
    ) -> Any:
        wire = self._enter(read)
        size = None
        try:
            async with asyncio.timeout(patience_s) as read.timer:
                message = await anext(messages)
            size = message.ByteSize() if hasattr(message, "ByteSize") else 0
            return message
        except TimeoutError:
            if read.timer is None or not read.timer.expired():
                raise
            raise read.fault or Idle(
                Reason.STREAM_IDLE, f"the request was not whole after {patience_s:g} s"
            ) from None
        finally:
            self._leave(read, wire, size)

    def _enter(self, read: _Read) -> "_Wire":
        wire = self._wires.pop(read.peer, None) or _Wire()
        self._wires[read.peer] = wire  # the last one now
        if not wire.reads and self._received.known(read.peer):
            wire.base = self._received.of({read.peer}).get(read.peer, wire.base)
        wire.reads.add(read)
        if len(self._wires) > self._max_wires:
            self._forget_one()
        self._busy.set()
        return wire

    def _leave(self, read: _Read, wire: "_Wire", size: int | None) -> None:
        """A message of `size` bytes came, or none (None)."""
        if size is None:
            size = wire.held // len(wire.reads)
        wire.reads.discard(read)
        wire.base += size
        wire.held = max(0, wire.held - size)

    def _forget_one(self) -> None:
        """Forget the connection that was quiet for longest."""
        for peer, wire in self._wires.items():
            if not wire.reads:
                del self._wires[peer]
                return

    def _look(self) -> None:
        reading = {peer: wire for peer, wire in self._wires.items() if wire.reads}
        counts = self._received.of(set(reading))
        for peer, wire in reading.items():
            if self._received.supported:
                count = counts.get(peer, wire.base)
                # Messages that came compressed must not count for more than what came.
                wire.base = min(wire.base, count)
                wire.held = count - wire.base
            else:
                wire.held = len(wire.reads) * self._max_message
        self._shed_addresses(reading)
        held = sum(wire.held for wire in reading.values())
        for wire in sorted(reading.values(), key=lambda wire: wire.held, reverse=True):
            if held <= self._max_bytes:
                break
            held -= wire.held
            for read in wire.reads:
                read.give_up(self._shed("upload_bytes", _FULL, read.tenant))
        self._held = held
        self._metrics.upload_bytes.set(held)
        self._metrics.uploads.set(len(self._uploads))

    def _shed_addresses(self, reading: dict[str, _Wire]) -> None:
        """Give up what those addresses send that hold too much together."""
        overfull = self._addresses.overfull({peer: wire.held for peer, wire in reading.items()})
        for peer, fault in overfull.items():
            for read in reading[peer].reads:
                if read.fault is None:
                    read.give_up(self._shed("address_upload_bytes", fault, read.tenant))

    def _make_room(self, newest: _Read) -> None:
        """Raises `Overloaded` where no request has come for long enough to be given up."""
        count = len(self._uploads)
        if count < self._max_uploads:
            return
        message = f"{count} requests are not whole"
        oldest = next((read for read in self._uploads if read.fault is None), None)
        if oldest is None or newest.began - oldest.began < _PATIENCE_S:
            raise self._shed("uploads", message, newest.tenant)
        oldest.give_up(self._shed("uploads", message, oldest.tenant))

    def _shed(self, why: str, message: str, tenant: str) -> Shed:
        self._count(why, tenant)
        return Shed(why, message, _RETRY_S)

    def _count(self, why: str, tenant: str) -> None:
        self._metrics.shed.labels(why).inc()
        self._metrics.tenant_shed.labels(tenant, why).inc()


def _read(peer: str) -> _Read:
    return _Read(plain(peer), time.monotonic(), current_call().caller.tenant)
