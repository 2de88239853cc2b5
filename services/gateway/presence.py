"""Whether a service behind the gateway has a replica that answers.

Ray Serve queues calls for a deployment whose replicas are all gone, and says nothing: callers would
wait until their deadlines. So while calls wait and none is answered, the gateway asks the service
for a sign of life, which costs a replica nothing. Without one it counts as away: new calls are
refused at once, with a time to come again, until a sign comes. Calls that wait already go on
waiting, as long as their callers allow: a replica may be starting.

Nothing is asked while nobody waits, so that a service that is scaled to nothing stays so.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from services.errors import Reason, ServiceError, Unavailable

logger = logging.getLogger(__name__)


class Presence:
    """Watches one service by its calls.

    Args:
        name: of the service, for messages.
        reason: of the refusal.
        probe: ends when a replica has given a sign of life; raises `ServiceError` otherwise.
        silence_s: how long calls may wait without any answer before a sign is asked for, and how
            long the sign may take.
    """

    def __init__(
        self,
        name: str,
        reason: Reason,
        probe: Callable[[float], Awaitable[None]],
        silence_s: float,
    ) -> None:
        self._name = name
        self._reason = reason
        self._probe = probe
        self._silence_s = silence_s
        self._waiting = 0
        self._heard_at = 0.0
        self._watching: asyncio.Task[None] | None = None
        self.away = False

    @contextmanager
    def waiting(self) -> Iterator[Callable[[], None]]:
        """A call that waits for an answer; call what this yields when one comes.

        Raises:
            Unavailable: the service is away.
        """
        if self.away:
            raise Unavailable(
                self._reason,
                f"no replica of the {self._name} answers",
                retry_after_s=self._silence_s,
            )
        if self._waiting == 0:
            self._heard_at = time.monotonic()  # silence counts from when there is one who waits
        self._waiting += 1
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        try:
            yield self._heard
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Ask nothing more."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        if self.away:
            logger.info("peer is back", extra={"fields": {"peer": self._name}})
            self.away = False

    async def _watch(self) -> None:
        """Until nobody waits and the service is there."""
        while self._waiting or self.away:
            quiet = time.monotonic() - self._heard_at
            if quiet < self._silence_s:
                await asyncio.sleep(self._silence_s - quiet)
                continue
            asked_at = time.monotonic()
            try:
                await self._probe(self._silence_s)
            except ServiceError as error:
                if self._heard_at <= asked_at and not self.away:
                    fields = {"peer": self._name, "error": str(error)}
                    logger.warning("peer is away", extra={"fields": fields})
                    self.away = True
                # A probe that fails at once must not be repeated at once.
                await asyncio.sleep(max(0.0, asked_at + self._silence_s / 5 - time.monotonic()))
            else:
                self._heard()
