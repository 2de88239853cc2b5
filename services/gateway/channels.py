"""Connections to one service behind the gateway, whose pods come and go.

gRPC's `round_robin` spreads the calls of a channel over every address that a headless Service
names, and leaves those out that do not answer. It looks names up again only when a connection
breaks, though, so a channel never learns of a new pod, and it waits minutes before it tries a name
again that was unknown when it started. Therefore each channel is replaced by a fresh one now and
then: dialed first, put in the old one's place once it is connected, the old one closed after its
last call. A service behind a ClusterIP, which pins a connection to one pod, is spread the same way.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from limelight.proxies import local_options

# How often a channel's state is looked at.
_LOOK_S = 1.0
# How long a fresh channel may take to connect before it is given up.
_DIAL_S = 5.0

# A proxy that stands still, or is cut off, is noticed; what waits for it is asked of another.
# Serve's proxies bear three pings without an answer between them (gRPC's default), and gRPC sends
# hardly more than two of them, so they must not come much faster.
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    # What decides in gRPC's core, and would be a minute, whatever the line above says.
    ("grpc.http2.ping_timeout_ms", 4_000),
    # How long a new connection may take to be answered, where gRPC would wait 20 s.
    ("grpc.min_reconnect_backoff_ms", 5_000),
)

_SERVICE_CONFIG: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}


class ChannelPool:
    """Several channels to one address; each call takes the connected one with the fewest calls.

    Args:
        address: host:port, or a gRPC target such as `dns:///segmenter-pods:9000`.
        size: channels. Each has connections of its own to all addresses behind the name.
        max_message_bytes: either way.
        renew_s: age at which a channel is replaced.
    """

    def __init__(
        self, address: str, size: int, max_message_bytes: int, renew_s: float = 20.0
    ) -> None:
        self._address = address
        self._renew_s = renew_s
        self._options: list[tuple[str, int | str]] = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.max_receive_message_length", max_message_bytes),
            *_KEEPALIVE,
            ("grpc.max_reconnect_backoff_ms", 2_000),
            ("grpc.dns_min_time_between_resolutions_ms", 1_000),
            ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
            *local_options(address),
        ]
        self._channels = [self._dial() for _ in range(size)]
        self._next = 0

    @property
    def ready(self) -> bool:
        """Whether a connection stands; asks idle ones to connect."""
        connected = [channel.connected for channel in self._channels]  # all of them are asked
        return any(connected)

    @contextmanager
    def lease(self) -> Iterator[grpc.aio.Channel]:
        """The channel for one call, for as long as the call lasts."""
        channel = self._pick()
        channel.calls += 1
        try:
            yield channel.grpc
        finally:
            channel.calls -= 1
            channel.close_if_done()

    async def keep(self) -> None:
        """Replace channels as they age or fail, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for index in range(len(self._channels)):
                group.create_task(self._keep(index))

    async def close(self) -> None:
        """Close every channel, whatever runs on it."""
        await asyncio.gather(*(channel.grpc.close() for channel in self._channels))

    def _dial(self) -> "_Channel":
        return _Channel(grpc.aio.insecure_channel(self._address, options=self._options))

    def _pick(self) -> "_Channel":
        """Channels that are not connected are taken only when none is; ties go round."""
        size = len(self._channels)
        self._next = (self._next + 1) % size
        turn = [self._channels[(self._next + offset) % size] for offset in range(size)]
        connected = [channel for channel in turn if channel.connected]
        return min(connected or turn, key=lambda channel: channel.calls)

    async def _keep(self, index: int) -> None:
        # The channels of one age would all be replaced at once.
        due = time.monotonic() + self._renew_s * (index + 1) / len(self._channels)
        while True:
            await asyncio.sleep(min(_LOOK_S, self._renew_s))
            if self._channels[index].connected and time.monotonic() < due:
                continue
            fresh = self._dial()
            try:
                await asyncio.wait_for(fresh.connect(), _DIAL_S)
            except TimeoutError:
                await fresh.grpc.close()
                continue
            except asyncio.CancelledError:
                await fresh.grpc.close()
                raise
            self._channels[index], old = fresh, self._channels[index]
            old.retire()
            due = time.monotonic() + self._renew_s


class _Channel:
    """A channel and the calls on it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.grpc = channel
        self.calls = 0
        self._retired = False
        self._closing: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Asks it to connect where it is idle."""
        return self.grpc.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

    async def connect(self) -> None:
        """Wait until it is connected."""
        while not self.connected:
            state = self.grpc.get_state()
            await self.grpc.wait_for_state_change(state)

    def retire(self) -> None:
        """Close it after its last call."""
        self._retired = True
        self.close_if_done()

    def close_if_done(self) -> None:
        if self._retired and self.calls == 0 and self._closing is None:
            self._closing = asyncio.create_task(self.grpc.close())
