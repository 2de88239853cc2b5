"""`TrackVideo`, call by call: admit -> read -> work on the stream -> answer, and keep what was cut.

A call reads its client's messages, works on its stream and writes what the stream has to say, all
at the same time. When it ends before its stream does, the stream is kept for the next call.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress

from limelight.faults import InvalidRequest, Reason
from limelight.v1 import video_pb2
from services.errors import Cancelled, DeadlinePassed, Idle, ServiceError, Unavailable
from services.gateway.admission import Admission
from services.gateway.settings import Settings
from services.gateway.video.intake import Intake
from services.gateway.video.opening import StreamOpener
from services.gateway.video.reading import CONFIG
from services.gateway.video.rules import TrackRules
from services.gateway.video.store import StreamStore, unknown_stream
from services.gateway.video.stream import TrackStream
from services.rpc.metadata import CallContext

logger = logging.getLogger(__name__)

Request = video_pb2.TrackVideoRequest
Response = video_pb2.TrackVideoResponse
Requests = AsyncIterator[Request]

# How often progress is told.
PROGRESS_S = 1.0
# Ends of a call after which its stream may go on within another.
_CUT = (Unavailable, DeadlinePassed, Idle, Cancelled)


class TrackCalls:
    """All calls of `TrackVideo`.

    Args:
        rules: for changes.
        admission: holds the streams' places.
        store: keeps the streams that were cut.
        opener: makes streams.
        settings: of the gateway.
    """

    def __init__(
        self,
        rules: TrackRules,
        admission: Admission,
        store: StreamStore,
        opener: StreamOpener,
        settings: Settings,
    ) -> None:
        self._rules = rules
        self._admission = admission
        self._store = store
        self._opener = opener
        self._metrics = opener.tools.metrics
        self._settings = settings
        self._calls: dict[str, _TrackCall] = {}
        """Those that work on a stream, by its token."""

    async def answer(self, requests: Requests, call: CallContext) -> AsyncIterator[Response]:
        """The responses to one call's requests. Raises `ServiceError`."""
        requests = aiter(requests)
        config = await self._config(requests)
        if config.resume_token:
            await self._let_go(config.resume_token, call.caller.tenant)
        with self._admission.admit_stream(call.caller, call.deadline, call.priority):
            stream = await self._stream(config, call)
            took = self._metrics.media_bytes.labels("in").inc
            running = _TrackCall(stream, requests, call, self._rules, self._settings, took)
            self._calls[stream.token] = running
            try:
                responses = running.responses(resumed=bool(config.resume_token))
                async with aclosing(responses):  # type: ignore[type-var]
                    async for response in responses:
                        yield response
            finally:
                try:
                    await running.end()
                finally:
                    await self._release(running)

    async def drain(self, after_s: float) -> None:
        """End the calls that are still there `after_s` from now; returns when none is left."""
        ends = [asyncio.ensure_future(running.ended.wait()) for running in self._calls.values()]
        if ends:
            await asyncio.wait(ends, timeout=after_s)
        for end in ends:
            end.cancel()
        for running in list(self._calls.values()):
            running.fail(
                Unavailable(Reason.DRAINING, "the server is shutting down", retry_after_s=1.0)
            )

    async def close(self) -> None:
        """Keep no stream any more."""
        await self._store.close()

    async def _config(self, requests: Requests) -> video_pb2.TrackConfig:
        """The first message."""
        wait_s = self._settings.stream_idle_s
        try:
            async with asyncio.timeout(wait_s):
                first = await anext(requests, None)
        except TimeoutError:
            raise Idle(Reason.STREAM_IDLE, f"no config came for {wait_s:g} s") from None
        if first is None or first.WhichOneof("step") != "config":
            raise InvalidRequest(
                Reason.MESSAGE_INVALID, "the first message must be the config", field=CONFIG
            )
        return first.config

    async def _let_go(self, token: str, tenant: str) -> None:
        """End a call that still works on the stream: its client is here and not there any more."""
        running = self._calls.get(token)
        if running is not None and running.stream.tenant == tenant:
            running.cancel()
            await running.ended.wait()

    async def _stream(self, config: video_pb2.TrackConfig, call: CallContext) -> TrackStream:
        tenant = call.caller.tenant
        if not config.resume_token:
            stream = self._opener.open(secrets.token_urlsafe(24), tenant, config)
            self._store.begin(stream, config)
            return stream
        if config.next_frame < 0:
            raise InvalidRequest(
                Reason.OPTION_INVALID,
                f"next_frame must be 0 or more, not {config.next_frame}",
                field=CONFIG / "next_frame",
            )
        if config.resume_token in self._calls:
            raise unknown_stream()  # a third call was quicker
        stream = await self._store.take(config.resume_token, tenant, config.next_frame)
        self._metrics.streams_resumed.labels("client").inc()
        return stream

    async def _release(self, running: "_TrackCall") -> None:
        stream = running.stream
        del self._calls[stream.token]
        fields = {"frames": stream.frames, "resumed": stream.resumed, "kept": running.cut}
        logger.info("a call of a video ended", extra={"fields": fields})
        if stream.disowned:
            stream.close()
        elif running.cut:
            await self._store.put(stream)
        else:
            stream.close()
            await self._store.forget(stream)
        running.ended.set()


