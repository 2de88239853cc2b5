"""Who comes is heard before work goes on, so that a burst is turned away while it can still listen.

grpc.aio takes calls one after the other, each over several turns of the event loop. Turns that are
full of work make that slow: of three thousand calls at once, the last would be seen after all that
could be answered were, long after their deadlines. So the work on a call that was admitted waits
while calls keep coming close on each other, but for one of it for every few of them.
"""

import asyncio
import time
from collections import deque

# So many calls in so little time are a burst: more than are ever answered in it.
_BURST, _BURST_S = 32, 0.1
# It is over when none has come for so long: more than a call takes from gRPC's threads to here.
_LULL_S = 0.005
# Of a burst, the work on one call goes on for so many that come.
_SHARE = 16


class Arrivals:
    """The calls that come to one event loop."""

    def __init__(self) -> None:
        self._last: deque[float] = deque(maxlen=_BURST)
        self._count = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._watching: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Calls whose work waits."""
        return len(self._waiting)

    def came(self) -> None:
        """A call has come."""
        self._last.append(time.monotonic())
        self._count += 1
        if self._waiting and self._count % _SHARE == 0:
            self._release()

    async def lull(self) -> None:
        """Wait, in a burst, until it is over or it is this one's turn."""
        if not self._bursting():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch())
        await turn

    def _bursting(self) -> bool:
        return len(self._last) == _BURST and time.monotonic() - self._last[0] < _BURST_S

    async def _watch(self) -> None:
        while self._waiting:
            before = self._count
            await asyncio.sleep(_LULL_S)
            if self._count == before:
                for _ in range(len(self._waiting)):
                    self._release()

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its call was canceled
                turn.set_result(None)
                return
