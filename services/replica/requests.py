"""The requests a replica works on: counted as they come and go, and let finish when it drains."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from services.errors import DeadlinePassed, Reason, Unavailable
from services.replica.metrics import ReplicaMetrics


class RequestGate:
    """Lets requests in until it closes, and knows when the last one has left."""

    def __init__(self, metrics: ReplicaMetrics) -> None:
        self._metrics = metrics
        self._closing = False
        self._ongoing = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def enter(self, stage: Callable[[], str]) -> Iterator[None]:
        """Hold a place for one request; `stage` tells where it was when its caller left.

        Raises:
            Unavailable: DRAINING, once the gate has closed.
        """
        if self._closing:
            raise Unavailable(Reason.DRAINING, "the replica is shutting down", retry_after_s=1.0)
        self._ongoing += 1
        self._idle.clear()
        try:
            yield
        except asyncio.CancelledError:
            self._metrics.departed(stage(), "cancelled")
            raise
        except DeadlinePassed:
            self._metrics.departed(stage(), "deadline")
            raise
        finally:
            self._ongoing -= 1
            if self._ongoing == 0:
                self._idle.set()

    async def close(self) -> None:
        """Let nothing more in, and wait for what is under way."""
        self._closing = True
        await self._idle.wait()
