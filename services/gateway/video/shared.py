"""Streams that another gateway can go on with: their checkpoints in Redis or Valkey.

A stream is one hash under the digest of its token: who owns it, its config, the client's changes,
and a few checkpoints, so that there is one before any frame that the client may lack. Every write
and every claim is a script that looks at the owner first: a gateway whose stream was claimed learns
so at its next write and lets go of it. A key lives as long after its last write as its token is
good for.

Nothing waits for the server. While it is away streams go on, and only their resumption elsewhere is
lost; that is logged once and told by `limelight_shared_state_up`.
"""

import asyncio
import hashlib
import logging
import time
import uuid
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from limelight.convert.prompts import change_from_proto
from limelight.faults import InvalidRequest
from limelight.internal.v1 import stream_pb2
from limelight.v1 import video_pb2
from services.gateway.metrics import GatewayMetrics
from services.gateway.settings import Settings
from services.gateway.video.opening import StreamOpener
from services.gateway.video.reading import CHANGE
from services.gateway.video.store import MemoryStore, unknown_stream
from services.gateway.video.stream import TrackStream

logger = logging.getLogger(__name__)

# Of what is written; a gateway leaves alone what another version wrote.
VERSION = b"1"
# Between two checkpoints of a stream.
EVERY_S = 0.25
# Between two tries while the server is away.
AWAY_S = 1.0
_TIMEOUT_S = 2.0
_PREFIX = "limelight:stream:"

# KEYS: the stream. ARGV: owner, milliseconds to live, names to delete (their number first), and
# then names and values. 0: it is another's.
_WRITE = """
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner and owner ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
local gone = tonumber(ARGV[3])
for at = 4, 3 + gone do redis.call('HDEL', KEYS[1], ARGV[at]) end
for at = 4 + gone, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""
# ARGV: the claimant, milliseconds to live, tenant, version. Who owned it and all of it, or nothing.
_CLAIM = """
local known = redis.call('HMGET', KEYS[1], 'owner', 'tenant', 'version')
if not known[1] or known[2] ~= ARGV[3] or known[3] ~= ARGV[4] then return false end
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {known[1], redis.call('HGETALL', KEYS[1])}
"""
# ARGV: owner.
_DROP = """
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""


@dataclass(frozen=True, slots=True)
class SharedRecord:
    """What is kept of one stream: who had it, and every field of its hash."""

    owner: bytes
    fields: dict[bytes, bytes]


class SharedServer:
    """The server, as far as streams need it; tells in logs and metrics whether it is there."""

    def __init__(self, settings: Settings, metrics: GatewayMetrics) -> None:
        self.owner = uuid.uuid4().hex.encode()
        """This gateway."""
        self._live_ms = round(settings.resume_s * 1000)
        self._metrics = metrics
        self._up: bool | None = None
        self._redis = Redis.from_url(
            settings.redis_url,
            password=settings.redis_password.get_secret_value() or None,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
        )
        self._write = self._redis.register_script(_WRITE)
        self._claim = self._redis.register_script(_CLAIM)
        self._drop = self._redis.register_script(_DROP)

    async def write(
        self, token: str, fields: dict[bytes, bytes], gone: list[bytes] | None = None
    ) -> bool | None:
        """Write `fields` and delete those that are `gone`; None: the server is away.

        False: the stream is another gateway's, and nothing was written.
        """
        gone = gone or []
        pairs = [part for pair in fields.items() for part in pair]
        arguments = [self.owner, self._live_ms, len(gone), *gone, *pairs]
        answer = await self._ask(self._write, token, arguments)
        return None if answer is None else bool(answer[0])

    async def claim(self, token: str, tenant: str) -> SharedRecord | None:
        """Make a tenant's stream this gateway's own; None: there is none, or no server."""
        arguments = [self.owner, self._live_ms, tenant, VERSION]
        answer = await self._ask(self._claim, token, arguments)
        if answer is None or answer[0] is None:
            return None
        owner, flat = answer[0]
        return SharedRecord(owner, dict(zip(flat[::2], flat[1::2], strict=True)))

    async def drop(self, token: str) -> None:
        """Keep nothing of a stream of this gateway."""
        await self._ask(self._drop, token, [self.owner])

    @property
    def up(self) -> bool:
        """Whether it answered when it was last asked."""
        return self._up is not False

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _ask(self, script: Any, token: str, arguments: list[Any]) -> tuple[Any] | None:
        key = _PREFIX + hashlib.sha256(token.encode()).hexdigest()
        try:
            async with asyncio.timeout(2 * _TIMEOUT_S):
                answer = await script(keys=[key], args=arguments)
        except (RedisError, OSError, TimeoutError) as error:
            self._tell(False, error)
            return None
        self._tell(True)
        return (answer,)

    def _tell(self, up: bool, error: Exception | None = None) -> None:
        self._metrics.shared_state_up.set(up)
        if up is self._up:
            return
        if error is not None:
            fields = {"error": str(error) or type(error).__name__}
            logger.warning(
                "shared state is away: streams cannot go on at another gateway",
                extra={"fields": fields},
            )
        elif self._up is False:
            logger.info("shared state is back")
        self._up = up


