"""Whether a service behind the gateway has a replica that answers.

Ray Serve queues calls for a deployment whose replicas are all gone, and says nothing: callers would
wait until their deadlines. So while calls wait and none is answered, the gateway asks the service
for a sign of life, which costs a replica nothing. Without one it counts as away: new calls are
refused at once, with a time to come again, until a sign comes. Calls that wait already go on
waiting, as long as their callers allow: a replica may be starting.

Before that, a service that answers nothing for far longer than it takes otherwise counts as
stalled: what then finds no room is not turned away because there is too much of it.

Nothing is asked while nobody waits, so that a service that is scaled to nothing stays so.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from services.errors import Reason, ServiceError, Unavailable

logger = logging.getLogger(__name__)

# Without any answer for so many seconds, and so many times as long as answers took of late, a
# service stalls. What they took is forgotten by a share with each answer.
_STALLED_S, _STALLED_SHARE, _KEPT_SHARE = 2.0, 3.0, 0.9
# Calls that fail leave gaps between them; a longer one says nothing of the service.
_GAP_S = 5.0
# When to come again then.
_STALLED_RETRY_S = 1.0


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
        self._unheard: float | None = None  # since when calls have been made without an answer
        self._left_at = 0.0
        self._usual_s = 0.0
        self._stalled_until = 0.0
        self._watching: asyncio.Task[None] | None = None
        self.away = False

    @property
    def quiet_s(self) -> float:
        """Seconds for which calls have waited, or failed, and none was answered; else 0."""
        now = time.monotonic()
        if self._unheard is None or (not self._waiting and now - self._left_at > _GAP_S):
            return 0.0
        return now - self._unheard

    def refusal(self) -> Unavailable | None:
        """What to tell every call while the service is away; None: it is not."""
        if not self.away:
            return None
        message = f"no replica of the {self._name} answers"
        return Unavailable(self._reason, message, retry_after_s=self._silence_s)

    def stalled(self) -> Unavailable | None:
        """What to tell a call that finds no room because nothing is answered; None: it is."""
        quiet_s = self.quiet_s
        if not self._is_stall(quiet_s):
            return None
        message = f"the {self._name} has answered nothing for {quiet_s:.1f} s"
        return Unavailable(self._reason, message, retry_after_s=_STALLED_RETRY_S)

    def held_up(self, since: float) -> bool:
        """Whether the service stalled after that instant of `time.monotonic()`: how long a call
        took then says nothing of how long calls take.
        """
        return since < self._stalled_until

    def _is_stall(self, quiet_s: float) -> bool:
        return quiet_s > max(_STALLED_S, _STALLED_SHARE * self._usual_s)

    @contextmanager
    def waiting(self) -> Iterator[Callable[[], None]]:
        """A call that waits for an answer; call what this yields when one comes.

        Raises:
            Unavailable: the service is away.
        """
        if (refusal := self.refusal()) is not None:
            raise refusal
        if self.quiet_s == 0.0:
            self._unheard = time.monotonic()  # silence counts from when there is one who waits
        self._waiting += 1
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        since, heard = time.monotonic(), False

        def answered() -> None:
            nonlocal since, heard
            heard = True
            self._heard()
            # Also after a stall: a service that has become slow for good must not seem to stall.
            self._usual_s = max(self._heard_at - since, self._usual_s * _KEPT_SHARE)
            since = self._heard_at

        try:
            yield answered
        finally:
            self._waiting -= 1
            self._left_at = time.monotonic()
            if heard and not self._waiting:
                self._unheard = None

    async def close(self) -> None:
        """Ask nothing more."""
        if self._watching is not None:
            self._watching.cancel()
            with suppress(asyncio.CancelledError):
                await self._watching

    def _heard(self) -> None:
        # Before the first answer, nobody knows how long one takes.
        if self._usual_s and (self.away or self._is_stall(self.quiet_s)):
            self._stalled_until = time.monotonic()
        self._heard_at = time.monotonic()
        # Those who still wait do so from now on without an answer.
        self._unheard = self._heard_at if self._waiting else None
        if self.away:
            logger.info("peer is back", extra={"fields": {"peer": self._name}})
            self.away = False

    async def _watch(self) -> None:
        """Until nobody waits and the service is there."""
        while self._waiting or self.quiet_s or self.away:
            quiet = time.monotonic() - self._heard_at if self.away else self.quiet_s
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