class _TrackCall:
    """One call that works on one stream."""

    def __init__(
        self,
        stream: TrackStream,
        requests: Requests,
        call: CallContext,
        rules: TrackRules,
        settings: Settings,
        took: Callable[[int], None],
    ) -> None:
        self.stream = stream
        self.ended = asyncio.Event()
        self.cut = True
        """Whether the stream may go on within another call."""
        self._requests = requests
        self._call = call
        self._settings = settings
        self._started = False
        self._resumed = False
        self._progress_due = False
        self._writing_since: float | None = None
        self._handler: asyncio.Task[object] | None = None
        self._work: asyncio.Task[None] | None = None
        self._intake = Intake(
            stream.task.live,
            stream.source,
            rules,
            changed=stream.change,
            granted=stream.outbox.grant,
            half_closed=stream.outbox.lift,
            took=took,
            owing=stream.outbox.poke,
        )

    async def responses(self, resumed: bool) -> AsyncIterator[Response]:
        """What goes to the client, to the end."""
        self._resumed = resumed
        self._handler = asyncio.current_task()
        self._work = asyncio.create_task(self._run())
        try:
            async for message in self.stream.outbox.messages(self._besides):
                message.credits = self._intake.owed()
                self._writing_since = time.monotonic()
                yield message
                self._writing_since = None
        except Cancelled:
            raise
        except ServiceError:
            await self._intake.settle()
            raise
        self._intake.drop()
        await self._intake.settle()

    def fail(self, error: Exception) -> None:
        """End the call with `error`."""
        self.cut = isinstance(error, _CUT)
        self.stream.outbox.fail(error)

    def cancel(self) -> None:
        """End the call though its client may not hear of it."""
        if self._handler is not None:
            self._handler.cancel()

    async def end(self) -> None:
        """Stop whatever still works."""
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work

    def _besides(self) -> Response | None:
        """What is said between the stream's own messages."""
        if not self._started:
            self._started = True
            return self._opening()
        if self._progress_due:
            self._progress_due = False
            return Response(progress=self.stream.progress())
        if self._intake.owes:
            return Response()
        return None

    def _opening(self) -> Response:
        stream = self.stream
        first = stream.outbox.first_frame
        return Response(
            started=video_pb2.TrackStarted(
                request_id=self._call.request_id,
                resume_token=stream.token,
                resume_s=self._settings.resume_s,
                media_bytes=stream.source.media_bytes if self._resumed else 0,
                next_frame=stream.unseen_frame if first is None else first,
            )
        )

    async def _run(self) -> None:
        """Everything but writing, until the call is ended; the first fault ends it."""
        reading = asyncio.create_task(self._intake.read(self._requests))
        working = {
            asyncio.create_task(part)
            for part in (
                self._intake.refuse(),
                self._intake.feed(),
                self.stream.run(self._call),
                self._watch(),
            )
        }
        parts = {reading, *working}
        try:
            while parts:
                done, parts = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
                for part in done:
                    if part.cancelled():  # gRPC's way of saying that the client is gone
                        raise Cancelled()
                    part.result()
        except Exception as error:
            self._intake.drop()
            await _ended(working)
            self.fail(error)
            await asyncio.wait({reading})
        finally:
            await _ended({reading, *working})

    async def _watch(self) -> None:
        """Tell the progress, and look whether the client is still there."""
        idle_s = self._settings.stream_idle_s
        waiting_since: float | None = None
        while True:
            await asyncio.sleep(min(PROGRESS_S, idle_s / 4))
            now = time.monotonic()
            self._progress_due = True
            self.stream.outbox.poke()
            waits = self.stream.outbox.waits_for_credits or (
                self.stream.source.starving and self._intake.hungry
            )
            waiting_since = (waiting_since or now) if waits else None
            if waiting_since and now - max(waiting_since, self._intake.heard_at) > idle_s:
                message = f"nothing came from the client for {idle_s:g} s"
                raise Idle(Reason.STREAM_IDLE, message)
            writing_since = self._writing_since
            if writing_since and now - max(writing_since, self._intake.heard_at) > idle_s:
                self.cancel()  # it takes nothing, not even an error


async def _ended(tasks: "set[asyncio.Task[None]]") -> None:
    """Cancel what still runs, and wait for its end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