class SharedJournal:
    """Writes one stream's checkpoints and changes, in a task of its own.

    Args:
        server: where to.
        stream: whose; it is told when it is another gateway's.
        fields: what is the same in every write.
        settings, metrics: of the gateway.
    """

    def __init__(
        self,
        server: SharedServer,
        stream: TrackStream,
        fields: dict[bytes, bytes],
        settings: Settings,
        metrics: GatewayMetrics,
    ) -> None:
        self._server = server
        self._stream = stream
        self._fields = fields
        self._beat_s = settings.resume_s / 3
        self._most_bytes = settings.shared_stream_bytes
        self._metrics = metrics
        self._waiting: dict[bytes, bytes] = {}
        self._written: deque[tuple[int, int]] = deque()
        """Next frame and size of the checkpoints that are there or wait, oldest first."""
        self._gone: list[bytes] = []
        self._last_s = -EVERY_S
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last_s >= EVERY_S and not self._task.done()

    def checkpoint(self, next_frame: int, content: bytes, given_up: int) -> None:
        self._last_s = time.monotonic()
        if len(content) > self._most_bytes:
            self._metrics.shared_writes.labels("too_large").inc()
            return
        name = b"checkpoint:%d" % next_frame
        if self._written and self._written[-1][0] == next_frame:
            self._written.pop()
        self._written.append((next_frame, len(content)))
        self._waiting[name] = content
        # The oldest that is kept is before every frame that may be asked for.
        while len(self._written) > 1 and (
            self._written[1][0] <= given_up + 1
            or sum(size for _, size in self._written) > self._most_bytes
        ):
            old = b"checkpoint:%d" % self._written.popleft()[0]
            self._waiting.pop(old, None)
            self._gone.append(old)
        self._wake.set()

    def change(self, number: int, change: video_pb2.PromptChange) -> None:
        self._waiting[b"change:%d" % number] = change.SerializeToString()
        self._wake.set()

    def stop(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            waiting, self._waiting = self._waiting, {}
            gone, self._gone = self._gone, []
            written = await self._server.write(
                self._stream.token, {**self._fields, **waiting}, gone
            )
            if written is None:
                self._waiting = waiting | self._waiting
                self._gone = gone + self._gone
                self._metrics.shared_writes.labels("failed").inc()
                await asyncio.sleep(AWAY_S)
                continue
            if not written:
                self._metrics.shared_writes.labels("lost").inc()
                self._stream.disown()
                return
            self._metrics.shared_writes.labels("written").inc()
            if not self._waiting:
                self._wake.clear()
                # Written again in any case, so that it lives on and a claim is noticed.
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._beat_s):
                        await self._wake.wait()


class SharedStore:
    """Keeps streams in this process, and what another gateway needs of them on the server.

    Args:
        memory: keeps them here.
        server: keeps their checkpoints.
        opener: makes those that come from elsewhere.
        settings, metrics: of the gateway.
    """

    def __init__(
        self,
        memory: MemoryStore,
        server: SharedServer,
        opener: StreamOpener,
        settings: Settings,
        metrics: GatewayMetrics,
    ) -> None:
        self._memory = memory
        self._server = server
        self._opener = opener
        self._settings = settings
        self._metrics = metrics

    def begin(self, stream: TrackStream, config: video_pb2.TrackConfig) -> None:
        """Write down a stream that begins here, or goes on here."""
        fields = {
            b"version": VERSION,
            b"tenant": stream.tenant.encode(),
            b"config": config.SerializeToString(),
        }
        stream.journal = SharedJournal(self._server, stream, fields, self._settings, self._metrics)

    async def put(self, stream: TrackStream) -> None:
        await self._memory.put(stream)

    async def take(self, token: str, tenant: str, next_frame: int) -> TrackStream:
        record = await self._server.claim(token, tenant)
        if record is None:
            # Away, or it forgot: what is here is nobody else's as far as anyone knows.
            return await self._memory.take(token, tenant, next_frame)
        if record.owner == self._server.owner:
            # Unless it is not here any more, as when too many were kept.
            with suppress(InvalidRequest):
                return await self._memory.take(token, tenant, next_frame)
        stream = self._restored(token, tenant, next_frame, record.fields)
        self._memory.discard(token)
        self._metrics.streams_resumed.labels("gateway").inc()
        return stream

    async def forget(self, stream: TrackStream) -> None:
        stream.journal.stop()
        await self._server.drop(stream.token)

    async def close(self) -> None:
        await self._memory.close()
        await self._server.close()

    def _restored(
        self, token: str, tenant: str, next_frame: int, fields: dict[bytes, bytes]
    ) -> TrackStream:
        """Raises `InvalidRequest` (STREAM_UNKNOWN) if it cannot go on with `next_frame`."""
        try:
            config = video_pb2.TrackConfig.FromString(fields[b"config"])
            found = _numbered(fields, b"checkpoint:")
            before = [number for number in found if number <= next_frame]
            stream = self._opener.open(token, tenant, config)
            if before:
                content = found[max(before)]
                stream.restore(stream_pb2.StreamCheckpoint.FromString(content), next_frame)
            elif found or next_frame:
                raise unknown_stream()
            for number, change in sorted(_numbered(fields, b"change:").items()):
                if number > stream.changes:
                    message = video_pb2.PromptChange.FromString(change)
                    stream.change(change_from_proto(message, CHANGE))
        except (KeyError, ValueError, DecodeError) as error:
            logger.warning("a stream of another gateway cannot be read: %r", error)
            raise unknown_stream() from error
        self.begin(stream, config)
        return stream


def _numbered(fields: dict[bytes, bytes], prefix: bytes) -> dict[int, bytes]:
    return {
        int(name.removeprefix(prefix)): value
        for name, value in fields.items()
        if name.startswith(prefix)
    }
