"""Streams that were cut, kept for a while for clients that come back.

`StreamStore` is what a call needs of one; `MemoryStore` keeps them in this process, and `shared`
besides what another gateway needs of them.
"""

import asyncio
from typing import Protocol

from limelight.faults import InvalidRequest, Reason
from limelight.v1 import video_pb2
from services.gateway.metrics import GatewayMetrics
from services.gateway.video.reading import CONFIG
from services.gateway.video.stream import TrackStream


class StreamStore(Protocol):
    """Keeps streams by their tokens."""

    def begin(self, stream: TrackStream, config: video_pb2.TrackConfig) -> None:
        """A stream begins, of this config."""

    async def put(self, stream: TrackStream) -> None:
        """Keep a stream that no call works on any more."""

    async def take(self, token: str, tenant: str, next_frame: int) -> TrackStream:
        """Give a stream back to a call of its tenant, which lacks the frames from `next_frame` on.

        Raises:
            InvalidRequest: there is none, or not with that frame (STREAM_UNKNOWN).
        """

    async def forget(self, stream: TrackStream) -> None:
        """A stream is over and cannot go on."""

    async def close(self) -> None:
        """Keep nothing any more."""


def unknown_stream() -> InvalidRequest:
    """The refusal of a token; it does not say whether there ever was such a stream."""
    return InvalidRequest(
        Reason.STREAM_UNKNOWN,
        "no stream is kept under this token; begin a new one",
        field=CONFIG / "resume_token",
    )


class MemoryStore:
    """Keeps streams in this process.

    Args:
        keep_s: for how long; then they give back what they hold.
        most: streams kept; the oldest goes first.
        metrics: where their number goes.
    """

    def __init__(self, keep_s: float, most: int, metrics: GatewayMetrics) -> None:
        self._keep_s = keep_s
        self._most = most
        self._metrics = metrics
        self._kept: dict[str, tuple[TrackStream, asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def begin(self, stream: TrackStream, config: video_pb2.TrackConfig) -> None:
        pass

    async def put(self, stream: TrackStream) -> None:
        while len(self._kept) >= self._most:
            self.discard(next(iter(self._kept)))
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._keep_s, self.discard, stream.token)
        self._kept[stream.token] = stream, timer
        self._metrics.kept_streams.set(len(self._kept))

    async def take(self, token: str, tenant: str, next_frame: int) -> TrackStream:
        found = self._kept.get(token)
        if found is None or found[0].tenant != tenant:
            raise unknown_stream()
        found[0].outbox.restart(next_frame)
        stream, timer = self._kept.pop(token)
        timer.cancel()
        self._metrics.kept_streams.set(len(self._kept))
        return stream

    async def forget(self, stream: TrackStream) -> None:
        pass

    async def close(self) -> None:
        for token in list(self._kept):
            self.discard(token)

    def discard(self, token: str) -> None:
        """Keep a stream no longer, if it is here."""
        found = self._kept.pop(token, None)
        if found is not None:
            stream, timer = found
            timer.cancel()
            stream.close()
            self._metrics.kept_streams.set(len(self._kept))
